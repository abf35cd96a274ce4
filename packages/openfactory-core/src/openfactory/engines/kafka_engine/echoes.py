"""The echoes of own writes: records that the feed of this process reads back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from openfactory.engines.dispatcher import has_plain_echo
from openfactory.engines.kafka_engine.fold import ASSET_TYPE_ID
from openfactory.events.decoding import FLAT_LENGTH, MAX_DEPTH, brackets_in
from openfactory.events.receipt import Receipt

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["Echoes"]

# Number of own writes of a partition to remember until they are read back, and the bytes that each may have. The others
# are decoded like any record.
_MAX_WRITES = 100_000
_MAX_BYTES = 1_024

# With so many reported writes that are still to be read back, the feed is behind, and would remain so.
_MANY_WRITES = 2_000


# The bytes and the receipt of an own write that has a delivery report.
_Written = tuple[object, Receipt]


class _ReadPartition:
    """A partition that the feed reads.

    Attributes:
        read: place of the last record that was read: its offset plus one, from the base of the log.
        reported: the highest place of a delivery report.
        written: by place, the own writes that were not read yet. Several threads note them, in any order.
    """

    __slots__ = ("read", "reported", "written")

    def __init__(self) -> None:
        self.read = self.reported = 0
        self.written: dict[int, _Written] = {}


class Echoes:
    """Recognizes the echoes of own writes by the offsets in their delivery reports, so that they are not decoded.

    A record is an echo if it has the offset of a report and the bytes that were written: if the topic is made anew, the
    same offset may belong to another record. Some events are never recognized, because the order of the log decides
    about more than the last value: commands, replies, claims, deregistrations, and events with further attributes, as
    an owner writes them. Nor are values that are nested too deeply to be decoded: nobody receives them.

    Args:
        take_reports: takes the delivery reports that have arrived, and returns at once.
    """

    def __init__(self, take_reports: Callable[[], object]) -> None:
        self._take_reports = take_reports
        self._partitions: dict[tuple[str, int], _ReadPartition] = {}

    def may_come(self, *, are_queued: bool) -> bool:
        """Return whether the feed may read own writes back.

        Args:
            are_queued: whether own writes have no delivery report yet.
        """
        return bool(self._partitions) and (are_queued or any(one.written for one in list(self._partitions.values())))

    def clear(self) -> None:
        """Forget all own writes, because another log is read now."""
        self._partitions.clear()

    def note(self, partition: tuple[str, int], place: int, receipt: Receipt, message: Message) -> None:
        """Note the delivery report of an own write.

        Args:
            place: offset of the record plus one, from the base of the log.
        """
        known, event = self._partitions.get(partition), receipt.event
        if known is None or place <= known.read:
            return
        known.reported = max(place, known.reported)
        value: Any = message.value() or b""
        if len(value) > FLAT_LENGTH and (len(value) > _MAX_BYTES or brackets_in(value) > MAX_DEPTH):
            return
        if event is not None and has_plain_echo(event) and event.id != ASSET_TYPE_ID:
            known.written[place] = value, receipt
            if len(known.written) > _MAX_WRITES:
                # The feed skips the others, or it does not read the partition any more: the newest are still to come.
                for earlier in list(known.written)[: _MAX_WRITES // 2]:
                    known.written.pop(earlier, None)

    def written_at(self, partition: tuple[str, int], place: int, message: Message) -> Receipt | None:
        """Return the own write whose echo a record is; None if it is no echo, or its report has not arrived yet."""
        known = self._partitions.get(partition)
        if known is None:
            known = self._partitions[partition] = _ReadPartition()
        if place > known.reported and place not in known.written:
            self._take_reports()
        known.read = max(place, known.read)  # records that have waited come late
        write = known.written.pop(place, None)
        return None if write is None or write[0] != message.value() else write[1]

    def run_at(self, partition: tuple[str, int], place: int, messages: Sequence[Message]) -> list[Receipt]:
        """Return the own writes whose echoes a run of records begins with.

        Args:
            place: the place of the first record.
            messages: consecutive records of the partition.
        """
        run: list[Receipt] = []
        known = self._partitions.get(partition)
        if known is None:
            return run
        written, has_taken = known.written, False
        for skipped in range(max(known.read + 1, place - _MAX_WRITES), place):  # by the feed, for their keys
            written.pop(skipped, None)
        known.read = max(place - 1, known.read)
        for number, message in enumerate(messages, place):
            if number not in written and not has_taken:
                has_taken = True
                self._take_reports()
            write = written.get(number)
            if write is None or write[0] != message.value():
                break
            run.append(write[1])
        return run

    def reported_from(self, partition: tuple[str, int], place: int) -> list[Receipt]:
        """Return the own writes whose delivery reports tell consecutive places, from one on."""
        run: list[Receipt] = []
        if (known := self._partitions.get(partition)) is not None:
            while (write := known.written.get(place + len(run))) is not None:
                run.append(write[1])
        return run

    def first_of_many(self, partition: tuple[str, int], place: int) -> Receipt | None:
        """Return the own write at a place, if the reading of many own writes is behind their reports."""
        known = self._partitions.get(partition)
        if known is None or len(known.written) < _MANY_WRITES:
            return None
        write = known.written.get(place)
        return None if write is None else write[1]

    def has_reports(self, partition: tuple[str, int]) -> bool:
        """Return whether own writes were reported whose echoes are not handled yet."""
        known = self._partitions.get(partition)
        return known is not None and bool(known.written)

    def forget(self, partition: tuple[str, int], place: int, count: int) -> None:
        """Forget consecutive own writes whose echoes are handled."""
        known = self._partitions[partition]
        known.read = max(place + count - 1, known.read)
        for number in range(place, place + count):
            known.written.pop(number, None)
