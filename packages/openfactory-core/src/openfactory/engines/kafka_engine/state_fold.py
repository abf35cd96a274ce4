"""The fold of one partition of the log, and the records of the state topic that its changes make."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.fold import ASSET_TYPE_ID, COMMAND_TAGS, Fold, is_deregistration
from openfactory.engines.kafka_engine.kept_state import KeptPartition
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.engines.kafka_engine.record_mark import RecordMark
from openfactory.engines.kafka_engine.records import Records
from openfactory.engines.kafka_engine.state_records import Key, Marker, StateRecord, encode_key, record_of
from openfactory.events.event import AssetEvent

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["StateFold"]


class StateFold:
    """The state of one partition of the log, up to an offset.

    The events of an asset whose partition is another one are kept apart: whether they count depends on the events in
    the partition of the asset, which only the reader of both knows.

    Args:
        partition: the partition.
        log: the identity of the log.
        positions: the numbers of partitions of the log.
        records: decoder for the records of the log.

    Attributes:
        offset: the offset up to which the state contains the log.
        pending: by the parts of a `Key`, the record of the log that has changed it; None is a tombstone.
    """

    def __init__(self, partition: Partition, log: str, positions: Positions, records: Records) -> None:
        self.offset = 0
        self.pending: dict[tuple[str | int | None, ...], Message | StateRecord | None] = {}
        self._partition = partition
        self._log = log
        self._positions = positions
        self._records = records
        self._own = Fold(notes_changes=False)
        self._strays = Fold(notes_changes=False)
        self._has_neighbours = positions.has_strays(partition.topic)
        self._last: Message | tuple[int, int] | None = None
        self._written_offset = -1

    def continue_from(self, kept: KeptPartition) -> None:
        """Take over the state that the topic has."""
        self.offset = self._written_offset = kept.marker.offset
        self._last = kept.marker.last
        own, strays = kept.split(self._is_stray)
        own.fill(self._own)
        strays.fill(self._strays)

    def begin(self, offset: int, keys: Collection[Key]) -> None:
        """Begin with an empty state at the first offset of the log; the records of another log become tombstones."""
        self.offset = offset
        self.pending.update((key.parts, None) for key in keys)

    @property
    def is_changed(self) -> bool:
        """Whether the topic lacks a part of the log up to the offset."""
        return self._written_offset != self.offset or bool(self.pending)

    @property
    def marker(self) -> Marker:
        """The marker for the present state."""
        last = self._last
        mark = last if last is None or isinstance(last, tuple) else RecordMark.of(last)
        return Marker(log=self._log, offset=self.offset, last=mark)

    def apply(self, message: Message) -> None:
        """Apply a record of the log."""
        offset = message.offset() or 0
        event = self._records.event_of(message, self._partition, offset)
        self.offset = offset + 1
        self._last = message
        if event is None:
            return
        if self._has_neighbours and self._is_stray(event.asset_uuid):
            trimmed = self._strays.apply(event.with_position(offset + 1))
        elif not self._own.counts(event):
            return
        elif is_deregistration(event):
            self._own.deregister(event)
            self.pending[event.asset_uuid,] = record_of(message).without_value()
            return
        elif (trimmed := self._own.apply(event)) is not None:  # a reader reduces strays when it merges them
            self.pending.update((_command_key(reduced), StateRecord.reduced(reduced)) for reduced in trimmed.reduced)
        self.pending[event.asset_uuid, event.id] = message
        if trimmed is not None:
            self.pending[event.asset_uuid, event.tag, offset] = message
            if trimmed.dropped is not None:
                self.pending[_command_key(trimmed.dropped)] = None

    def drop_gone(self, low: int) -> None:
        """Drop the deregistered assets of which the log has no record any more.

        Args:
            low: the first offset of the log.
        """
        for asset_uuid, deregistered in list(self._own.deregistered.items()):
            events = self._own.assets.get(asset_uuid, {})
            registered = events.get(ASSET_TYPE_ID)
            if registered is not None and (registered.position or 0) > deregistered:
                continue
            if max((deregistered, *(event.position or 0 for event in events.values()))) > low:
                continue
            keys: list[tuple[str | int | None, ...]] = [(asset_uuid,)]
            keys += ((asset_uuid, attribute_id) for attribute_id in events)
            for tag in COMMAND_TAGS:
                keys += (_command_key(event) for event in self._own.commands.get((asset_uuid, tag), ()))
            self.pending.update(dict.fromkeys(keys))
            self._own.drop(asset_uuid)

    def encoded(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield the keys and values that are to be written, without the marker."""
        for key, record in self.pending.items():
            if record is None or isinstance(record, StateRecord):
                yield encode_key(key), None if record is None else record.encode()
            else:
                yield encode_key(key), record_of(record).encode()

    def note_written(self) -> None:
        """Note that the records up to the offset are written."""
        self._written_offset = self.offset
        self.pending = {}

    def _is_stray(self, asset_uuid: str) -> bool:
        return self._positions.is_stray(asset_uuid, self._partition)


def _command_key(event: AssetEvent) -> tuple[str, str, int]:
    return event.asset_uuid, event.tag, (event.position or 1) - 1
