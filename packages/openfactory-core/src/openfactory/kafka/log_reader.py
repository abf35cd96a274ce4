"""Looking into the log beside following it: where it ends, where it stood at a time, and pieces of it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from openfactory.kafka.connection import BrokerConnection

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["LogReader", "Partition", "key_of", "new_consumer"]

# How long a broker may take to answer a question, and how long reading may stand still, in seconds.
_ANSWER_SECONDS = 5.0
_STALL_SECONDS = 10.0

_BATCH = 1_000

# What a broker says of a topic that was made a moment ago, or whose leader changes.
_PASSING = ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION")
_PAUSE_SECONDS = 0.05


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


def new_consumer(connection: BrokerConnection, **properties: Any) -> Consumer:
    """A consumer outside of all consumer groups, which is told what to read."""
    from confluent_kafka import Consumer

    return Consumer(
        connection.configuration(
            **{
                "group.id": f"openfactory-{uuid.uuid4().hex}",  # librdkafka wants one; nothing is ever committed
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "allow.auto.create.topics": False,
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 100,
                **properties,
            }
        )
    )


class LogReader:
    """Answers questions about topics; from any thread, one after the other."""

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        # A broker answers one request of a connection after the other: behind a fetch that waits, all others wait too.
        self._consumer = new_consumer(connection, **{"fetch.wait.max.ms": 5})

    def cluster(self) -> str:
        """The id of the cluster."""
        return str(getattr(self._metadata(), "cluster_id", ""))

    def topics(self) -> dict[str, int]:
        """How many partitions each topic has."""
        return {name: len(topic.partitions) for name, topic in self._metadata().topics.items()}

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition ends now: the offset of the next record."""
        return {partition: high for partition, (_, high) in self.bounds(partitions).items()}

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Where each partition begins and ends now."""
        from confluent_kafka import TopicPartition

        found = {}
        for partition in partitions:
            asked = TopicPartition(partition.topic, partition.number)
            found[partition] = self._ask(self._consumer.get_watermark_offsets, asked, timeout=_ANSWER_SECONDS)
        return found

    def offsets_at(self, partitions: Iterable[Partition], seconds: float) -> dict[Partition, int]:
        """Where each partition stood at a time, in seconds since 1970: the first record from then on."""
        from confluent_kafka import TopicPartition

        asked = [TopicPartition(one.topic, one.number, max(int(seconds * 1_000), 0)) for one in partitions]
        found = self._ask(self._consumer.offsets_for_times, asked, timeout=_ANSWER_SECONDS)
        at = {Partition(one.topic, one.partition): one.offset for one in found}
        ends = self.ends(partition for partition, offset in at.items() if offset < 0)  # nothing is as new as that
        return at | ends

    def read(self, partition: Partition, start: int, end: int) -> Iterator[Message]:
        """The records from one offset up to another; those that are no longer kept are left out.

        Raises:
            EngineUnavailableError: the broker gives no more.
        """
        if start >= end:
            return
        with self._lock:
            low, high = self._consumer.get_watermark_offsets(_topic_partition(partition), timeout=_ANSWER_SECONDS)
            yield from self._read(partition, max(start, low), min(end, high))

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._consumer.close()

    def _read(self, partition: Partition, start: int, end: int) -> Iterator[Message]:
        if start >= end:
            return
        self._consumer.assign([_topic_partition(partition, start)])
        try:
            deadline = time.monotonic() + _STALL_SECONDS
            while True:
                first = self._consumer.poll(0.1)
                if first is None:
                    if time.monotonic() >= deadline:
                        raise self._connection.unavailable(
                            f"it gave nothing of {partition.topic} for {_STALL_SECONDS:g} s"
                        )
                    continue
                deadline = time.monotonic() + _STALL_SECONDS
                for message in (first, *self._consumer.consume(_BATCH, 0)):
                    if (error := message.error()) is not None:
                        if error.name() == "_PARTITION_EOF":
                            return
                        raise self._connection.unavailable(error.str())
                    offset = message.offset()
                    assert offset is not None
                    if offset >= end:
                        return
                    yield message
                    if offset == end - 1:
                        return
        finally:
            self._consumer.unassign()

    def _metadata(self) -> Any:
        return self._ask(self._consumer.list_topics, timeout=_ANSWER_SECONDS)

    def _ask(self, question: Any, *arguments: Any, **keywords: Any) -> Any:
        from confluent_kafka import KafkaException

        if self._connection.trouble:
            keywords["timeout"] = 1.0  # it is not waited for long what is known to be away
        deadline = time.monotonic() + keywords["timeout"]
        answer = None
        while answer is None:
            try:
                answer = question(*arguments, **keywords)
            except KafkaException as error:
                reason = error.args[0]
                if reason.name() not in _PASSING or time.monotonic() >= deadline:
                    raise self._connection.unavailable(reason.str()) from error
                time.sleep(_PAUSE_SECONDS)
            else:
                if answer is None:
                    raise self._connection.unavailable("it does not answer in time")
        self._connection.on_answer()
        return answer


def _topic_partition(partition: Partition, offset: int = -1001) -> Any:
    from confluent_kafka import TopicPartition

    return TopicPartition(partition.topic, partition.number, offset)


def key_of(message: Message) -> str | None:
    """The key of a record as text, or None where it has none."""
    key = message.key()
    return key.decode(errors="replace") if isinstance(key, bytes) else key
