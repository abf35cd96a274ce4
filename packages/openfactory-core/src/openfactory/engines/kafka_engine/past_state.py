"""The state of assets at an offset of the log, computed from the records before it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.interest import key_of_asset
from openfactory.engines.kafka_engine.kept_state import KeptState
from openfactory.engines.kafka_engine.log_reader import LogReader
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.engines.kafka_engine.records import Records
from openfactory.engines.kafka_engine.replay import Replay

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["PastState"]

# Number of the newest records of a partition among which assets are looked for that are nowhere else.
_NEWEST_RECORDS = 50_000

# Number of records between two looks at whether they are still needed.
_RECORDS_BETWEEN_LOOKS = 100


class PastState:
    """Reads the state of assets from parts of the log.

    Args:
        reader: reader for the log.
        records: decoder for the records of the log.
        positions: the positions of the log.
        topic: the topic of all events.
        kept: the topic of a state keeper, from which the log is continued if it is there.
    """

    def __init__(self, reader: LogReader, records: Records, positions: Positions, topic: str, kept: KeptState) -> None:
        self._reader = reader
        self._records = records
        self._positions = positions
        self._topic = topic
        self._kept = kept

    def read(
        self,
        parts: Mapping[Partition, tuple[int, int]],
        asset_uuids: Collection[str] | None,
        replay: Replay | None = None,
        *,
        is_needed: Callable[[], bool] = lambda: True,
        on_last: Callable[[Partition, Message], object] | None = None,
    ) -> Replay:
        """Return the state of some assets, or of all with None, after some parts of the log.

        Args:
            parts: by partition, the first offset and the offset after the last record.
            asset_uuids: the assets.
            replay: the state before these parts, which is extended; by default, there is none.
            is_needed: returns whether the state is still needed. Otherwise, a part of it is returned.
            on_last: called with each partition and its last record in the part, if there is one.

        Raises:
            EngineUnavailableError: the broker does not send the records.
        """
        replay = Replay(self._positions) if replay is None else replay
        keys = None if asset_uuids is None else frozenset(map(key_of_asset, asset_uuids))
        for partition, (start, end) in parts.items():
            message = None
            is_of_events = partition.topic == self._topic
            if is_of_events and start == self._positions.base:
                start = self._begin_with_kept(replay, partition, end, asset_uuids)
            has_strays = self._positions.has_strays(partition.topic)
            records = self._reader.read(partition, start, end, keys if is_of_events else None)
            for number, (offset, message) in enumerate(records):
                if not number % _RECORDS_BETWEEN_LOOKS and not is_needed():
                    return replay
                if is_of_events:
                    event = self._records.event_of(message, partition, offset)
                    if event is not None:
                        if has_strays:
                            replay.add(event, partition, message.timestamp()[1])
                        else:
                            replay.add_own(event)
                elif (place := self._records.place_of(message, partition, offset)) is not None:
                    replay.fold.apply_place(*place)
            if message is not None and on_last is not None:
                on_last(partition, message)
        replay.end({partition: end for partition, (_, end) in parts.items()})
        return replay

    def _begin_with_kept(
        self, replay: Replay, partition: Partition, end: int, asset_uuids: Collection[str] | None
    ) -> int:
        """Take the state of a partition from the state keeper, and return the offset from which the log continues it.

        A keeper that is ahead of the part to read has events after its end; they are left to those who read on.
        """
        kept = self._kept.read(partition.number, asset_uuids)
        if kept is None or not self._reader.is_continued(partition, kept.marker.offset, kept.marker.mark):
            return self._positions.base
        replay.begin(kept.until(end), partition)
        return min(self._positions.base + kept.marker.offset, end)

    def look_for(self, asset_uuids: Collection[str], partitions: Iterable[Partition]) -> None:
        """Look for assets in the newest records of some partitions; `Positions` notes where their events are."""
        parts = {
            partition: (max(low, high - _NEWEST_RECORDS), high)
            for partition, (low, high) in self._reader.bounds(partitions).items()
        }
        self.read(parts, asset_uuids)
