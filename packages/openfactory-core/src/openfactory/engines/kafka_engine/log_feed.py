"""The consumer that follows the log, on threads of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import groupby
from typing import TYPE_CHECKING

from openfactory.concurrency import Lane
from openfactory.concurrency.ordered_executor import CollectedLanes
from openfactory.concurrency.turns import Turns, leave_turn
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.feed_consumer import FeedConsumer
from openfactory.engines.kafka_engine.feed_waits import FeedWaits
from openfactory.engines.kafka_engine.interest import Interest
from openfactory.engines.kafka_engine.log_reader import NO_GROUP_RIGHTS, LogReader, Partition
from openfactory.engines.kafka_engine.own_stretch import OwnStretch
from openfactory.exceptions import EngineClosedError, EngineUnavailableError
from openfactory.logs.outage import Outage

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = ["LogFeed"]


_logger = logging.getLogger("openfactory.kafka")

_POLL_SECONDS = 0.1

# Seconds for which records are collected after some of which none was wanted. More of them are on their way, and each
# time that the feed wakes up, the threads that compute wait for the interpreter.
_SKIP_SECONDS = 0.015

# After a change of the partitions, further changes are likely: for some seconds, the thread looks for them often.
_START_SECONDS = 3.0
_START_POLL_SECONDS = 0.01

# Seconds to wait for the leaders of the partitions before the start.
_CONNECT_SECONDS = 10.0

# Maximum number of records to deliver before other threads can acquire the lock.
_BATCH = 1_000

# Fewer own records than this are delivered one by one, which is as quick.
_RUN = 16

# A record that comes after such a pause, in seconds, mostly comes alone, if the one before did.
_SPACED_SECONDS = 0.0005

# After so few records, the thread that has received them runs their callbacks. More are handed to other threads one by
# one, so that the first callback does not wait for the last record.
_FEW_RECORDS = 8

# When this number of records arrives at once, but not a full batch, more are on their way. The feed pauses to take them
# together.
_BUSY_RECORDS = 64
_PAUSE_SECONDS = 0.005


class LogFeed:
    """Delivers every record of some partitions, in the order of each partition.

    Args:
        connection: the cluster.
        reader: source of the first and last offsets of a partition.
        lock: returns the lock under which records are delivered and positions move.
        on_record: called with partition, offset and record; it must return soon.
        on_lost: called with a partition that has lost unread records, after the position has moved past them.
        on_rewritten: called with a partition whose records before the position are others now, or gone from its end,
            without the lock; the function calls `restart`.
        interest: returns the records that are delivered; others are skipped by their keys.
        on_restart: called on the thread of the feed after `restart`, before any record is delivered. If it raises
            `EngineUnavailableError`, it is called again.
        on_idle: called now and then on the thread of the feed, without the lock.
        expects_own: returns whether records may arrive that this process has written.
        on_run: called under the lock with a partition, an offset and the consecutive records from there; it returns the
            number of those at the beginning that this process has written and that need not be delivered.
        on_reported: called under the lock with a partition and an offset; it passes the records from there that this
            process has written as its delivery reports tell, and returns their number, or None if the next record may
            have to be read.
        is_behind: returns whether many records from an offset on could be passed by `on_reported`.

    Attributes:
        positions: by partition, the offset after the last record, from the base; read it under the lock.
        counters: numbers of the records that were read, and of those among them that were skipped.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        reader: LogReader,
        lock: Callable[[], threading.RLock],
        on_record: Callable[[Partition, int, Message], None],
        on_lost: Callable[[Partition], None],
        on_rewritten: Callable[[Partition], object],
        interest: Callable[[], Interest],
        on_restart: Callable[[], object] = lambda: None,
        on_idle: Callable[[], object] = lambda: None,
        expects_own: Callable[[], bool] = lambda: False,
        on_run: Callable[[Partition, int, Sequence[Message]], int] = lambda *_: 0,
        on_reported: Callable[[Partition, int], int | None] = lambda *_: None,
        is_behind: Callable[[Partition, int], bool] = lambda *_: False,
    ) -> None:
        self.positions: dict[Partition, int] = {}
        self.counters = {"read": 0, "skipped": 0}
        self._connection = connection
        self._reader = reader
        self._lock = lock
        self._on_record = on_record
        self._expects_own = expects_own
        self._on_run = on_run
        self._on_reported = on_reported
        self._is_behind = is_behind
        self._stretch = OwnStretch()
        self._on_lost = on_lost
        self._on_rewritten = on_rewritten
        self._interest = interest
        self._on_restart = on_restart
        self._on_idle = on_idle
        self._waits = FeedWaits(lambda: None if self._restarted else self.positions, lambda: self._closed)
        self._closed = False
        self._consumer = FeedConsumer(connection)
        self._changed = threading.Event()  # set when other partitions are followed than the consumer is assigned to
        self._changed_at = self._idle_at = time.monotonic()
        self._is_skipping = False  # the last records were none that are wanted
        self._is_spaced = False  # the last record came alone
        self._last_message: Message | None = None  # the last record since the last tick
        self._has_noted = False  # the time of a record since the last tick
        self._restarted = False
        self._started = threading.Event()
        self._topics: tuple[str, ...] = ()
        self._turns = Turns("openfactory-log", self._begin, self._turn, self._consumer.close)
        self._outage = Outage(
            _logger, meanwhile="Reading is retried until it succeeds.", over="The log can be read again."
        )
        self._lost: set[Partition] = set()  # partitions that have lost records and whose position has not moved yet
        self._rewritten: set[Partition] = set()  # those of them where other records took the place of the lost

    def connect(self, *topics: str) -> None:
        """Start the thread of the feed, which asks for the leaders of some topics while `start` is awaited."""
        self._topics = topics
        self._turns.start()

    def start(self, offsets: Mapping[Partition, int]) -> None:
        """Start to follow partitions, each from an offset."""
        self.restart(offsets)
        self._restarted = bool(offsets)  # else there is nothing to assign
        if not self._turns.are_started:
            self.connect()
        self._started.set()

    def restart(self, offsets: Mapping[Partition, int]) -> None:
        """Follow other partitions or the same from other offsets; the caller owns the lock."""
        self.positions = dict(offsets)
        self._lost.clear()
        self._rewritten.clear()
        self._waits.begin_log()
        self._restarted = True  # records that the consumer has fetched already are dropped

    def follow(self, offsets: Mapping[Partition, int]) -> None:
        """Follow further partitions, each from an offset; the caller owns the lock."""
        for partition, offset in offsets.items():
            self.positions.setdefault(partition, offset)
        self.change()

    def unfollow(self, partitions: Iterable[Partition]) -> None:
        """Follow some partitions no more; the caller owns the lock."""
        for partition in partitions:
            self.positions.pop(partition, None)
            self._lost.discard(partition)
            self._rewritten.discard(partition)
        self.change()

    def change(self) -> None:
        """Adapt the consumer soon to the partitions in which wanted records are expected; the caller owns the lock."""
        self._changed.set()

    @property
    def followed(self) -> int:
        """Number of partitions that are read all the time."""
        return len(self._consumer.partitions)

    def _expected(self) -> dict[Partition, int]:
        """Return the positions of the partitions to assign; the others are read elsewhere."""
        expected = self._interest().expected
        return {place: position for place, position in self.positions.items() if place in expected}

    @property
    def is_restarted(self) -> bool:
        """Whether `restart` was called and its partitions are not followed yet."""
        return self._restarted

    def is_current(self) -> bool:
        """Return whether the calling thread delivers the records now."""
        return self._turns.is_in_loop()

    def has_passed(self, offsets: Mapping[Partition, int]) -> bool:
        """Return whether the records before some offsets are delivered."""
        return self._waits.has_passed(offsets)

    def wait_for(
        self, offsets: Mapping[Partition, int], readable: Mapping[Partition, int], stall_seconds: float
    ) -> bool:
        """Wait until the records before some offsets are delivered.

        Args:
            offsets: the offset after the last record to wait for, by partition.
            readable: the ends that the broker reports, by partition; an open transaction keeps them back.
            stall_seconds: seconds without any new record after which the wait ends. It ends sooner if an open
                transaction holds the records back, and at once if that is known from an earlier wait.

        Returns:
            Whether the records are delivered.
        """
        if self.is_current():
            return self.has_passed(offsets)  # called by a subscription callback: waiting would block the feed itself
        leave_turn()
        return self._waits.wait_for(offsets, readable, stall_seconds)

    def is_held_back(self) -> bool:
        """Return whether the last wait ended because a partition had no more readable records."""
        return self._waits.is_held_back()

    def close(self, timeout: float) -> None:
        """Stop the threads and close the consumer.

        Args:
            timeout: seconds to wait for the threads.
        """
        self._closed = True
        self._started.set()
        self._waits.wake()
        self._turns.stop(timeout)
        if not self._turns.are_started:
            self._consumer.close()

    def _begin(self) -> None:
        from confluent_kafka import KafkaException

        with suppress(KafkaException):  # the reader reports it
            self._consumer.look_up(self._topics, _CONNECT_SECONDS)
        self._started.wait()

    def _turn(self) -> list[Lane]:
        """Deliver the records that arrive next, and return the lanes with the callbacks of a few."""
        count = 0
        lanes: list[Lane] = []
        try:
            if self._restarted:
                self._on_restart()
                self._assign()
                self._waits.wake()
            if self._stretch.partition is not None:
                self._go_on_unread(self._stretch.partition)
            if self._changed.is_set() and self._stretch.partition is None:
                self._change_assignment()
            if (now := time.monotonic()) >= self._idle_at + _POLL_SECONDS:
                self._idle_at = now
                self._tick()
            messages = self._next_messages() if self._stretch.partition is None else []
            if count := len(messages):
                with CollectedLanes() if count <= _FEW_RECORDS else nullcontext(lanes) as lanes:
                    self._is_skipping = not self._deliver(messages)
                if count >= _RUN and len(self._consumer.partitions) == 1:
                    self._read_no_more_if_own()
            if self._lost and not lanes:
                for partition in list(self._lost):
                    self._skip_lost_records(partition)
        except (EngineUnavailableError, EngineClosedError) as error:
            if not self._closed:
                self._begin_outage(error)
                time.sleep(_POLL_SECONDS)
        except Exception:
            _logger.exception("The consumer of the log raised an exception. It is retried.")
            time.sleep(_POLL_SECONDS)
        if self._waits.count:
            self._waits.wake()
        elif _BUSY_RECORDS <= count < _BATCH and not self._is_skipping:
            time.sleep(_PAUSE_SECONDS)
        return lanes

    def _next_messages(self) -> list[Message]:
        """Return the records that have arrived, or that arrive soon."""
        consumer = self._consumer.client
        if self._is_skipping and not self._waits.count:
            time.sleep(_SKIP_SECONDS)  # a wait of the consumer would wake up for each record
            messages = consumer.consume(_BATCH, 0)
            self._is_skipping = bool(messages)
            return messages
        if not self._consumer.partitions:
            self._changed.wait(_POLL_SECONDS)
            first = consumer.poll(0)
        else:
            begun = time.monotonic()
            is_start = begun < self._changed_at + _START_SECONDS
            first = consumer.poll(_START_POLL_SECONDS if is_start else _POLL_SECONDS)
            if self._is_spaced and time.monotonic() >= begun + _SPACED_SECONDS:
                return [] if first is None else [first]
        if first is None:
            return []
        others = consumer.consume(_BATCH, 0)
        self._is_spaced = not others
        return [first, *others]

    def _tick(self) -> None:
        """Run the periodic work of the feed, also while no records arrive."""
        self._has_noted = False
        if (message := self._last_message) is not None:
            self._last_message = None
            self._connection.clocks.note_read(message)
        self._on_idle()

    def _assign(self) -> None:
        """Assign the partitions of the last `restart`; if the broker does not answer, the next round tries again."""
        from confluent_kafka import KafkaException

        with self._lock():
            positions, base, topics = self.positions, self._connection.positions.base, {p.topic for p in self.positions}
        self._consumer.begin_log(base)
        try:
            if base:
                self._consumer.look_up(topics, 1.0)
        except KafkaException as error:
            self._begin_outage(error.args[0].str())
            return
        with self._lock():
            if positions is self.positions:  # else there was another restart
                self._consumer.assign(self._expected())
                self._restarted = False
                self._stretch.end()

    def _change_assignment(self) -> None:
        """Assign the partitions that are followed since the last time, and unassign those that are not any more."""
        with self._lock():
            self._changed_at = time.monotonic()
            self._consumer.change(self._expected())
            self._changed.clear()  # last: after an error, the next round tries again

    def _deliver(self, arrived: list[Message]) -> bool:
        """Deliver the wanted records of a batch, and return whether there was one."""
        messages = self._pass_own(arrived) if len(arrived) >= _RUN and self._expects_own() else arrived
        if not messages:
            return True
        interest = self._interest()
        changes = interest.changes
        wanted = messages if len(messages) == 1 else self._wanted(messages, interest)
        is_filtered = wanted is not messages
        with self._lock():
            if interest.changes != changes:
                wanted = messages  # another thread has asked for an asset meanwhile
            count = len(messages) - len([message for message in wanted if message.error() is not None])
            handed_over = self._deliver_wanted(wanted, messages, interest)
            self.counters["read"] += count
            self.counters["skipped"] += count - handed_over
            if self._restarted:
                return True
            newest = messages[-1] if messages[-1].error() is None else _newest_of(messages)
            if is_filtered and newest is not None:
                self._pass(messages, newest)
        if newest is not None:
            self._on_answer()  # at once: a moment later, the broker may be away
            self._note_newest(newest, now=handed_over > 0)
        return handed_over > 0 or not count

    def _note_newest(self, message: Message, *, now: bool) -> None:
        """Note the time of the newest record, now or at the next tick; once in a tick is enough."""
        if now and not self._has_noted:
            self._has_noted, self._last_message = True, None
            self._connection.clocks.note_read(message)
        else:
            self._last_message = message

    def _deliver_wanted(self, wanted: list[Message], messages: list[Message], interest: Interest) -> int:
        """Deliver the wanted records of a batch, and return their number. The caller owns the lock."""
        count, changes = 0, interest.changes
        for message in wanted:
            if self._deliver_one(message, interest):
                count += 1
                if interest.changes != changes and wanted is not messages:
                    # A callback has asked for an asset: its records may be among those that were left out.
                    return count + self._deliver_wanted(messages, messages, interest)
        return count

    def _wanted(self, messages: list[Message], interest: Interest) -> list[Message]:
        """Return the records of a batch that may be wanted, and all errors; the batch itself if all may be."""
        keys, whole = interest.keys, interest.whole
        if whole.keys() >= self._consumer.partitions.keys():
            return messages
        if not whole:  # mostly, nearly all are skipped here; an error has no key
            return [message for message in messages if (key := message.key()) is None or key in keys]
        return [
            message
            for message in messages
            if (key := message.key()) is None or key in keys or _place_of(message) in whole
        ]

    def _pass_own(self, messages: list[Message]) -> list[Message]:
        """Pass the runs of records that this process has written and has not to hear, and return the other records."""
        rest: list[Message] = []
        for number, group in groupby(messages, lambda message: message.partition()):
            run = list(group)
            partition = self._consumer.partitions.get((run[0].topic(), number))
            rest += run[self._passed(partition, run) if len(run) >= _RUN else 0 :]
        return rest

    def _passed(self, partition: Partition | None, run: list[Message]) -> int:
        """Return how many records at the beginning of a run were passed."""
        start, end = run[0].offset() or 0, run[-1].offset() or 0
        if partition is None or end - start + 1 != len(run):
            return 0  # records are missing in between
        with self._lock():
            offset = self._consumer.base + start
            if self._closed or self._restarted or self.positions.get(partition) != offset:
                return 0
            count = self._on_run(partition, offset, run)
            self.positions[partition] = offset + count
            self.counters["read"] += count
        self._stretch.note(len(run), count)
        if count:
            self._on_answer()
            self._note_newest(run[count - 1], now=True)
        return count

    def _read_no_more_if_own(self) -> None:
        """Stop reading the only partition, if only this process seems to write there."""
        [partition] = self._consumer.partitions.values()
        if not (self._stretch.is_due or self._is_behind(partition, self.positions.get(partition, 0))):
            return
        with self._lock():
            if not (self._waits.count or self._restarted or self._changed.is_set() or self._lost):
                self._consumer.suspend(partition)
                self._stretch.begin(partition)

    def _go_on_unread(self, partition: Partition) -> None:
        """Pass the reported records of a partition that is not read, or read it again."""
        goes_on = False
        try:
            goes_on = self._pass_reported(partition)
        finally:
            if not goes_on:
                self._read_again(partition)

    def _read_again(self, partition: Partition) -> None:
        """Read a partition from its position on, unless it is followed no more."""
        with self._lock():
            self._stretch.end()
            if self._restarted:
                return  # all is assigned anew
            if partition in self.positions:
                self._consumer.resume(partition, self.positions[partition])
            else:
                self._consumer.forget(partition)
        self._is_spaced = True  # the record of another process mostly comes alone

    def _pass_reported(self, partition: Partition) -> bool:
        """Pass the own records that are reported since the last time, and return whether to go on so."""
        self._stretch.wait()
        with self._lock():
            if self._waits.count or self._closed or self._restarted or self._changed.is_set():
                return False
            passed = self._on_reported(partition, self.positions[partition])
            self.positions[partition] += passed or 0
        return self._stretch.goes_on(passed, are_expected=self._expects_own())

    def _pass(self, messages: list[Message], newest: Message) -> None:
        """Move the positions behind the last records of a batch. The caller owns the lock."""
        if len(self._consumer.partitions) == 1 and _place_of(newest) in self._consumer.partitions:
            last = [newest]  # mostly: without a look at each record
        else:
            last = [*{_place_of(message): message for message in messages}.values()]
        for message in last:
            partition = self._consumer.partitions.get(_place_of(message))
            if partition is not None and partition in self.positions and message.error() is None:
                end = self._consumer.base + (message.offset() or 0) + 1
                self.positions[partition] = max(self.positions[partition], end)

    def _deliver_one(self, message: Message, interest: Interest) -> bool:
        """Deliver a record if it is wanted, and return whether it is. The caller owns the lock."""
        partition = self._consumer.partitions.get((message.topic(), message.partition()))
        if self._closed or self._restarted:
            return False
        if (error := message.error()) is not None:
            self._handle_error(partition, message, error)
            return False
        offset = self._consumer.base + (message.offset() or 0)
        if partition is None or offset < self.positions.get(partition, 0):
            return False  # fetched before the partition was let go and followed again
        is_wanted = interest.wants(partition, message.key())
        if is_wanted:
            if partition in self.positions:
                self.positions[partition] = offset  # skipped records before it are past, if its callback looks there
            self.hand_over(partition, offset, message)
        if partition in self.positions and not self._restarted:
            self.positions[partition] = offset + 1
        return is_wanted

    def hand_over(self, partition: Partition, offset: int, message: Message) -> None:
        """Deliver a record; the caller owns the lock."""
        try:
            self._on_record(partition, offset, message)
        except Exception:
            _logger.exception(
                "The record at %s, partition %d, offset %d raised an exception and is skipped.",
                partition.topic,
                partition.number,
                offset,
            )

    def _handle_error(self, partition: Partition | None, message: Message, error: KafkaError) -> None:
        if partition is not None and error.name() == "_PARTITION_EOF":
            end = self._consumer.base + (message.offset() or 0)
            # Transaction markers have offsets, but the consumer does not return them as records.
            self.positions[partition] = max(self.positions.get(partition, end), end)
            self._on_answer()
        elif partition is not None and error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"):
            self._lost.add(partition)
            if error.name() == "_LOG_TRUNCATION":
                self._rewritten.add(partition)
        elif error.name() != NO_GROUP_RIGHTS:
            self._begin_outage(error.str())

    def _on_answer(self) -> None:
        self._connection.on_answer()
        if self._outage.reason and not self._lost:
            self._outage.end()

    def _begin_outage(self, reason: object) -> None:
        self._outage.begin(f"The log cannot be read ({reason}).")

    def _skip_lost_records(self, partition: Partition) -> None:
        """Continue after the records that the log has lost."""
        low, high = self._reader.bounds([partition])[partition]
        with self._lock():
            position = self.positions.get(partition)
        if position is None:
            return  # nothing of the partition is needed any more
        if position > high or partition in self._rewritten:
            self._on_rewritten(partition)
            return
        start = max(position, low)
        _logger.warning(
            "%s, partition %d, was read up to offset %d and has offsets %d to %d now. Reading continues at %d. "
            "Set a longer retention to keep more of the log: `ofa setup-kafka --retention-hours`.",
            partition.topic,
            partition.number,
            *(offset - self._consumer.base for offset in (position, low, high, start)),
        )
        self._consumer.suspend(partition)  # after an offset error, the consumer cannot seek
        self._consumer.resume(partition, start)
        with self._lock():
            if partition in self._lost:  # else the log is another one now
                self._lost.discard(partition)
                self.positions[partition] = start
                self._on_lost(partition)


def _newest_of(messages: list[Message]) -> Message | None:
    """Return the last of some messages that is a record."""
    return next((message for message in reversed(messages) if message.error() is None), None)


def _place_of(message: Message) -> tuple[str | None, int | None]:
    return message.topic(), message.partition()
