"""Reading the state topic: the state of a partition of the log at an offset, by one record for each attribute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import msgspec

from openfactory.engines.kafka_engine.fold import ASSET_TYPE_ID, Fold
from openfactory.engines.kafka_engine.log_reader import LogReader
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.engines.kafka_engine.state_records import (
    MARKER_KEY,
    KeptEvent,
    Key,
    Marker,
    read_deregistration,
    read_event,
)
from openfactory.exceptions import InvalidEventError

__all__ = ["KeptPartition", "KeptState"]

_logger = logging.getLogger("openfactory.kafka")

# Number of records at the end of a partition, among which there is a marker: a transaction ends with it. More than one
# is needed, because the ends of transactions have offsets too.
_LAST_RECORDS = 20


class KeptPartition(NamedTuple):
    """The state of a partition of the log, or of some assets of it.

    Attributes:
        marker: the offset up to which the state contains the log, as the broker counts; a reader continues there.
        events: the last event of each attribute, in the order of the log.
        commands: the latest commands and replies, in the order of the log.
        deregistered: by asset UUID, the position of the deregistration, and the time of its record in milliseconds.
    """

    marker: Marker
    events: list[KeptEvent]
    commands: list[KeptEvent]
    deregistered: Mapping[str, tuple[int, int]]

    def until(self, end: int) -> KeptPartition:
        """Return the state without the events from an offset on, which a reader still has to read."""
        return self._replace(
            events=[kept for kept in self.events if _position(kept) <= end],
            commands=[kept for kept in self.commands if _position(kept) <= end],
            deregistered={uuid: place for uuid, place in self.deregistered.items() if place[0] <= end},
        )

    def fill(self, fold: Fold) -> None:
        """Fill an empty fold, or a fold without the assets of this partition."""
        for event, _ in self.events:
            fold.set_last(event)
        for event, _ in self.commands:
            fold.commands[event.asset_uuid, event.tag].append(event)
        fold.deregistered.update({asset_uuid: position for asset_uuid, (position, _) in self.deregistered.items()})
        fold.changed_registrations.update(self.deregistered)

    def split(self, is_stray: Callable[[str], bool]) -> tuple[KeptPartition, KeptPartition]:
        """Return the state of the assets that belong to the partition, and that of the others.

        Args:
            is_stray: returns whether an asset belongs to another partition.
        """
        own, strays = (
            self._replace(
                events=[kept for kept in self.events if is_stray(kept.event.asset_uuid) == of_strays],
                commands=[kept for kept in self.commands if is_stray(kept.event.asset_uuid) == of_strays],
                deregistered={uuid: place for uuid, place in self.deregistered.items() if is_stray(uuid) == of_strays},
            )
            for of_strays in (False, True)
        )
        return own, strays

    def times(self) -> dict[tuple[str, str], int]:
        """Return the time of the last record of each attribute, in milliseconds since 1970."""
        times = {(event.asset_uuid, event.id): milliseconds for event, milliseconds in self.events}
        for asset_uuid, (_, milliseconds) in self.deregistered.items():
            key = (asset_uuid, ASSET_TYPE_ID)
            times[key] = max(milliseconds, times.get(key, 0))
        return times


class KeptState:
    """Reader for the state topic of a log.

    Args:
        reader: reader for the topics.
        positions: the positions of the log.
        topic: name of the state topic.
        partitions: number of its partitions; 0 if the topic does not exist.
        log: the identity of the log.

    Attributes:
        log: the identity of the log; the state of another log is ignored.
    """

    def __init__(self, reader: LogReader, positions: Positions, topic: str, partitions: int, log: str) -> None:
        self._reader = reader
        self._positions = positions
        self._topic = topic
        self._partitions = partitions
        self.log = log

    @property
    def exists(self) -> bool:
        """Whether there was a state topic when this object was made."""
        return self._partitions > 0

    def read(self, number: int, keys: Collection[str] | None = None) -> KeptPartition | None:
        """Return the state of a partition of the log.

        Args:
            number: the partition.
            keys: the UUIDs of the assets; the records of others are not decoded. None reads all assets.

        Returns:
            The state, or None if the topic does not have it, so that the partition is read from its start.

        Raises:
            EngineUnavailableError: the broker does not answer.
        """
        marker, records = self._latest(number, None if keys is None else frozenset(keys))
        if marker is None:
            return None
        base = self._positions.base
        events: list[KeptEvent] = []
        commands: list[KeptEvent] = []
        deregistered: dict[str, tuple[int, int]] = {}
        for key, value in records.items():
            try:
                if key.id is None:
                    deregistered[key.asset_uuid] = read_deregistration(value, base)
                else:
                    (events if key.offset is None else commands).append(read_event(key, value, base))
            except (msgspec.MsgspecError, InvalidEventError) as error:
                _logger.warning(
                    "The record %r of %s, partition %d, is not readable: %s. The state there is not used, and the log "
                    "is read from its start. Restart the state keeper, which writes it anew.",
                    key,
                    self._topic,
                    number,
                    error,
                )
                return None
        events.sort(key=_position)
        commands.sort(key=_position)
        return KeptPartition(marker, events, commands, deregistered)

    def keys(self, number: int) -> Collection[Key]:
        """Return the keys of all records of a partition, also those of another log; without the marker."""
        return self._latest(number, None)[1].keys()

    def lag(self, log: Collection[Partition]) -> int:
        """Return the number of records in some partitions of the log that the state lacks.

        Raises:
            EngineUnavailableError: the broker does not answer.
        """
        topic = [Partition(self._topic, number) for number in range(self._partitions)]
        bounds = self._reader.bounds([*topic, *log])
        offsets = {partition.number: self._newest_offset(partition, *bounds[partition]) for partition in topic}
        base = self._positions.base
        return sum(
            max(high - max(low, base + offsets.get(partition.number, 0)), 0)
            for partition, (low, high) in ((partition, bounds[partition]) for partition in log)
        )

    def _newest_offset(self, partition: Partition, low: int, high: int) -> int:
        """Return the offset up to which the state contains a partition of the log; 0 for another log."""
        offset = 0
        for _, message in self._reader.read_part(partition, max(low, high - _LAST_RECORDS), high):
            if message.key() == MARKER_KEY:
                marker = Marker.read(message.value(), self.log)
                offset = 0 if marker is None else marker.offset
        return offset

    def _latest(self, number: int, wanted: frozenset[str] | None) -> tuple[Marker | None, dict[Key, bytes]]:
        """Return the marker of a partition, and the last value of each key of the wanted assets."""
        if number >= self._partitions:
            return None, {}
        partition = Partition(self._topic, number)
        marker: bytes | None = None
        latest: dict[bytes, bytes] = {}
        keys: dict[bytes, Key] = {}
        start, end = self._reader.bounds([partition])[partition]
        for _, message in self._reader.read_part(partition, start, end):
            raw, value = message.key(), message.value()
            if raw == MARKER_KEY:
                marker = value
            elif not isinstance(raw, bytes):
                continue
            elif value is None:
                latest.pop(raw, None)
            elif raw in latest:
                latest[raw] = value
            elif (key := _wanted_key(raw, wanted)) is not None:
                keys[raw], latest[raw] = key, value
        return Marker.read(marker, self.log), {keys[raw]: value for raw, value in latest.items()}


def _wanted_key(raw: bytes, wanted: frozenset[str] | None) -> Key | None:
    """Return the key of a record, or None if it is of another asset or another program."""
    try:
        key = Key.read(raw)
    except msgspec.MsgspecError:
        return None
    return key if wanted is None or key.asset_uuid in wanted else None


def _position(kept: KeptEvent) -> int:
    return kept.event.position or 0
