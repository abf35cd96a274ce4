"""The state after a part of the log whose partitions are read one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from openfactory.engines.kafka_engine.fold import COMMAND_TAGS, Fold
from openfactory.engines.kafka_engine.kept_state import KeptPartition
from openfactory.engines.kafka_engine.positions import Partition, Positions
from openfactory.events.event import AssetEvent

__all__ = ["Replay"]


class Replay:
    """Computes a state from events of several partitions, which arrive in the order of each partition.

    The events in the partition of their asset are applied at once. A stray waits until the end, where the times of the
    records decide whether it is newer than the last event of its attribute.

    Args:
        positions: the positions of the log.
        fold: the state before the first event; by default, an empty one.

    Attributes:
        fold: the state.
        newest: by asset, the position of its newest event, also of one that does not count.
    """

    def __init__(self, positions: Positions, fold: Fold | None = None) -> None:
        self.fold = Fold(notes_changes=False) if fold is None else fold
        self.newest: dict[str, int] = {}
        self._positions = positions
        self._strays: dict[tuple[str, ...], tuple[int, Partition, AssetEvent]] = {}  # each with the time of its record
        self._times: dict[tuple[str, str], int] = {}  # of the last event of each attribute

    def begin(self, kept: KeptPartition, partition: Partition) -> None:
        """Take the state of a partition that its events continue."""
        own, strays = kept.split(lambda asset_uuid: self._positions.is_stray(asset_uuid, partition))
        own.fill(self.fold)
        self._times.update(own.times())
        places = [(event.asset_uuid, event.position or 0) for event, _ in own.events]
        for asset_uuid, position in (*places, *((uuid, place) for uuid, (place, _) in own.deregistered.items())):
            self.newest[asset_uuid] = max(position, self.newest.get(asset_uuid, 0))
        for event, milliseconds in (*strays.events, *strays.commands):
            self._hold(event, partition, milliseconds)

    def add(self, event: AssetEvent, partition: Partition, milliseconds: int) -> None:
        """Take the next event of a partition, with the time of its record."""
        if self._positions.is_stray(event.asset_uuid, partition):
            self._hold(event, partition, milliseconds)
        elif self.add_own(event):
            self._times[event.asset_uuid, event.id] = milliseconds

    def add_own(self, event: AssetEvent) -> bool:
        """Take the next event of its asset's own partition, and return whether it counts."""
        self.newest[event.asset_uuid] = event.position or 0
        if event.attributes is not None and not self.fold.counts(event):
            return False
        self.fold.take_counting(event)
        return True

    def _hold(self, event: AssetEvent, partition: Partition, milliseconds: int) -> None:
        """Keep a stray until the end, in place of an older one of its attribute."""
        key = (event.asset_uuid, event.id)
        stray = (*key, event.timestamp) if event.tag in COMMAND_TAGS else key
        if stray not in self._strays or self._strays[stray][0] <= milliseconds:
            self._strays[stray] = (milliseconds, partition, event)

    def end(self, ends: Mapping[Partition, int]) -> None:
        """Apply the strays, after the last event.

        Args:
            ends: by partition, the offset up to which it was read; a stray has it as its position.
        """
        for milliseconds, partition, event in sorted(self._strays.values(), key=itemgetter(0)):
            if self._times.get((event.asset_uuid, event.id), 0) <= milliseconds:
                own = self._positions.own_partition(event.asset_uuid, partition.topic)
                self.add_own(event.with_position(ends.get(own, event.position or 0)))
        self._strays.clear()
        self._times.clear()
