"""From publish to acknowledgement: one idempotent producer a process and broker, and what it reports."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from openfactory.assets.event import AssetEvent
from openfactory.assets.receipt import Receipt
from openfactory.concurrency.forked_child import forget_in_forked_child
from openfactory.engines.failures import DeliveryFailures
from openfactory.exceptions import DeliveryTimeout, EngineClosedError
from openfactory.kafka.connection import BrokerConnection

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

__all__ = ["Delivery", "KafkaReceipt"]

_logger = logging.getLogger("openfactory.kafka")

# What may wait to be delivered before publish makes its caller wait, and for how long it does, in seconds.
_QUEUE_MESSAGES = 200_000
_QUEUE_KILOBYTES = 64 * 1024
_QUEUE_SECONDS = 3.0

# How long a message is tried to be delivered before it is called failed, in seconds.
_DELIVERY_SECONDS = 120

# Publishers handle reports as well: the thread for them gets the interpreter only now and then while others compute.
_PUBLISHES_BETWEEN_REPORTS = 128
_POLL_SECONDS = 0.1


class KafkaReceipt(Receipt, eq=False, gc=False):
    """A receipt that is called with the report: one object a message instead of three."""

    delivery: Any = None
    event: AssetEvent | None = None

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Take the report of librdkafka."""
        self.delivery.report(self, error, message)


class Delivery:
    """Produces messages in the order in which they were published, and knows what became of each.

    Args:
        connection: the cluster.
        linger_ms: how long a message may wait for others to go with.
    """

    def __init__(self, connection: BrokerConnection, linger_ms: float = 0) -> None:
        self._connection = connection
        self._linger_ms = linger_ms
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._waiting = 0
        self._published = 0
        self._closed = False
        self._forked = False
        self._fatal = False
        self._failures = DeliveryFailures()
        self.on_delivery_error = self._failures.on_delivery_error
        self._failed = 0
        self.furthest: dict[tuple[str, int], int] = {}  # what this process knows to be written, by topic and partition
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._run, name="openfactory-delivery", daemon=True)
        self._thread.start()
        forget_in_forked_child(self)

    @property
    def queued(self) -> int:
        """How many published messages wait."""
        return 0 if self._forked else len(self._producer)

    @property
    def counters(self) -> dict[str, int]:
        """What became of the messages that do not wait any more."""
        return {"written": self._published - self.queued - self._failed, "failed": self._failed}

    def publish(
        self, topic: str, key: str | bytes, value: bytes | str | None, event: AssetEvent | None = None
    ) -> KafkaReceipt:
        """Hand a message over; waits only while the queue is full.

        Raises:
            DeliveryTimeout: it stayed full.
            EngineClosedError: nothing is taken any more.
        """
        if self._fatal:
            self._renew()
        with self._lock:  # receipts are numbered in the order of the queue
            if self._closed:
                raise EngineClosedError("The engine is closed and takes no more events. Open it again to write.")
            self._published = number = self._published + 1
            receipt = KafkaReceipt(number, self._await_settled, delivery=self, event=event)
            try:
                self._producer.produce(topic, value, key, on_delivery=receipt)
            except BufferError:
                full = True
            else:
                full = False
        if full:
            self._publish_when_there_is_room(topic, key, value, receipt)
        if not number % _PUBLISHES_BETWEEN_REPORTS:
            self._producer.poll(0)
        return receipt

    def report(self, receipt: KafkaReceipt, error: KafkaError | None, message: Message) -> None:
        """Librdkafka tells what became of a message."""
        if error is None:
            offset = message.offset()
            receipt.position = offset + 1  # type: ignore[operator]  # it has one by now
            self.furthest[message.topic(), message.partition()] = offset + 1  # type: ignore[index,operator]
            if self._connection.trouble:
                self._connection.on_answer()
        else:
            self._fail(receipt, error)
        receipt.delivery = receipt.event = None
        if self._waiting:
            with self._lock:
                self._progress.notify_all()

    def flush(self, timeout: float) -> None:
        """Wait until all that was published is settled, and raise what failed since the last flush."""
        deadline = time.monotonic() + timeout
        while left := self._producer.flush(max(min(deadline - time.monotonic(), 0.1), 0)):
            if time.monotonic() >= deadline:
                why = self._connection.trouble or "the broker has not acknowledged them yet."
                raise DeliveryTimeout(
                    f"{left} published events were not written within {timeout:g} s: {why} "
                    "Wait longer, or look at the engine's health().",
                    pending=left,
                )
        self._failures.raise_if_any()

    def close(self, timeout: float) -> None:
        """Deliver what waits, then end the thread; what cannot be delivered in time is called failed."""
        with self._lock:
            self._closed = True
        try:
            self.flush(timeout)
        finally:
            if len(self._producer):
                self._producer.purge()
                self._producer.flush(1.0)
            self._thread.join(timeout=2 * _POLL_SECONDS)

    def forget_in_child(self) -> None:
        """A fork's copy of a producer belongs to the parent, and so do its threads."""
        self._closed = self._forked = True

    def _new_producer(self) -> Producer:
        from confluent_kafka import Producer

        return Producer(
            self._connection.configuration(
                **{
                    "enable.idempotence": True,  # which asks for acks=all
                    "partitioner": "murmur2_random",
                    "linger.ms": self._linger_ms,
                    "delivery.timeout.ms": _DELIVERY_SECONDS * 1_000,
                    "queue.buffering.max.messages": _QUEUE_MESSAGES,
                    "queue.buffering.max.kbytes": _QUEUE_KILOBYTES,
                }
            )
        )

    def _publish_when_there_is_room(
        self, topic: str, key: str | bytes, value: bytes | str | None, receipt: KafkaReceipt
    ) -> None:
        deadline = time.monotonic() + _QUEUE_SECONDS
        while True:
            self._producer.poll(0.05)
            try:
                return self._producer.produce(topic, value, key, on_delivery=receipt)
            except BufferError as error:
                if time.monotonic() >= deadline:
                    why = self._connection.trouble or "the broker takes them too slowly."
                    raise DeliveryTimeout(
                        f"{self.queued} events wait to be written and there is no room for more: {why} "
                        "Publish less at once, or call flush() in between.",
                        pending=self.queued,
                    ) from error

    def _fail(self, receipt: KafkaReceipt, error: KafkaError) -> None:
        events = [receipt.event] if isinstance(receipt.event, AssetEvent) else []
        receipt.error = self._failures.add(events, 1, _Undelivered(_why(error)))
        self._failed += 1
        if error.fatal():
            self._fatal = True

    def _renew(self) -> None:
        """After an error that ends a producer, as when its topic was deleted: another one takes over."""
        with self._lock:
            if not self._fatal:
                return
            self._fatal = False
            old, self._producer = self._producer, self._new_producer()
        _logger.warning("The producer had to be made anew after an error that it could not get over.")
        old.purge()
        old.flush(1.0)

    def _await_settled(self, receipt: Receipt, timeout: float) -> bool:
        with self._lock:
            self._waiting += 1
            try:
                return self._progress.wait_for(lambda: receipt.settled, timeout)
            finally:
                self._waiting -= 1

    def _run(self) -> None:
        while not self._closed or len(self._producer):
            self._producer.poll(_POLL_SECONDS)


class _Undelivered(Exception):
    """Why librdkafka could not deliver a message."""


def _why(error: KafkaError) -> str:
    if error.name() in ("_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"):
        return f"the broker has no such topic ({error.str()}). Run `ofa setup-kafka` to make the topics."
    if error.name() == "_MSG_TIMED_OUT":
        return f"it was not acknowledged within {_DELIVERY_SECONDS} s. See whether the broker runs: `ofa doctor`."
    if error.name() in ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"):
        return f"the broker does not allow it ({error.str()}). Give this user the right to write."
    return f"{error.str()}. See the broker's log, or run `ofa doctor`."
