"""From publish to acknowledgement: one idempotent producer a process and broker, and what it reports."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.failures import DeliveryFailures
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError, DeliveryTimeout, EngineClosedError

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

# Publishers handle reports as well. While they publish that much, the thread for reports keeps out of their way for a
# moment: each time it woke for a few of them, they would have to wait for the interpreter.
_PUBLISHES_BETWEEN_REPORTS = 128
_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 0.005

_NO_TOPIC = ("_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_OR_PART")


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
        self._topic_unknown = False
        self._last: dict[tuple[str, str | bytes], KafkaReceipt] = {}  # what stands last in the queue of each key
        self._failures = DeliveryFailures()
        self._failed_unreported: deque[tuple[list[AssetEvent], DeliveryError]] = deque()
        self._calling_hooks = threading.RLock()
        self.on_delivery_error = self._failures.on_delivery_error
        self._failed = 0
        self.furthest: dict[tuple[str, int], int] = {}  # what this process knows to be written, by topic and partition
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._run, name="openfactory-delivery", daemon=True)
        self._thread.start()
        reset_in_forked_child(self)

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
            full, refused = False, None
            try:
                self._producer.produce(topic, value, key, on_delivery=receipt)
                self._last[topic, key] = receipt
            except BufferError:
                full = True
            except self._refusal as error:
                refused = error.args[0]
        if full:
            refused = self._publish_when_there_is_room(topic, key, value, receipt)
        if refused is not None:
            self._fail(receipt, refused)
            receipt.delivery = receipt.event = None
            self._call_hooks()
        if not number % _PUBLISHES_BETWEEN_REPORTS:
            self._take_reports(0)
        return receipt

    def report(self, receipt: KafkaReceipt, error: KafkaError | None, message: Message) -> None:
        """Librdkafka tells what became of a message."""
        if error is None:
            offset, place = message.offset(), (message.topic(), message.partition())
            if offset is None:  # the broker had it already and has forgotten where: behind what was reported before
                offset = self.furthest.get(place, 0)  # type: ignore[arg-type]
            receipt.position = self.furthest[place] = offset + 1  # type: ignore[index]
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
        with self._lock:
            # A key's messages are reported in their order. Others may go on publishing, and the queue is never empty.
            self._last = {place: receipt for place, receipt in self._last.items() if not receipt.settled}
            before = list(self._last.values())
        while left := self._flush_some(max(min(deadline - time.monotonic(), _POLL_SECONDS), 0)):
            before = [receipt for receipt in before if not receipt.settled]
            if not before and not self._closed:
                break
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
                self._flush_some(1.0)
            if threading.current_thread() is not self._thread:  # a hook for failed deliveries may close
                self._thread.join(timeout=2 * _POLL_SECONDS)
            with self._lock:
                self._last.clear()
                self._producer = _Ended()  # type: ignore[assignment]  # its threads and connections end with it

    def reset_after_fork(self) -> None:
        """A fork's copy of a producer belongs to the parent, and so do its threads."""
        self._closed = self._forked = True

    def _new_producer(self) -> Producer:
        from confluent_kafka import KafkaException, Producer

        self._refusal = KafkaException
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
    ) -> KafkaError | None:
        deadline = time.monotonic() + _QUEUE_SECONDS
        while True:
            self._take_reports(0.05)
            try:
                with self._lock:
                    if self._closed:
                        raise EngineClosedError("The engine was closed before this event found room. Open it again.")
                    self._producer.produce(topic, value, key, on_delivery=receipt)
                    self._last[topic, key] = receipt
                    return None
            except self._refusal as error:
                return error.args[0]  # type: ignore[no-any-return]
            except BufferError as error:
                if time.monotonic() >= deadline:
                    self._failed += 1
                    why = self._connection.trouble or "the broker takes them too slowly."
                    raise DeliveryTimeout(
                        f"{self.queued} events wait to be written and there is no room for more: {why} "
                        "Publish less at once, or call flush() in between.",
                        pending=self.queued,
                    ) from error

    def _fail(self, receipt: KafkaReceipt, error: KafkaError) -> None:
        events = [receipt.event] if isinstance(receipt.event, AssetEvent) else []
        receipt.error = failure = self._failures.add(events, 1, _Undelivered(_why(error)))
        self._failed_unreported.append((events, failure))
        self._failed += 1
        if error.fatal() or error.name() == "_FATAL":
            self._fatal = True
        if error.name() in _NO_TOPIC:
            self._topic_unknown = True

    def _renew(self) -> None:
        """After an error that ends a producer, as when its topic was deleted: another one takes over."""
        with self._lock:
            if not self._fatal:
                return
            self._fatal = False
            old, self._producer = self._producer, self._new_producer()
        _logger.warning("The producer had to be made anew after an error that it could not get over.")
        with suppress(self._refusal):
            old.purge()
            old.flush(1.0)

    def _take_reports(self, seconds: float) -> None:
        """Have librdkafka tell what it has to tell, which is raised where no message can tell it."""
        try:
            self._producer.poll(seconds)
        except self._refusal as error:
            self._fatal = self._fatal or error.args[0].fatal()
        self._call_hooks()

    def _flush_some(self, seconds: float) -> int:
        """Deliver for so long; gives back how many messages wait."""
        try:
            return self._producer.flush(seconds)
        except self._refusal as error:
            self._fatal = self._fatal or error.args[0].fatal()
            return len(self._producer)
        finally:
            self._call_hooks(seconds)

    def _call_hooks(self, timeout: float = -1) -> None:
        """Call the hooks for what has failed since the last call, in the order of the reports.

        A hook may flush or close. In a callback of librdkafka that would end the process.
        """
        if not self._failed_unreported or not self._calling_hooks.acquire(timeout=timeout):
            return
        try:
            while self._failed_unreported:
                self._failures.call_hooks(*self._failed_unreported.popleft())
        finally:
            self._calling_hooks.release()

    def _await_settled(self, receipt: Receipt, timeout: float) -> bool:
        with self._lock:
            self._waiting += 1
            try:
                return self._progress.wait_for(lambda: receipt.settled, timeout)
            finally:
                self._waiting -= 1

    def _run(self) -> None:
        published = self._published
        while not self._closed or len(self._producer):
            try:
                self._take_reports(_POLL_SECONDS)
            except Exception:
                _logger.exception("A report of a delivery could not be taken; the next ones are.")
            if self._fatal and not self._closed:
                self._renew()
            if self._topic_unknown and not self._closed:
                self._topic_unknown = False
                with suppress(self._refusal):
                    self._producer.list_topics(timeout=1.0)  # else a topic that is made is not seen for minutes
            before, published = published, self._published
            if published >= before + _PUBLISHES_BETWEEN_REPORTS:
                time.sleep(_PAUSE_SECONDS)


class _Ended:
    """Stands in the place of a producer that was closed: nothing waits in it."""

    def __len__(self) -> int:
        return 0

    def poll(self, _: float) -> int:
        """Nothing is told any more."""
        return 0

    flush = poll


class _Undelivered(Exception):
    """Why librdkafka could not deliver a message."""


def _why(error: KafkaError) -> str:
    if error.name() in _NO_TOPIC:
        return f"the broker has no such topic ({error.str()}). Run `ofa setup-kafka` to make the topics."
    if error.name() == "_MSG_TIMED_OUT":
        return f"it was not acknowledged within {_DELIVERY_SECONDS} s. See whether the broker runs: `ofa doctor`."
    if error.name() in ("TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"):
        return f"the broker does not allow it ({error.str()}). Give this user the right to write."
    return f"{error.str()}. See the broker's log, or run `ofa doctor`."
