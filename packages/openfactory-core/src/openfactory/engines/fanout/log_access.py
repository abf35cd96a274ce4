"""The log, as the live events from NATS need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from openfactory.engines.kafka_engine.log_reader import LogReader, Partition
from openfactory.events.event import AssetEvent

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["LogAccess"]


class LogAccess(NamedTuple):
    """Access to a log.

    Attributes:
        topic: name of the topic with the events.
        reader: reads the log; only the owner of this object uses it, and closes it.
        event_of: returns the event of a record, or None if the record is not an event.
        partitions: returns all partitions of the log.
        places_of: returns the partitions in which the events of an asset are expected.
        base: returns the base of the positions in the log.
        committed: returns the offsets that a consumer group has committed, by number of the partition.
    """

    topic: str
    reader: LogReader
    event_of: Callable[[Message, Partition, int], AssetEvent | None]
    partitions: Callable[[], list[Partition]]
    places_of: Callable[[str], list[Partition]]
    base: Callable[[], int]
    committed: Callable[[str], Mapping[int, int]]
