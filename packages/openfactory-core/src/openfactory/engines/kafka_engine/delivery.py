"""Delivery of messages to a broker by one idempotent producer, from `publish` to the acknowledgement."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.concurrency.strand import current_strand
from openfactory.engines.failures import DeliveryFailures
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.echoes import Echoes
from openfactory.engines.kafka_engine.outbox import BATCH_SECONDS, Outbox
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.room import room_deadline
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt, unsettled_at
from openfactory.exceptions import DeliveryError, DeliveryTimeout, EngineClosedError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

__all__ = ["Delivery", "KafkaReceipt"]

_logger = logging.getLogger("openfactory.kafka")

# The size of the producer's queue; `publish` waits while it is full.
_QUEUE_MESSAGES = 200_000
_QUEUE_KILOBYTES = 64 * 1024

# Seconds after which a message without an acknowledgement fails.
_DELIVERY_SECONDS = 120

# Seconds between two looks at the delivery reports while no thread waits for one: to wake up for each report of a quiet
# app would cost as much as the write. Publishing threads take reports too, once for this number of messages.
_REPORT_SECONDS = 0.05
_PUBLISHES_BETWEEN_REPORTS = 128

# Seconds that a thread waits for a report before it looks at its deadline, and between two looks if none is due.
_POLL_SECONDS = 0.1

# Seconds in which the messages are discarded that a delivery has not written when it is closed.
_DISCARD_SECONDS = 10.0

# Seconds that librdkafka needs to send the messages that wait for others.
_LINGER_SECONDS = 0.01

_CLOSED = "The engine is closed and accepts no more events. Open it again to write."

_UNKNOWN_TOPIC = ("_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART")


class KafkaReceipt(Receipt, eq=False, gc=False):
    """A receipt that is also the delivery callback of librdkafka: one object per message instead of three."""

    delivery: Any = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Settle the receipt by the delivery report of librdkafka."""
        self.delivery.report(self, error, message)


class Delivery:
    """Producer that writes messages in the order of their publication and settles a receipt for each.

    Threads that publish and the feed take delivery reports, many at a time. A thread takes them as they arrive only
    while somebody waits for one.

    Args:
        connection: the cluster.
        linger_ms: milliseconds that a message waits for others, to be sent in one batch.

    Attributes:
        furthest: by topic and partition, the offset after the last message that this process has written.
        echoes: recognizes the messages in the log.
    """

    def __init__(self, connection: BrokerConnection, linger_ms: float = 0) -> None:
        self._connection = connection
        self._positions = connection.positions
        self._linger_ms = linger_ms
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._awaited: Counter[int] = Counter()  # numbers of the receipts for which threads wait
        self._await = self._wait_until_settled
        self._numbers = itertools.count(1)
        self._wake = threading.Event()  # wakes the delivery thread
        self.echoes = Echoes(self.take_reports)
        self._closed = False
        self._forked = False
        self._fatal = False
        self._topic_unknown = False
        self._unsettled: dict[int, KafkaReceipt] = {}  # by number, in the order of the queue
        self._failures = DeliveryFailures()
        self._unreported_failures: deque[Receipt] = deque()
        self._hooks_lock = threading.RLock()
        self._replacing = threading.Lock()  # not `_lock`, which a thread may need that hands over a message
        self.on_delivery_error = self._failures.on_delivery_error
        self._written = self._failed = 0
        self.furthest: dict[tuple[str, int], int] = {}
        self._timed: set[tuple[str | None, int | None]] = set()  # partitions with a report in this round
        self._producer: Producer = self._new_producer()
        self._outbox = Outbox(self._producer, self._kafka_exception, self._on_rejected, self._wake.set)
        self._thread = threading.Thread(target=self._run, name="openfactory-delivery", daemon=True)
        self._thread.start()
        reset_in_forked_child(self)

    @property
    def queued(self) -> int:
        """Number of published messages that wait for their acknowledgement."""
        return 0 if self._forked else len(self._unsettled)

    @property
    def counters(self) -> dict[str, int]:
        """Numbers of written and of failed messages."""
        return {"written": self._written, "failed": self._failed}

    def publish(
        self, topic: str, key: str | bytes, value: bytes | str | None, event: AssetEvent | None = None
    ) -> KafkaReceipt:
        """Put a message into the queue of the producer; wait only while the queue is full.

        Args:
            event: the event that the message carries, for the errors and the hooks of failed deliveries.

        Raises:
            DeliveryTimeout: the queue stayed full.
            EngineClosedError: the delivery is closed.
        """
        if self._closed:
            raise EngineClosedError(_CLOSED)
        if self._fatal:
            self._replace_producer()
        number = next(self._numbers)
        receipt = KafkaReceipt(number, self._await, event, current_strand(), delivery=self)
        self._unsettled[number] = receipt  # before its report
        try:
            has_room = self._outbox.put(topic, value, key, receipt, event)
        except BaseException:  # of a signal: nobody gets the receipt
            self._unsettled.pop(number, None)
            raise
        if not has_room or self._closed:  # `close` hands over the messages that were put before
            self._wait_for_room(receipt)
        if self._unreported_failures:
            self._call_hooks()
        if not number % _PUBLISHES_BETWEEN_REPORTS and not self._outbox.is_under_load:
            self._poll(0)
        return receipt

    def report(self, receipt: KafkaReceipt, error: KafkaError | None, message: Message) -> None:
        """Settle a receipt with the outcome that librdkafka reports."""
        now = None
        event = receipt.event
        if error is None:
            offset, partition, positions = message.offset(), (message.topic(), message.partition()), self._positions
            if offset is None:  # the broker had the message already and reports no offset: assume the next one
                position = self.furthest.get(partition, positions.base) + 1  # type: ignore[arg-type]
            else:
                position = positions.base + offset + 1
            self.furthest[partition] = position  # type: ignore[index]
            if partition not in self._timed:
                self._timed.add(partition)
                now = boot_seconds()
                if self._connection.outage.reason:
                    self._connection.on_answer()
            place = position
            if positions.base and event is not None:  # written perhaps before partitions were added
                position = positions.of_record(event.asset_uuid, Partition(*partition), place - 1)  # type: ignore[arg-type]
            receipt.position = position
            if position == place and offset is not None:
                self.echoes.note(partition, place, receipt, message)  # type: ignore[arg-type]
            self._written += 1
        else:
            self._fail_by(receipt, error)
        self._settled(receipt)
        if now is not None:
            self._note_time(message, now)

    def _settled(self, receipt: KafkaReceipt) -> None:
        """Forget a receipt that is settled, and wake the threads that wait for it."""
        receipt.delivery = None
        number = receipt.number
        self._unsettled.pop(number, None)
        if number in self._awaited:
            with self._lock:
                self._progress.notify_all()

    def flush(self, timeout: float) -> None:
        """Wait until every message published before is settled.

        Args:
            timeout: seconds to wait.

        Raises:
            DeliveryError: messages have failed that the calling strand has not been told of.
            DeliveryTimeout: messages are not acknowledged yet.
        """
        deadline = time.monotonic() + timeout
        receipts = list(self._unsettled.copy().values())
        self._outbox.hand_over()
        if self._linger_ms and receipts:
            self._flush_producer(min(timeout, _LINGER_SECONDS))  # sends the messages that wait for others
        pending = unsettled_at(deadline, receipts)
        self._call_hooks(max(deadline - time.monotonic(), 0))
        if pending := unsettled_at(deadline, pending):  # after hooks, which may take long
            reason = self._connection.outage.reason or "the broker has not acknowledged them yet."
            raise DeliveryTimeout(
                f"{len(pending)} published events were not written within {timeout:g} s: {reason} "
                "Wait longer, or look at the engine's health().",
                pending=len(pending),
            )
        self._failures.raise_if_any(of_others=True)

    def close(self, timeout: float) -> None:
        """Flush the queue; messages that are not written in time fail. The thread ends soon after, see `join`.

        Args:
            timeout: seconds to wait for acknowledgements.

        Raises:
            DeliveryError: messages have failed that the calling strand has not been told of.
            DeliveryTimeout: messages were not acknowledged in time.
        """
        self._closed = True
        self._wake.set()
        try:
            self.flush(timeout)
        finally:
            give_up = time.monotonic() + _DISCARD_SECONDS
            while (len(self._producer) or len(self._outbox)) and time.monotonic() < give_up:
                self._discard(self._producer)
                self._outbox.hand_over()  # there is room now
                self._call_hooks(1.0)

    def abandon(self) -> None:
        """Close a delivery at once. Its caller knows the outcome of each message, or does not need it."""
        try:
            with suppress(DeliveryError, DeliveryTimeout):
                self.close(0)
        finally:
            self.join()

    def join(self) -> None:
        """Wait for the end of the thread after `close`, and free the threads and sockets of librdkafka."""
        if threading.current_thread() is not self._thread:  # a hook for failed deliveries may close the engine
            self._thread.join(timeout=2 * _POLL_SECONDS)
        self._producer = _ClosedProducer()  # type: ignore[assignment]
        self._outbox.replace(self._producer)
        self._outbox.clear()
        for receipt in self._unsettled.copy().values():  # published while `close` was ending
            if not receipt.settled:
                self._fail(receipt, EngineClosedError(_CLOSED))
            self._settled(receipt)
        self._call_hooks()

    def begin_log(self) -> None:
        """Forget the offsets of the former log, and learn the partitions of the present one soon."""
        self.furthest.clear()
        self.echoes.clear()
        self._topic_unknown = True

    def reset_after_fork(self) -> None:
        """Close the copy in a forked child: the producer and its threads belong to the parent."""
        self._closed = self._forked = True

    def _new_producer(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        self._kafka_exception = KafkaException  # confluent_kafka is imported only when an engine opens
        return Producer(
            self._connection.configuration(
                **{
                    "enable.idempotence": True,  # implies acks=all
                    "partitioner": "murmur2_random",
                    "linger.ms": self._linger_ms,
                    # A broker handles the requests of a connection one after the other. While it handles one, messages
                    # gather for the next.
                    "max.in.flight": 1,
                    "delivery.timeout.ms": _DELIVERY_SECONDS * 1_000,
                    "queue.buffering.max.messages": _QUEUE_MESSAGES,
                    "queue.buffering.max.kbytes": _QUEUE_KILOBYTES,
                }
            )
        )

    def _wait_for_room(self, receipt: KafkaReceipt) -> None:
        """Wait until a message has left the outbox.

        Raises:
            DeliveryTimeout: the queue stayed full.
            EngineClosedError: the delivery is closed, and the message is not written.
        """
        deadline = room_deadline()
        while not self._closed:
            self._poll(min(max(deadline - time.monotonic(), 0.0), 0.05))
            if self._outbox.hand_over():
                return
            if time.monotonic() >= deadline:
                break
        if not self._outbox.withdraw(receipt):
            return
        self._unsettled.pop(receipt.number, None)
        if self._closed:
            raise EngineClosedError(_CLOSED)
        self._failed += 1
        reason = self._connection.outage.reason or "the broker accepts them too slowly."
        raise DeliveryTimeout(
            f"{self.queued} events wait to be written and the queue is full: {reason} "
            "Publish fewer events at once, or call flush() in between.",
            pending=self.queued,
        )

    def _on_rejected(self, receipt: Receipt, error: KafkaError) -> None:
        assert isinstance(receipt, KafkaReceipt)
        self._fail_by(receipt, error)
        self._settled(receipt)

    def _fail(self, receipt: Receipt, reason: Exception) -> None:
        self._failures.settle([receipt], reason)
        self._unreported_failures.append(receipt)
        self._failed += 1

    def _fail_by(self, receipt: Receipt, error: KafkaError) -> None:
        self._fail(receipt, _Undelivered(_explain(error)))
        if error.fatal() or error.name() == "_FATAL":
            self._fatal = True
        if error.name() in _UNKNOWN_TOPIC:
            self._topic_unknown = True

    def _note_time(self, message: Message, now: float) -> None:
        """Note the time of the log; an error here must not end the call that happens to poll for the report."""
        try:
            self._connection.clocks.note_written(message, now)
        except Exception:
            _logger.exception("The time of the log was not learnt from a delivery report. The next report is tried.")

    def _replace_producer(self) -> None:
        """Create a new producer after a fatal error, such as a deleted topic."""
        with self._replacing:
            if not self._fatal:
                return
            self._producer = self._new_producer()
            old = self._outbox.replace(self._producer)
            self._fatal = False  # after the last message that the former producer has refused
        _logger.warning("The producer was replaced after a fatal error.")
        self._discard(old)

    def _discard(self, producer: Producer) -> None:
        """Have all messages fail that a producer has not written."""
        with suppress(self._kafka_exception):
            producer.purge()
            left = len(producer)
            while left > (left := producer.flush(1.0)):
                pass

    def take_reports(self) -> None:
        """Take the delivery reports that have arrived, on a thread that must not call hooks."""
        if self._unsettled:
            self._serve(0)

    def _poll(self, seconds: float) -> None:
        """Take the delivery reports, wait at most `seconds` for the first, and call the hooks."""
        self._serve(seconds)
        self._call_hooks()

    def _serve(self, seconds: float) -> None:
        """Run the pending delivery callbacks; librdkafka raises a fatal error that belongs to no message."""
        try:
            self._producer.poll(seconds)
        except self._kafka_exception as error:
            self._fatal = self._fatal or error.args[0].fatal()

    def _flush_producer(self, seconds: float) -> None:
        """Have librdkafka send the messages that wait for others, and wait at most `seconds`."""
        try:
            self._producer.flush(seconds)
        except self._kafka_exception as error:
            self._fatal = self._fatal or error.args[0].fatal()
        finally:
            self._call_hooks(seconds)

    def _call_hooks(self, timeout: float = 0) -> None:
        """Call the hooks for the deliveries that have failed since the last call, in the order of the reports.

        The hooks run outside of librdkafka's callbacks, because a hook that flushes or closes there ends the process.
        """
        if not self._unreported_failures or not self._hooks_lock.acquire(timeout=timeout):
            return
        try:
            with self._outbox.at_once():  # hooks may take long
                while self._unreported_failures:
                    self._failures.call_hooks([self._unreported_failures.popleft()])
        finally:
            self._hooks_lock.release()

    def _wait_until_settled(self, receipt: Receipt, timeout: float) -> bool:
        if threading.current_thread() is self._thread:  # a hook waits, and no other thread waits for reports
            deadline = time.monotonic() + timeout
            while not receipt.settled and (remaining := deadline - time.monotonic()) > 0:
                self._outbox.hand_over()
                self._poll(min(remaining, _POLL_SECONDS))
            return receipt.settled
        self._outbox.hand_over()
        with self._lock:
            self._awaited[receipt.number] += 1
            self._wake.set()
            try:
                return self._progress.wait_for(lambda: receipt.settled, timeout)
            finally:
                self._awaited[receipt.number] -= 1
                if not self._awaited[receipt.number]:
                    del self._awaited[receipt.number]

    def _run(self) -> None:
        while not self._closed or len(self._producer) or len(self._outbox):
            if self._outbox.is_under_load:
                time.sleep(BATCH_SECONDS)
            elif not self._awaited:
                self._wake.wait(_REPORT_SECONDS if self._unsettled else _POLL_SECONDS)
            self._wake.clear()
            self._connection.pauses.tick()
            self._timed.clear()
            try:
                self._outbox.tick()
                if self._awaited:
                    self._poll(BATCH_SECONDS if self._outbox.is_under_load else _POLL_SECONDS)
                else:
                    self._poll(0)
            except Exception:
                _logger.exception("A delivery report raised an exception. The next reports are handled.")
            if (self._fatal or self._topic_unknown) and not self._closed:
                with self._outbox.at_once():
                    self._repair()

    def _repair(self) -> None:
        """Replace a producer that cannot go on, and learn the topics; it takes up to some seconds."""
        if self._fatal:
            self._replace_producer()
        if self._topic_unknown:
            self._topic_unknown = False
            try:
                self._producer.list_topics(timeout=1.0)  # otherwise a new topic is unknown for minutes
            except self._kafka_exception:
                self._topic_unknown = True


class _ClosedProducer:
    """Stand-in for the producer of a closed delivery, with an empty queue that has no room."""

    def __len__(self) -> int:
        return 0

    def poll(self, _: float) -> int:
        """Return 0, the number of callbacks."""
        return 0

    flush = poll

    def produce(self, *_: object) -> None:
        """Take no message."""
        raise BufferError


class _Undelivered(Exception):
    """The reason why librdkafka could not deliver a message."""


def _explain(error: KafkaError) -> str:
    if error.name() in _UNKNOWN_TOPIC:
        return f"the topic does not exist ({error.str()}). Run `ofa setup-kafka` to create the topics."
    if error.name() == "_MSG_TIMED_OUT":
        return f"it was not acknowledged within {_DELIVERY_SECONDS} s. Run `ofa doctor` to check the broker."
    if error.name() in ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"):
        return f"the broker does not permit it ({error.str()}). Give this user the right to write."
    return f"{error.str()}. Read the broker's log, or run `ofa doctor`."
