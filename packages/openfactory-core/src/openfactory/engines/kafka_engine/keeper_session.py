"""The membership of a process in the group of the state keepers: its partitions, their folds and their writers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.kafka_engine.broker_admin import BrokerAdmin
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.kept_state import KeptState
from openfactory.engines.kafka_engine.log_reader import LogReader, new_consumer
from openfactory.engines.kafka_engine.log_watch import Identity, LogWatch
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.records import Records
from openfactory.engines.kafka_engine.state_fold import StateFold
from openfactory.engines.kafka_engine.state_records import log_of
from openfactory.engines.kafka_engine.state_writer import StateWriter
from openfactory.engines.kafka_engine.topics import (
    ASSETS_STATE_TOPIC,
    ASSETS_TOPIC,
    STATE_TOPIC,
    create_topics,
    ensure_partitions,
)
from openfactory.exceptions import EngineUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition

__all__ = ["KeeperSession"]

T = TypeVar("T")

_logger = logging.getLogger("openfactory.kafka")

# Seconds after which the partitions of a keeper that is gone get another one.
_SESSION_SECONDS = 10.0

_POLL_SECONDS = 0.1
_BATCH = 5_000

# Number of changed attributes from which on they are written at once.
_MANY_RECORDS = 100_000

# Seconds between two checks for assets that are gone.
_GONE_SECONDS = 600.0


class KeeperSession:
    """The membership in the group of the keepers, for one identity of the log.

    Args:
        connection: the cluster.
        prefix: the beginning of all topic names.
        counters: the numbers of records that are read, are written and cannot be read, which the session updates.
        stopped: the event that ends the session.

    Raises:
        EngineUnavailableError: no broker answers, or the log does not exist.
        TopicError: the broker refuses to create the state topic.
    """

    def __init__(
        self, connection: BrokerConnection, prefix: str, counters: dict[str, int], stopped: threading.Event
    ) -> None:
        self._connection = connection
        self._stopped = stopped
        self._topic = prefix + ASSETS_TOPIC
        self._state_topic = prefix + ASSETS_STATE_TOPIC
        self._counters = counters
        self._changed = threading.Event()
        self._failure: BaseException | None = None
        self._folds: dict[int, StateFold] = {}
        self._writers: dict[int, StateWriter] = {}
        self._at_end: set[int] = set()  # partitions of which all records are read
        self._written: dict[int, int] = {}  # by partition, the offset up to which the topic contains the log
        self._ends: dict[int, int] = {}  # by partition, its end when it was assigned
        self._checked_at = time.monotonic()
        with ExitStack() as stack:
            count = _ensure_topic(connection, prefix)
            watch = LogWatch(connection, (self._topic,))
            stack.callback(watch.close)
            identity = (watch.answer(watch.ask()) or {}).get(self._topic)
            if identity is None or identity.partitions != count:
                raise connection.unavailable(f"it does not describe the topic {self._topic}")
            connection.positions.counts = {self._topic: count}
            self._log = log_of(identity)
            self._records = Records(connection.positions)
            self._reader = LogReader(connection)
            stack.callback(self._reader.close)
            self._kept = KeptState(self._reader, connection.positions, self._state_topic, count, self._log)
            self._consumer = new_consumer(
                connection,
                **{
                    "group.id": self._state_topic,
                    "auto.offset.reset": "earliest",  # after the retention has passed the state
                    "partition.assignment.strategy": "cooperative-sticky",
                    "session.timeout.ms": round(_SESSION_SECONDS * 1_000),
                    "heartbeat.interval.ms": round(_SESSION_SECONDS * 200),
                    "fetch.wait.max.ms": 100,
                },
            )
            stack.callback(self._consumer.close)
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            watch.start({self._topic: identity}, self._on_identity)
            self._stack = stack.pop_all()

    def __enter__(self) -> KeeperSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number in list(self._folds):
            self._drop(number)
        self._stack.close()

    @property
    def is_over(self) -> bool:
        """Whether the keeper is stopped, or the log was made anew or has other partitions."""
        return self._stopped.is_set() or self._changed.is_set()

    def read(self, deadline: float, is_behind: bool) -> None:
        """Apply the records that arrive until a time, or until many attributes have changed.

        Args:
            deadline: the time, by the monotonic clock.
            is_behind: whether to return at the end of the log.
        """
        while (remaining := deadline - time.monotonic()) > 0:
            first = self._consumer.poll(min(remaining, _POLL_SECONDS))
            if self._failure is not None:
                raise self._failure
            if first is not None:
                for message in (first, *self._consumer.consume(_BATCH, 0)):
                    self._apply(message)
            if is_behind and self._at_end >= self._folds.keys():
                return
            if self.is_over or sum(len(fold.pending) for fold in self._folds.values()) >= _MANY_RECORDS:
                return

    def flush(self) -> int:
        """Write the changes of all partitions, unless the log is another one; return the number of records."""
        if self._changed.is_set():
            return 0
        if time.monotonic() >= self._checked_at + _GONE_SECONDS:
            self._checked_at = time.monotonic()
            bounds = self._reader.bounds(Partition(self._topic, number) for number in self._folds)
            for partition, (low, _) in bounds.items():
                self._folds[partition.number].drop_gone(low)
        return self._write([number for number, fold in self._folds.items() if fold.is_changed])

    def lag(self) -> dict[int, int]:
        """Return, by partition, the number of records that the topic lacks."""
        from confluent_kafka import TopicPartition

        lags: dict[int, int] = {}
        for number, written in self._written.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, number), cached=True)
            lags[number] = max(max(high, self._ends[number]) - written, 0)  # no end is cached before the first records
        return lags

    def _apply(self, message: Message) -> None:
        error, fold = message.error(), self._folds.get(message.partition() or 0)
        if error is not None and error.name() != "_PARTITION_EOF":
            raise self._connection.unavailable(error.str())
        if fold is None:
            return
        if error is not None:
            fold.offset = max(fold.offset, message.offset() or 0)  # the ends of transactions have offsets too
            self._at_end.add(message.partition() or 0)
            return
        if self._at_end:
            self._at_end.discard(message.partition() or 0)
        if (message.offset() or 0) < fold.offset:
            raise self._connection.unavailable(f"{self._topic} has lost records that were read")
        fold.apply(message)
        self._counters["read"] += 1
        self._counters["unreadable"] = self._records.unreadable

    # Partitions

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            numbers = [partition.partition for partition in partitions]
            writers = {
                number: StateWriter(self._connection, Partition(self._state_topic, number)) for number in numbers
            }
            _in_parallel([writer.take_over for writer in writers.values()])
            ends = self._reader.ends(Partition(self._topic, number) for number in numbers)
            self._ends.update((partition.number, end) for partition, end in ends.items())
            for partition in partitions:
                number = partition.partition
                fold = self._folds[number] = self._loaded(number)
                self._writers[number], self._written[number] = writers[number], fold.offset
                partition.offset = fold.offset
            consumer.incremental_assign(partitions)
        except BaseException as error:  # noqa: BLE001 - raised after the call of librdkafka
            self._failure = error

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            if not self._changed.is_set() and self._failure is None:
                self._write([partition.partition for partition in partitions if partition.partition in self._folds])
        except BaseException as error:  # noqa: BLE001 - raised after the call of librdkafka
            self._failure = error
        self._on_lost(_, partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._drop(partition.partition)

    def _drop(self, number: int) -> None:
        self._folds.pop(number, None)
        self._at_end.discard(number)
        self._written.pop(number, None)
        if (writer := self._writers.pop(number, None)) is not None:
            writer.close()

    def _loaded(self, number: int) -> StateFold:
        """Return the state that the topic has of a partition, or an empty state at the start of the log."""
        partition = Partition(self._topic, number)
        fold = StateFold(partition, self._log, self._connection.positions, self._records)
        kept = self._kept.read(number)
        if kept is not None and self._reader.is_continued(partition, kept.marker.offset, kept.marker.mark):
            fold.continue_from(kept)
        else:
            low, _ = self._reader.bounds([partition])[partition]
            fold.begin(low, self._kept.keys(number))
        return fold

    def _write(self, numbers: list[int]) -> int:
        count = sum(_in_parallel([partial(self._write_partition, number) for number in numbers]))
        self._counters["written"] += count
        return count

    def _write_partition(self, number: int) -> int:
        fold = self._folds[number]
        count = self._writers[number].write(fold.encoded(), fold.marker)
        fold.note_written()
        self._written[number] = fold.offset
        return count

    def _on_identity(self, _: Identity) -> None:
        self._changed.set()


def _in_parallel(works: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions on threads, and return their results; one function is called directly."""
    if len(works) == 1:
        return [works[0]()]
    called = [call_on_thread("openfactory-keeper", work) for work in works]
    errors = [error for error in (future.exception() for future in called) if error is not None]
    if errors:
        raise errors[0]
    return [future.result() for future in called]


def _ensure_topic(connection: BrokerConnection, prefix: str) -> int:
    """Create the state topic if it is missing, and return the number of partitions of the log.

    Raises:
        EngineUnavailableError: no broker answers, or the log does not exist. It may be made anew at the moment, so this
            process does not create it.
    """
    configuration = connection.configuration()
    log = BrokerAdmin(configuration).metadata().topics.get(prefix + ASSETS_TOPIC)
    if log is None:
        raise EngineUnavailableError(
            f"The topic {prefix}{ASSETS_TOPIC} does not exist on {connection.bootstrap_servers}. "
            "Run `ofa setup-kafka` to create it.",
            address=connection.bootstrap_servers,
        )
    count = len(log.partitions)
    if create_topics(configuration, [STATE_TOPIC], prefix=prefix, partitions=count):
        _logger.info("Created the topic %s%s. A start reads it from now on.", prefix, ASSETS_STATE_TOPIC)
    ensure_partitions(configuration, prefix + ASSETS_STATE_TOPIC, count)
    return count
