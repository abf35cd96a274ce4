"""The forwarding of the log to one NATS cluster by a consumer group, which any number of processes can join."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from openfactory.engines.fanout.wire import PROGRESS_SUBJECT, Progress
from openfactory.exceptions import EngineError, EngineUnavailableError
from openfactory.fanout.cluster import ClusterPublisher
from openfactory.fanout.latencies import Latencies
from openfactory.fanout.log_source import LogSource
from openfactory.fanout.message import encode_progress
from openfactory.fanout.partition_ends import PartitionEnds
from openfactory.fanout.progress import PartitionProgress
from openfactory.fanout.record_batch import BatchBuilder
from openfactory.fanout.ring import HashRing
from openfactory.fanout.starts import starts_of
from openfactory.logs.outage import Outage

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

__all__ = ["Forwarding", "ForwardingOptions"]

_logger = logging.getLogger("openfactory.fanout")

_POLL_SECONDS = 0.1
_BATCH = 1_000

# Seconds between two commits, and between two messages of progress.
_COMMIT_SECONDS = 0.5
_PROGRESS_SECONDS = 1.0

# Seconds to wait for the proof of all that is sent, before a partition goes to another forwarder.
_HANDOVER_SECONDS = 2.0

# Seconds before a group begins again after an error of the broker.
_PAUSE_SECONDS = 1.0


class ForwardingOptions(NamedTuple):
    """The settings of a forwarder.

    Attributes:
        forwarder: UUID of the forwarder.
        group: the name of the consumer groups, between the prefix of the factory and the name of the cluster.
        from_begin: whether a group without commits begins at the begin of the log, and not at its end.
        session_seconds: seconds after which the partitions of a forwarder that is gone go to another one.
    """

    forwarder: str
    group: str
    from_begin: bool
    session_seconds: float


class Forwarding:
    """The forwarding of the assets of one NATS cluster, on the thread that calls `run`.

    Args:
        cluster: name of the cluster.
        publisher: publisher of the cluster.
        source: the log.
        ring: the ring that names the cluster of each key.
        options: the settings.

    Attributes:
        cluster: name of the cluster.
        publisher: publisher of the cluster.
        records: the records that were read, and counts of them.
        counters: numbers of the `calls` of Kafka, and of its `errors`.
        progress: the progress by partition.
        latencies: times from the reading of a record until NATS has its message.
    """

    def __init__(
        self, cluster: str, publisher: ClusterPublisher, source: LogSource, ring: HashRing, options: ForwardingOptions
    ) -> None:
        self.cluster = cluster
        self.publisher = publisher
        self.records = BatchBuilder(cluster, ring, source)
        self.counters = {"calls": 0, "errors": 0}
        self.progress: dict[int, PartitionProgress] = {}
        self.latencies = Latencies()
        self._source = source
        self._ends = PartitionEnds(source)
        self._options = options
        self._group = f"{source.prefix}{options.group}_{cluster}"
        self._outage = Outage(
            _logger,
            meanwhile="The forwarder tries again.",
            over=f"The events for the NATS cluster {cluster} can be read from Kafka again.",
        )
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._dropped: set[int] = set()  # partitions of which sent records were dropped, and must be read again
        self._paused = False
        self._commit_due = self._progress_due = 0.0

    @property
    def trouble(self) -> str:
        """Why records are not forwarded, or an empty text."""
        return self._outage.reason or self._source.connection.outage.reason or self.publisher.trouble

    def run(self) -> None:
        """Forward records until `stop` is called; after an error of the broker, begin again."""
        from confluent_kafka import KafkaException

        while not self._stopped.is_set():
            try:
                self._forward()
            except (EngineError, KafkaException) as error:
                self.counters["errors"] += 1
                cause = error if isinstance(error, EngineError) else self._source.failure(error.args[0])
                self._outage.begin(f"The events for the NATS cluster {self.cluster} cannot be read: {cause}")
                self._stopped.wait(_PAUSE_SECONDS)

    def stop(self) -> None:
        """End `run` after NATS has proven all that is sent; any thread may call it."""
        self._stopped.set()

    def _forward(self) -> None:
        """Be a member of the group, until the stop or an error."""
        self._source.partitions()  # or an error with the remedy
        consumer = self._source.new_member(self._group, self._options.session_seconds, self._on_commit)
        self._failure, self._paused = None, False
        try:
            consumer.subscribe(
                [self._source.topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopped.is_set():
                self._step(consumer)
        finally:
            try:
                self._settle()
                self._commit(consumer, self.progress, wait=True)
            finally:
                self.progress = {}
                self._dropped.clear()
                consumer.close()

    def _step(self, consumer: Consumer) -> None:
        has_room = self.publisher.has_room or self.publisher.wait_for_room(_POLL_SECONDS)
        self._pause(consumer, not has_room)
        began = time.monotonic()
        messages = self._read(consumer)
        if messages:
            batch = self.records.batch(messages, self.progress.keys(), self.publisher.max_payload)
            if time.monotonic() - began > self._options.session_seconds:
                # It has lost its partitions, and does not know it yet.
                raise EngineUnavailableError(
                    "This process did not run for a while, so another forwarder may have its partitions. "
                    "Give the machine less to do if this happens again.",
                    address=self._source.connection.bootstrap_servers,
                )
            self.publisher.publish(batch)
        self._take_proven()
        now = time.monotonic()
        if now >= self._commit_due:
            self._commit_due = now + _COMMIT_SECONDS
            self._commit(consumer, self.progress, wait=False)
        if now >= self._progress_due:
            self._progress_due = now + _PROGRESS_SECONDS
            self._note_ends(consumer)
            self._tell_progress()

    def _read(self, consumer: Consumer) -> list[Message]:
        """Return the next records; callbacks of the group are called meanwhile."""
        first = consumer.poll(_POLL_SECONDS)
        messages = [] if first is None else [first, *consumer.consume(_BATCH - 1, 0)]
        self.counters["calls"] += 1
        if self._failure is not None:
            raise self._failure
        if self.publisher.take_discarded():
            self._take_proven()
            self._dropped |= self.progress.keys()
        if self._dropped:
            messages = [message for message in messages if message.partition() not in self._dropped]
            self._read_again(consumer)
        if messages:
            self._outage.end()
        return messages

    def _read_again(self, consumer: Consumer) -> None:
        from confluent_kafka import TopicPartition

        for number in self._dropped & self.progress.keys():
            consumer.seek(TopicPartition(self._source.topic, number, self.progress[number].position))
        self._dropped.clear()

    def _pause(self, consumer: Consumer, paused: bool) -> None:
        """Stop or begin to read. The member stays in the group: a paused consumer is polled, and returns no records."""
        if paused == self._paused:
            return
        self._paused = paused
        if partitions := consumer.assignment():
            (consumer.pause if paused else consumer.resume)(partitions)

    # Progress

    def _take_proven(self) -> None:
        now = time.monotonic()
        for batch in self.publisher.take_proven():
            self.latencies.add(now - batch.read_at, batch.size)
            for number, place in batch.places.items():
                if (progress := self.progress.get(number)) is not None:
                    progress.advance(*place)

    def _commit(self, consumer: Consumer, numbers: Iterable[int], *, wait: bool) -> None:
        from confluent_kafka import KafkaException, TopicPartition

        behind = [number for number in numbers if self.progress[number].committed != self.progress[number].position]
        offsets = [TopicPartition(self._source.topic, number, self.progress[number].position) for number in behind]
        if not offsets:
            return
        for number in behind:
            self.progress[number].committed = self.progress[number].position
        try:
            consumer.commit(offsets=offsets, asynchronous=not wait)  # type: ignore[call-overload]
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is None:
            return
        self.counters["errors"] += 1
        for partition in partitions:
            if (progress := self.progress.get(partition.partition)) is not None:
                progress.committed = -1  # so that the next commit has it
        _logger.debug("A commit of %s failed and is repeated: %s", self._group, error)

    def _note_ends(self, consumer: Consumer) -> None:
        from confluent_kafka import TopicPartition

        ends = dict.fromkeys(self.progress, -1)
        if not self._paused:  # librdkafka learns the ends by reading; until the first answer they are negative
            for number in ends:
                place = TopicPartition(self._source.topic, number)
                _, ends[number] = consumer.get_watermark_offsets(place, cached=True)
        found = self._ends.answer(list(ends), is_needed=any(end < 0 for end in ends.values()))
        for number, end in ends.items():
            self.progress[number].note_end(max(end, found.get(number, -1)))

    def _tell_progress(self) -> None:
        milliseconds, forwarder, topic = time.time_ns() // 1_000_000, self._options.forwarder, self._source.topic
        told = [
            encode_progress(
                f"{PROGRESS_SUBJECT}.{number}",
                msgspec.json.encode(Progress(one.position, one.end, milliseconds, forwarder, topic, one.is_new)),
            )
            for number, one in self.progress.items()
        ]
        if told:
            self.publisher.tell(b"".join(told))

    # Partitions

    def _settle(self) -> None:
        """Wait for the proof of all that is sent, or drop it, so that it cannot arrive after another's messages."""
        proven = self.publisher.wait_for_proof(_HANDOVER_SECONDS)
        if not proven:
            self.publisher.discard()
            self.publisher.take_discarded()
            self._dropped |= self.progress.keys()
        self._take_proven()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            numbers = [partition.partition for partition in partitions]
            starts = starts_of(consumer, self._source, self._group, numbers, from_begin=self._options.from_begin)
            for partition in partitions:
                partition.offset = starts[partition.partition].position
            self.progress |= starts
            consumer.incremental_assign(partitions)
            if self._paused:
                consumer.pause(partitions)
            self._commit(consumer, numbers, wait=True)
            self._tell_progress()  # before the first message: watchers must know that the group is new
        except BaseException as error:  # noqa: BLE001 - raised after the call of librdkafka
            self._failure = error

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._settle()
            self._commit(consumer, [one.partition for one in partitions if one.partition in self.progress], wait=True)
        except BaseException as error:  # noqa: BLE001 - raised after the call of librdkafka
            self._failure = error
        self._forget(partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop all that is not proven: another forwarder has the partitions already."""
        try:
            if not self.publisher.wait_for_proof(0):
                self.publisher.discard()
                self.publisher.take_discarded()
                self._dropped |= self.progress.keys()
        except BaseException as error:  # noqa: BLE001 - raised after the call of librdkafka
            self._failure = error
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self.progress.pop(partition.partition, None)
            self._dropped.discard(partition.partition)
