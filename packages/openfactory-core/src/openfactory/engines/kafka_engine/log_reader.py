"""Looking into the log beside following it: where it ends, where it stood at a time, and pieces of it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from openfactory.engines.kafka_engine.broker_errors import unusable
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.exceptions import EngineClosedError

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
    """A consumer outside of all consumer groups, which is told what to read.

    Raises:
        ConfigurationError: librdkafka takes no such configuration, such as a file that is no certificate.
    """
    from confluent_kafka import Consumer, KafkaException

    configuration = connection.configuration(
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
    try:
        return Consumer(configuration)
    except KafkaException as error:
        raise unusable(connection.bootstrap_servers, error) from error


class LogReader:
    """Answers questions about topics, and reads pieces of them; from any thread.

    Nothing is locked while a reader works on the records that it got: it may ask, read another piece, or close.
    """

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._lock = threading.RLock()  # who gets records; a piece that is not read on may be collected at any moment
        self._reading: object = None  # the piece whose next records the consumer gives
        self._free = threading.Condition()
        self._users = 0
        self._closed = False
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
            EngineClosedError: this reader is closed.
        """
        if start >= end:
            return
        low, high = self.bounds([partition])[partition]
        start, end = max(start, low), min(end, high)
        reading = object()
        try:
            while start < end:
                messages, start = self._next(reading, partition, start, end)
                yield from messages
        finally:
            self._leave(reading)

    def close(self) -> None:
        """End the connection, as soon as nobody asks any more; closing twice does nothing."""
        with self._free:
            was_closed, self._closed = self._closed, True
            if was_closed or not self._free.wait_for(lambda: not self._users, 2 * _ANSWER_SECONDS):
                return  # who still uses it has the consumer closed by letting go of it
        self._consumer.close()

    def _next(self, reading: object, partition: Partition, start: int, end: int) -> tuple[list[Message], int]:
        """The next records of a piece, and where it goes on."""
        with self._lock, self._in_use():
            if self._reading is not reading:  # it begins, or another one was read since
                self._consumer.assign([_topic_partition(partition, start)])
                self._reading = reading
            messages: list[Message] = []
            for message in (self._first(partition), *self._consumer.consume(_BATCH, 0)):
                if (error := message.error()) is not None:
                    if error.name() == "_PARTITION_EOF":
                        return messages, end
                    raise self._connection.unavailable(error.str())
                offset = message.offset()
                assert offset is not None
                if offset >= end:
                    return messages, end
                messages.append(message)
                start = offset + 1
            return messages, start

    def _first(self, partition: Partition) -> Message:
        deadline = time.monotonic() + _STALL_SECONDS
        while (first := self._consumer.poll(0.1)) is None:
            if self._closed:
                raise _closed()
            if time.monotonic() >= deadline:
                raise self._connection.unavailable(f"it gave nothing of {partition.topic} for {_STALL_SECONDS:g} s")
        return first

    def _leave(self, reading: object) -> None:
        """A piece is read, or nobody wants the rest of it."""
        with self._lock:
            if self._reading is reading:
                self._reading = None
                with suppress(EngineClosedError), self._in_use():
                    self._consumer.unassign()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """The consumer is not closed meanwhile: librdkafka does not survive that."""
        with self._free:
            if self._closed:
                raise _closed()
            self._users += 1
        try:
            yield
        finally:
            with self._free:
                self._users -= 1
                self._free.notify_all()

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
                with self._in_use():
                    answer = question(*arguments, **keywords)
            except KafkaException as error:
                reason = error.args[0]
                if reason.name() not in _PASSING or time.monotonic() >= deadline:
                    self._hear()
                    if reason.name() == "_TIMED_OUT":
                        self._connection.on_silence()
                    raise self._connection.unavailable(reason.str()) from error
                time.sleep(_PAUSE_SECONDS)
            else:
                if answer is None:
                    self._connection.on_silence()
                    raise self._connection.unavailable("it does not answer in time")
        self._connection.on_answer()
        return answer

    def _hear(self) -> None:
        """Have librdkafka say what is wrong: it says it only to those who ask it for messages."""
        if self._lock.acquire(blocking=False):  # else somebody reads, and hears it there
            try:
                if self._reading is None:
                    with suppress(EngineClosedError), self._in_use():
                        self._consumer.poll(0)
            finally:
                self._lock.release()


def _closed() -> EngineClosedError:
    return EngineClosedError("The engine was closed while the log was read. Open it again, by a new client or asset.")


def _topic_partition(partition: Partition, offset: int = -1001) -> Any:
    from confluent_kafka import TopicPartition

    return TopicPartition(partition.topic, partition.number, offset)


def key_of(message: Message) -> str | None:
    """The key of a record as text, or None where it has none."""
    key = message.key()
    return _text(key) if isinstance(key, bytes) else key


@lru_cache(maxsize=65536)
def _text(key: bytes) -> str:
    return key.decode(errors="replace")
