"""The consumer of a feed, and the partitions that are assigned to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.log_reader import Partition, new_consumer

if TYPE_CHECKING:
    from confluent_kafka import Consumer, TopicPartition

__all__ = ["FeedConsumer"]


class FeedConsumer:
    """A consumer of partitions, each from a position of the log.

    Only the thread that polls changes the assignment: during a `poll` of another thread, a change does not return.

    Args:
        connection: the cluster.

    Attributes:
        client: the consumer of librdkafka.
        base: the base of the positions.
        partitions: the assigned partitions, by the topic and the number that a record has.
    """

    def __init__(self, connection: BrokerConnection) -> None:
        self.base = 0
        self.partitions: dict[tuple[str | None, int | None], Partition] = {}
        self._connection = connection
        self.client = self._new_client()

    def begin_log(self, base: int) -> None:
        """Read a log with another base by another client.

        librdkafka believes what it knows of a former topic, such as the epoch of its leader, and waits for more.
        """
        if base != self.base:
            self.client.close()
            self.client, self.base = self._new_client(), base

    def look_up(self, topics: Iterable[str], seconds: float) -> None:
        """Ask for the leaders of some topics; those of new ones are unknown for minutes otherwise.

        Args:
            topics: names of the topics.
            seconds: seconds to wait for the answer to each.

        Raises:
            KafkaException: no broker has answered.
        """
        for topic in topics:
            self.client.list_topics(topic, timeout=seconds)

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read some partitions, each from its position, and no others."""
        self.client.assign([self._at(partition, position) for partition, position in positions.items()])
        self.partitions = {partition: partition for partition in positions}

    def change(self, positions: Mapping[Partition, int]) -> None:
        """Read some partitions and no others; those that are not assigned yet from their positions."""
        from confluent_kafka import TopicPartition

        kept = {key: place for key, place in self.partitions.items() if key in positions}
        if removed := [place for key, place in self.partitions.items() if key not in kept]:
            self.client.incremental_unassign([TopicPartition(*partition) for partition in removed])
            self.partitions = kept
        if added := [place for place in positions if place not in kept]:
            self.client.incremental_assign([self._at(place, positions[place]) for place in added])
            self.partitions = {partition: partition for partition in positions}

    def suspend(self, partition: Partition) -> None:
        """Read a partition no more until `resume`; it stays one of `partitions`."""
        from confluent_kafka import TopicPartition

        self.client.incremental_unassign([TopicPartition(*partition)])

    def resume(self, partition: Partition, position: int) -> None:
        """Read a partition from a position on, after `suspend`."""
        self.client.incremental_assign([self._at(partition, position)])

    def forget(self, partition: Partition) -> None:
        """Drop a partition that is suspended."""
        self.partitions = {key: place for key, place in self.partitions.items() if place != partition}

    def close(self) -> None:
        """Close the client."""
        self.client.close()

    def _new_client(self) -> Consumer:
        # A newly assigned partition waits for the end of the current fetch, which is this long when no records arrive.
        return new_consumer(self._connection, **{"fetch.wait.max.ms": 100})

    def _at(self, partition: Partition, position: int) -> TopicPartition:
        from confluent_kafka import TopicPartition

        return TopicPartition(*partition, position - self.base)
