"""Positions of events in a log that may be made anew while it is read.

A position is an offset plus one, counted from the base of the log. Each log that takes the place of another has a
higher base, so all its positions are higher than those of the former log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from openfactory.engines.kafka_engine.partitioning import partition_of, usual_partitions_of

__all__ = ["Partition", "Positions"]

# Distance between the bases of two logs: more than a log has offsets.
_STEP = 1 << 42


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Positions:
    """The way from offsets to positions, shared by all readers and writers of one log.

    Attributes:
        base: the position before the first event of the log: 0 for the log that was there at the start.
        counts: by topic, the number of partitions.
        passed: returns the offset up to which a partition was read, from the base.
        strays: by asset, the partitions other than its own in which a reader of this process has seen its events.
    """

    def __init__(self) -> None:
        self.base = 0
        self.counts: Mapping[str, int] = {}
        self.passed: Callable[[Partition], int] = lambda partition: 0  # noqa: ARG005
        self.strays: defaultdict[str, set[Partition]] = defaultdict(set)
        self._former_counts: defaultdict[str, set[int]] = defaultdict(set)  # before partitions were added

    @property
    def log(self) -> int:
        """Number of logs that this log has replaced."""
        return self.base // _STEP

    def begin_log(self, counts: Mapping[str, int]) -> None:
        """Place the positions of a new log, with its partitions, after those of the present one."""
        self.base += _STEP
        for topic, count in self.counts.items():
            if count < counts.get(topic, 0):
                self._former_counts[topic].add(count)
            elif count > counts.get(topic, 0):
                self._former_counts.pop(topic, None)
        self.counts = dict(counts)
        self.strays.clear()

    def has_strays(self, topic: str) -> bool:
        """Return whether events of a topic may be outside of their asset's partition."""
        return self.counts.get(topic, 1) > 1

    def is_stray(self, asset_uuid: str, partition: Partition) -> bool:
        """Return whether an event is in another partition than its asset's, and note where it is.

        It was written before partitions were added, or by a program that chooses partitions differently.
        """
        count = self.counts.get(partition.topic, 1)
        if count == 1 or partition_of(asset_uuid, count) == partition.number:
            return False
        self.strays[asset_uuid].add(partition)
        return True

    def partitions_of(self, asset_uuid: str, topic: str) -> list[Partition]:
        """Return the partitions in which an asset's events may be.

        They are its own, that of librdkafka, those from before partitions were added, and those of strays.
        """
        counts = [self.counts.get(topic, 1), *sorted(self._former_counts.get(topic, ()))]
        usual = [Partition(topic, number) for count in counts for number in usual_partitions_of(asset_uuid, count)]
        return list(dict.fromkeys([*usual, *sorted(self.strays.get(asset_uuid, ()))]))

    def expected_of(self, asset_uuid: str, topic: str) -> list[Partition]:
        """Return the partitions in which events of an asset are expected: its own, and those of strays."""
        return [self.own_partition(asset_uuid, topic), *self.strays.get(asset_uuid, ())]

    def of_record(self, asset_uuid: str, partition: Partition, offset: int) -> int:
        """Return the position of an asset's event; a stray has that of the newest event in the asset's partition.

        Args:
            offset: offset of the record, from the base.
        """
        if not self.is_stray(asset_uuid, partition):
            return offset + 1
        return max(self.passed(self.own_partition(asset_uuid, partition.topic)), self.base)

    def own_partition(self, asset_uuid: str, topic: str) -> Partition:
        """Return the partition in which OpenFactory writes the events of an asset."""
        return Partition(topic, partition_of(asset_uuid, self.counts.get(topic, 1)))
