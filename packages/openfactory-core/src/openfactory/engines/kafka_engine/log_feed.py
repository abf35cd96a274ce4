"""Following the log: one consumer a process, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition, new_consumer
from openfactory.exceptions import EngineUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

__all__ = ["LogFeed"]

_logger = logging.getLogger("openfactory.kafka")

_POLL_SECONDS = 0.1

# So many records are handed on before others may have the lock.
_BATCH = 1_000

# When so many come at once, but not all that fit, more are on their way. They are taken together after a moment:
# each time the feed woke for a few of them, the threads that compute would have to wait for the interpreter.
_MANY = 64
_PAUSE_SECONDS = 0.005


class LogFeed:
    """Hands on every record of some partitions, in the order of each.

    Args:
        reader: answers where the log begins and ends.
        lock: held while records are handed on and the positions move.
        on_record: takes a record; it must return soon.
        on_lost: told that a partition has lost a piece that was not read, and that reading goes on behind it.
        on_idle: called now and then on the feed's thread, without the lock.

    Attributes:
        positions: up to which offset each partition has been handed on; read them under the lock.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        reader: LogReader,
        lock: Callable[[], threading.RLock],
        on_record: Callable[[Partition, int, Message], None],
        on_lost: Callable[[Partition], None],
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self.positions: dict[Partition, int] = {}
        self._connection = connection
        self._reader = reader
        self._lock = lock
        self._on_record = on_record
        self._on_lost = on_lost
        self._on_idle = on_idle
        self._moved = threading.Condition()
        self._waiting = 0
        self._closed = False
        # A partition that is new to a fetch waits until the last one has ended, which is this long when nothing comes.
        self._consumer = new_consumer(connection, **{"fetch.wait.max.ms": 100})
        self._partitions: dict[tuple[str | None, int | None], Partition] = {}
        self._thread: threading.Thread | None = None
        self._said = ""
        self._lost: set[Partition] = set()  # what has lost a piece, until it is known where it goes on

    def start(self, offsets: Mapping[Partition, int]) -> None:
        """Follow partitions from these offsets on."""
        from confluent_kafka import TopicPartition

        self.positions = dict(offsets)
        self._partitions = {(one.topic, one.number): one for one in offsets}
        self._consumer.assign([TopicPartition(one.topic, one.number, at) for one, at in offsets.items()])
        self._thread = threading.Thread(target=self._run, name="openfactory-log", daemon=True)
        self._thread.start()

    def wait_for(self, offsets: Mapping[Partition, int], stall_seconds: float) -> bool:
        """Wait until the records before some offsets are handed on, as long as there is progress.

        Returns:
            whether they are.
        """
        if threading.current_thread() is self._thread:
            return self._has_passed(offsets)  # a subscriber asks: there is nothing to wait for
        with self._moved:
            self._waiting += 1
            try:
                while not self._has_passed(offsets):
                    before = sum(self.positions.values())
                    deadline = time.monotonic() + stall_seconds
                    while sum(self.positions.values()) == before and not self._has_passed(offsets):
                        if self._closed or (left := deadline - time.monotonic()) <= 0:
                            return self._has_passed(offsets)
                        self._moved.wait(left)
                return True
            finally:
                self._waiting -= 1

    def close(self, timeout: float) -> None:
        """End the thread and the connection."""
        self._closed = True
        with self._moved:
            self._moved.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        elif self._thread is None:
            self._consumer.close()

    def _has_passed(self, offsets: Mapping[Partition, int]) -> bool:
        return all(self.positions.get(partition, 0) >= offset for partition, offset in offsets.items())

    def _run(self) -> None:
        while not self._closed:
            taken = 0
            try:
                first = self._consumer.poll(_POLL_SECONDS)
                if first is not None:
                    messages = [first, *self._consumer.consume(_BATCH, 0)]
                    taken = len(messages)
                    self._take(messages)
                for partition in list(self._lost):
                    self._go_on_where_the_log_begins(partition)
                self._on_idle()
            except EngineUnavailableError as error:
                self._say("_LOST", error)
            except Exception:
                _logger.exception("Following the log failed; it is tried again.")
                time.sleep(_POLL_SECONDS)
            if self._waiting:
                with self._moved:
                    self._moved.notify_all()
            elif _MANY <= taken < _BATCH:
                time.sleep(_PAUSE_SECONDS)
        self._consumer.close()

    def _take(self, messages: list[Message]) -> None:
        with self._lock():
            for message in messages:
                if self._closed:
                    return
                partition = self._partitions.get((message.topic(), message.partition()))
                if (error := message.error()) is not None:
                    self._take_error(partition, message, error)
                elif partition is not None:
                    offset = message.offset()
                    assert offset is not None
                    try:
                        self._on_record(partition, offset, message)
                    except Exception:
                        _logger.exception("A record was not understood at %s, offset %d.", partition, offset)
                    self.positions[partition] = offset + 1
        if self._connection.trouble and messages[-1].error() is None:
            self._connection.on_answer()
            self._said = ""

    def _take_error(self, partition: Partition | None, message: Message, error: KafkaError) -> None:
        if partition is not None and error.name() == "_PARTITION_EOF":
            end = message.offset()
            assert end is not None
            self.positions[partition] = max(self.positions[partition], end)  # markers are passed, and no records
            self._connection.on_answer()
        elif partition is not None and error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
            self._lost.add(partition)
        else:
            self._say(error.name(), error.str())

    def _say(self, name: str, reason: object) -> None:
        if self._said != name:
            self._said = name
            _logger.warning("The log cannot be read (%s). It is tried again until it can.", reason)

    def _go_on_where_the_log_begins(self, partition: Partition) -> None:
        from confluent_kafka import TopicPartition

        low, high = self._reader.bounds([partition])[partition]
        position = self.positions[partition]
        start = low if position < low else min(position, high)
        _logger.warning(
            "%s, partition %d, was read up to offset %d and has offsets %d to %d now. Reading goes on at %d; "
            "keep more of the log by a longer retention (`ofa setup-kafka --retention-hours`).",
            partition.topic,
            partition.number,
            position,
            low,
            high,
            start,
        )
        again = [TopicPartition(partition.topic, partition.number, start)]
        self._consumer.incremental_unassign(again)  # after such an error it cannot seek
        self._consumer.incremental_assign(again)
        self._lost.discard(partition)
        self._said = ""
        with self._lock():
            self.positions[partition] = start
            self._on_lost(partition)
