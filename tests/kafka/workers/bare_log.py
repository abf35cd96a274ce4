"""A topic as a program sees it that knows nothing of ours: confluent-kafka and json."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

__all__ = ["Record", "append", "read_topic"]

_ANSWER_SECONDS = 15.0


class Record(NamedTuple):
    """One record and where it stands."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def said(self) -> dict[str, Any]:
        """Its value as JSON says it."""
        said = json.loads(self.value or b"")
        assert isinstance(said, dict)
        return said


def read_topic(bootstrap_servers: str, topic: str) -> list[Record]:
    """All that stands in a topic now, each partition in its order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": uuid4().hex,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 5,
        }
    )
    try:
        left = set(consumer.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in left])
        records: list[Record] = []
        while left:
            message = consumer.poll(_ANSWER_SECONDS)
            assert message is not None, f"{topic} gave nothing for {_ANSWER_SECONDS:g} s"
            if (error := message.error()) is not None:
                assert error.name() == "_PARTITION_EOF", error
                left.discard(message.partition() or 0)
            else:
                records.append(Record(message.partition(), message.offset(), message.key(), message.value()))  # type: ignore[arg-type]
        return sorted(records, key=lambda record: record[:2])
    finally:
        consumer.close()


def append(
    bootstrap_servers: str, topic: str, *records: tuple[str | bytes | None, bytes | None], **more: Any
) -> list[int]:
    """Write records, keys and values as they are; where each stands now."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random"})
    offsets: list[int] = []

    def note(error: Any, message: Any) -> None:
        assert error is None, error
        offsets.append(message.offset())

    for key, value in records:
        producer.produce(topic, value, key, on_delivery=note, **more)
    assert producer.flush(_ANSWER_SECONDS) == 0
    return offsets
