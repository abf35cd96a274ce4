"""Reading parts of the log, and the offsets at its ends or at a time."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.kafka_engine.broker_errors import configuration_error
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.record_mark import RecordMark
from openfactory.exceptions import EngineClosedError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

__all__ = ["NO_GROUP_RIGHTS", "Cluster", "LogReader", "Partition", "key_of", "new_consumer"]

# Seconds to wait for the first answer of the broker, for each further answer, and for the next records of a part. The
# first answer takes two round trips, and two more if the patience ends in between: librdkafka then connects again.
_FIRST_ANSWER_SECONDS = 10.0
_ANSWER_SECONDS = 5.0
_STALL_SECONDS = 10.0

# Seconds after which the wait for the first answer ends if librdkafka has reported an error that explains it. A broker
# that is starting gets that time.
_PATIENCE_SECONDS = 3.0

_BATCH = 1_000

# Kafka's names for the bounds of a partition, in place of a time.
_END = -1
_BEGINNING = -2

#: Error of a consumer that reads nevertheless: librdkafka requires a group, which no engine uses to read.
NO_GROUP_RIGHTS = "GROUP_AUTHORIZATION_FAILED"

# Errors of a topic that was just created, or whose leader changes or is behind: the request is retried.
_TRANSIENT = (
    "NOT_LEADER_FOR_PARTITION",
    "LEADER_NOT_AVAILABLE",
    "UNKNOWN_TOPIC_OR_PART",
    "_UNKNOWN_PARTITION",
    "REPLICA_NOT_AVAILABLE",
    "KAFKA_STORAGE_ERROR",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "OFFSET_NOT_AVAILABLE",
)
_PAUSE_SECONDS = 0.05


class Cluster(NamedTuple):
    """The id of a cluster, and the number of partitions of each topic."""

    id: str
    topics: Mapping[str, int]


def new_consumer(connection: BrokerConnection, **properties: Any) -> Consumer:
    """Return a consumer without a consumer group, to which partitions are assigned.

    Args:
        connection: the cluster.
        properties: further properties of librdkafka; `group.id` makes it a member of that group.

    Raises:
        ConfigurationError: librdkafka rejects the configuration, for example a file that is not a certificate.
    """
    from confluent_kafka import Consumer, KafkaException

    configuration = connection.configuration(
        **{
            "group.id": f"openfactory-{uuid.uuid4().hex}",  # required by librdkafka; no offset is ever committed
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "fetch.queue.backoff.ms": 10,
            "fetch.error.backoff.ms": 100,
            **properties,
        }
    )
    try:
        return Consumer(configuration)
    except KafkaException as error:
        raise configuration_error(connection.bootstrap_servers, error) from error


class LogReader:
    """Reader for parts of partitions and for their offsets, for use from any thread.

    `read` keeps no lock while its caller handles a record: the caller may use the reader, or close it.

    Attributes:
        counters: numbers of the records that were read, and of those among them that were skipped by their keys.
    """

    def __init__(self, connection: BrokerConnection) -> None:
        self.counters = {"read": 0, "skipped": 0}
        self._connection = connection
        self._positions = connection.positions
        # Owned while the consumer fetches. Reentrant: a `read` that is not finished may be garbage-collected meanwhile.
        self._lock = threading.RLock()
        self._current_read: object = None  # token of the `read` to whose part the consumer is assigned
        self._unused = threading.Condition()
        self._users = 0
        self._closed = False
        # A broker answers the requests of a connection in order, so a fetch that waits delays all others.
        self._consumer = new_consumer(connection, **{"fetch.wait.max.ms": 5})

    def cluster(self) -> Cluster:
        """Return the id and the topics of the cluster; the first request of a reader."""
        metadata = self._request(self._list_topics, timeout=_FIRST_ANSWER_SECONDS)
        topics = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
        return Cluster(str(getattr(metadata, "cluster_id", "")), topics)

    def _list_topics(self, timeout: float) -> Any:
        from confluent_kafka import KafkaException

        try:
            return self._consumer.list_topics(timeout=min(timeout, _PATIENCE_SECONDS))
        except KafkaException:
            self._collect_errors()
            if timeout <= _PATIENCE_SECONDS or self._connection.is_explained():
                raise
        return self._consumer.list_topics(timeout=timeout - _PATIENCE_SECONDS)

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the end of each partition, by one request: the offset of the next record."""
        return self._offsets(partitions, _END)

    def bounds(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """Return the first offset and the end of each partition."""
        from confluent_kafka import TopicPartition

        partitions = list(partitions)
        if len(partitions) == 1:
            low, high = self._request(
                self._consumer.get_watermark_offsets, TopicPartition(*partitions[0]), timeout=_ANSWER_SECONDS
            )
            base = self._positions.base
            return {partitions[0]: (base + low, base + high)}
        lows = call_on_thread("openfactory-bounds", self._offsets, partitions, _BEGINNING)
        highs = self._offsets(partitions, _END)
        return {partition: (low, highs[partition]) for partition, low in lows.result().items()}

    def is_continued(self, partition: Partition, end: int, mark: RecordMark | None) -> bool:
        """Return whether a partition is still that which was read up to an offset, and not that of another log.

        Args:
            partition: the partition.
            end: the offset up to which it was read, as the broker counts.
            mark: the last record that was read, if there was one; the partition has it, unless it is too old.
        """
        base = self._positions.base
        low, high = self.bounds([partition])[partition]
        if base + end > high:
            return False
        if mark is None or base + mark.offset < low:
            return True
        last = base + mark.offset
        return all(RecordMark.of(message) == mark for _, message in self.read_part(partition, last, last + 1))

    def offsets_at(self, partitions: Iterable[Partition], seconds: float) -> dict[Partition, int]:
        """Return, for each partition, the offset of the first record that is not older than a time.

        Args:
            partitions: the partitions.
            seconds: the time in seconds since 1970.

        Returns:
            By partition, the offset; the end of a partition whose records are all older.
        """
        partitions = list(partitions)
        offsets = self._offsets(partitions, max(int(seconds * 1_000), 0))
        return offsets | self.ends(partition for partition, offset in offsets.items() if offset < self._positions.base)

    def read(
        self, partition: Partition, start: int, end: int, keys: Collection[bytes] | None = None
    ) -> Iterator[tuple[int, Message]]:
        """Yield the records of a partition from one offset up to another, as far as the log still has them.

        Each record comes with its offset from the base. Offsets of a former log have no records.

        Args:
            partition: the partition.
            start: offset of the first record.
            end: offset after the last record.
            keys: the keys of the wanted records; None for all.

        Raises:
            EngineUnavailableError: the broker does not send the records.
            EngineClosedError: the reader is closed.
        """
        if start >= end:
            return
        low, high = self.bounds([partition])[partition]
        yield from self.read_part(partition, max(start, low), min(end, high), keys)

    def read_part(
        self, partition: Partition, start: int, end: int, keys: Collection[bytes] | None = None
    ) -> Iterator[tuple[int, Message]]:
        """Yield the records of a part of a partition that the log is known to have, as `read` does."""
        token = object()
        try:
            while start < end:
                messages, start = self._next_messages(token, partition, start, end, keys)
                yield from messages
        finally:
            self._finish_read(token)

    def read_newest(self, ends: Mapping[Partition, int], seconds: float) -> Iterator[tuple[Partition, int, Message]]:
        """Yield the records of the last seconds of some partitions, up to the given ends."""
        starts = self.offsets_at(ends, time.time() - seconds)
        for partition, end in ends.items():
            for offset, message in self.read(partition, starts[partition], end):
                yield partition, offset, message

    def close(self) -> None:
        """Close the consumer as soon as no thread uses it; closing twice does nothing."""
        with self._unused:
            was_closed, self._closed = self._closed, True
            if was_closed or not self._unused.wait_for(lambda: not self._users, 2 * _ANSWER_SECONDS):
                return  # the consumer is closed when it is garbage-collected, after its last user
        self._consumer.close()

    def _next_messages(
        self, token: object, partition: Partition, start: int, end: int, keys: Collection[bytes] | None
    ) -> tuple[list[tuple[int, Message]], int]:
        """Return the next records of a part with some keys, and the offset after them."""
        from confluent_kafka import TopicPartition

        base = self._positions.base
        with self._lock, self._in_use():
            if self._current_read is not token:  # the first call, or another `read` has used the consumer since
                self._consumer.assign([TopicPartition(partition.topic, partition.number, start - base)])
                self._current_read = token
            messages: list[tuple[int, Message]] = []
            skipped = 0
            for message in (self._first_message(partition), *self._consumer.consume(_BATCH, 0)):
                if (error := message.error()) is not None:
                    if error.name() == "_PARTITION_EOF":
                        start = end
                        break
                    if error.name() == NO_GROUP_RIGHTS:
                        continue
                    raise self._connection.unavailable(error.str())
                offset = base + (message.offset() or 0)
                if offset >= end:
                    start = end
                    break
                start = offset + 1
                if keys is None or message.key() in keys:
                    messages.append((offset, message))
                else:
                    skipped += 1
            self.counters["read"] += len(messages) + skipped
            self.counters["skipped"] += skipped
            return messages, start

    def _first_message(self, partition: Partition) -> Message:
        deadline = time.monotonic() + _STALL_SECONDS
        while (first := self._consumer.poll(0.1)) is None:
            if self._closed:
                raise _closed_error()
            if time.monotonic() >= deadline:
                raise self._connection.unavailable(f"it sent no records of {partition.topic} for {_STALL_SECONDS:g} s")
        return first

    def _finish_read(self, token: object) -> None:
        """Unassign the consumer after a `read`, whether or not all records were read."""
        with self._lock:
            if self._current_read is token:
                self._current_read = None
                with suppress(EngineClosedError), self._in_use():
                    self._consumer.unassign()

    @contextmanager
    def _in_use(self) -> Generator[None]:
        """Keep the consumer open; librdkafka crashes when it is closed during a call."""
        with self._unused:
            if self._closed:
                raise _closed_error()
            self._users += 1
        try:
            yield
        finally:
            with self._unused:
                self._users -= 1
                self._unused.notify_all()

    def _offsets(self, partitions: Iterable[Partition], time_or_bound: int) -> dict[Partition, int]:
        """Return the offset of each partition at a time in milliseconds, or at one of its bounds.

        The offset of a partition whose records are all older is before the base.
        """
        from confluent_kafka import KafkaException, TopicPartition

        wanted = [TopicPartition(*partition, time_or_bound) for partition in partitions]
        if not wanted:
            return {}

        def ask(timeout: float) -> list[TopicPartition]:
            found = self._consumer.offsets_for_times(wanted, timeout=timeout)
            for entry in found:
                if entry.error is not None:
                    raise KafkaException(entry.error)
            return found

        base = self._positions.base
        found = self._request(ask, timeout=_ANSWER_SECONDS)
        return {Partition(entry.topic, entry.partition): base + entry.offset for entry in found}

    def _request(self, method: Any, *arguments: Any, **keywords: Any) -> Any:
        from confluent_kafka import KafkaException

        if self._connection.outage.reason:
            keywords["timeout"] = 1.0  # a long wait is of little use during an outage
        deadline = time.monotonic() + keywords["timeout"]
        answer = None
        while answer is None:
            try:
                with self._in_use():
                    answer = method(*arguments, **keywords)
            except KafkaException as error:
                reason = error.args[0]
                if reason.name() not in _TRANSIENT or time.monotonic() >= deadline:
                    self._collect_errors()
                    if reason.name() == "_TIMED_OUT":
                        self._connection.on_timeout()
                    raise self._connection.unavailable(reason.str()) from error
                time.sleep(_PAUSE_SECONDS)
            else:
                if answer is None:
                    self._connection.on_timeout()
                    raise self._connection.unavailable("it does not answer in time")
        self._connection.on_answer()
        return answer

    def _collect_errors(self) -> None:
        """Run the pending calls of `error_cb`; librdkafka makes them only inside `poll`."""
        if self._lock.acquire(blocking=False):  # otherwise another thread reads, and polls
            try:
                if self._current_read is None:
                    with suppress(EngineClosedError), self._in_use():
                        self._consumer.poll(0)
            finally:
                self._lock.release()


def _closed_error() -> EngineClosedError:
    return EngineClosedError("The engine was closed while the log was read. Open it again by a new client or asset.")


def key_of(message: Message) -> str | None:
    """Return the key of a record as text, or None for a record without a key."""
    key = message.key()
    return _decode(key) if isinstance(key, bytes) else key


@lru_cache(maxsize=65536)
def _decode(key: bytes) -> str:
    return key.decode(errors="replace")
