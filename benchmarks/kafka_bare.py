"""The bare equivalents: confluent-kafka and json, as somebody writes who reads its documentation with care."""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = ["BareWriter", "consume", "follow", "follow_one", "message", "read_all"]


def message(attribute: str, value: Any, timestamp: str | None = None) -> str:
    """An attribute as it stands on the wire; it is said now, unless a time is given."""
    timestamp = timestamp or datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps(
        {"ID": attribute, "VALUE": value, "TAG": "Benchmark", "TYPE": "Samples", "attributes": {"timestamp": timestamp}}
    )


class BareWriter:
    """An idempotent producer (so with acks=all), and a callback that counts what was acknowledged.

    Args:
        properties: more for librdkafka.
    """

    def __init__(self, bootstrap_servers: str, topic: str, **properties: Any) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                **{name.replace("_", "."): value for name, value in properties.items()},
            }
        )
        self._topic = topic
        self.acknowledged = 0

    def __enter__(self) -> BareWriter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        getattr(self._producer, "close", self._producer.flush)()  # older ones end when they are deleted

    def write(self, asset: str, text: str) -> None:
        """Produce one message, and take the reports that are there."""
        self._producer.produce(self._topic, text, asset, on_delivery=self._on_delivery)
        self._producer.poll(0)

    def poll(self) -> None:
        """Take the reports that are there."""
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all is acknowledged.

        Raises:
            TimeoutError: it is not.
        """
        if left := self._producer.flush(60):
            raise TimeoutError(f"{left} messages were not acknowledged in 60 s.")

    def write_samples(self, count: int, timestamp: str | None = None, *, flush_each: bool = False) -> float:
        """Write samples of one attribute, and wait for the last acknowledgement.

        Returns:
            how many a second.
        """
        before = self.acknowledged
        started = time.perf_counter()
        for number in range(count):
            self.write("BENCH", message("sample", number * 0.1, timestamp))
            if flush_each:
                self.flush()
        self.flush()
        rate = count / (time.perf_counter() - started)
        if self.acknowledged != before + count:
            raise AssertionError(f"{self.acknowledged - before} messages were acknowledged and not {count}.")
        return rate

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            raise RuntimeError(error.str())
        self.acknowledged += 1


def read_all(bootstrap_servers: str, topic: str) -> dict[str, dict[str, Any]]:
    """The last message of each attribute of each asset, from all records of a topic of one partition."""
    consumer = _consumer(bootstrap_servers)
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        consumer.assign([TopicPartition(topic, 0, low)])
        last: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        offset = low - 1
        while offset < high - 1:
            for record in consumer.consume(1_000, 1.0):
                if (error := record.error()) is not None:
                    raise RuntimeError(error.str())
                said = json.loads(record.value())  # type: ignore[arg-type]  # ours all have one
                last[record.key().decode()][said["ID"]] = said  # type: ignore[union-attr]  # and a key
                offset = record.offset() or 0
        return last
    finally:
        consumer.close()


def consume(bootstrap_servers: str, topic: str, count: int) -> float:
    """The seconds that a consumer needs for so many records, which it does not look at."""
    consumer = _consumer(bootstrap_servers)
    started = time.perf_counter()
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while count > 0:
            count -= len(consumer.consume(5_000, 1.0))
        return time.perf_counter() - started
    finally:
        consumer.close()


def records_in(bootstrap_servers: str, topic: str) -> int:
    """The records of a topic of one partition, at most."""
    consumer = _consumer(bootstrap_servers)
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        return high - low
    finally:
        consumer.close()


def follow(bootstrap_servers: str, topic: str) -> Iterator[Any]:
    """The value of each message from now on; the first one is None, and says that it is ready."""
    consumer = _consumer(bootstrap_servers)
    _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    consumer.assign([TopicPartition(topic, 0, high)])
    consumer.poll(0.5)
    yield None
    while True:
        record = consumer.poll(1.0)
        if record is not None and record.error() is None:
            yield json.loads(record.value())["VALUE"]  # type: ignore[arg-type]


def follow_one(bootstrap_servers: str, topic: str, partition: int, asset: str) -> Iterator[Any]:
    """The value of each message of one asset from now on; others are skipped by their keys. The first one is None."""
    consumer, key = _consumer(bootstrap_servers), asset.encode()
    _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    consumer.assign([TopicPartition(topic, partition, high)])
    yield None
    while True:
        record = consumer.poll(1.0)
        if record is not None and record.error() is None and record.key() == key:
            yield json.loads(record.value())["VALUE"]  # type: ignore[arg-type]


def _consumer(bootstrap_servers: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": uuid.uuid4().hex,
            "enable.auto.commit": False,
        }
    )
