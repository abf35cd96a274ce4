"""The way of messages from the threads that publish into the queue of librdkafka: one by one, under load in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openfactory.events.event import CANCEL_TAG, COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.receipt import Receipt

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

__all__ = ["BATCH_SECONDS", "Outbox", "Outgoing"]

#: Topic, value, key and partition of a message, and the receipt that is called with its delivery report.
Outgoing = tuple[str, bytes | str | None, str | bytes, int, Receipt]

#: Seconds that a message waits under load for others, at most.
BATCH_SECONDS = 0.003

# Number of messages that are handed over at once. librdkafka sends what it has as soon as it has something, and a
# request with few messages costs this process and the broker much more than the messages.
_BATCH = 256

# A process is under load from the time that it puts so many messages in so many seconds, until it puts fewer in
# `BATCH_SECONDS`.
_MANY, _MANY_SECONDS = 64, 0.004
_FEW = 16

# Tags of the events for which somebody waits, so that they end a batch.
_URGENT_TAGS = frozenset((COMMAND_TAG, REPLY_TAG, CANCEL_TAG))

_ANY_PARTITION = -1  # librdkafka chooses the partition by the key


class Outbox:
    """Hands messages to librdkafka, in the order of the calls of `put`.

    No thread waits for another: one of them hands over all messages, the others leave theirs to it.

    Args:
        producer: the producer of librdkafka.
        rejection: the exception by which it refuses a message; its argument is the error.
        on_rejected: called with the receipt of a refused message and the error; it must not put messages.
        on_load: called when the load begins. From then on `tick` must be called every `BATCH_SECONDS`, or the thread
            that calls it is in `at_once`.

    Attributes:
        is_under_load: whether messages wait for a batch.
    """

    def __init__(
        self,
        producer: Producer,
        rejection: type[Exception],
        on_rejected: Callable[[Receipt, KafkaError], object],
        on_load: Callable[[], object],
    ) -> None:
        self._producer = producer
        self._rejection = rejection
        self._on_rejected = on_rejected
        self._on_load = on_load
        self.is_under_load = False
        self._messages: deque[Outgoing] = deque()
        self._handing_over = threading.RLock()
        self._is_handing_over = False  # whether a call of `hand_over` runs, for a handler of a signal in its thread
        self._busy = 0  # calls of `at_once` that run
        self._put = 0  # counted while there is no load; not exactly, if several threads count
        self._looked_at = 0.0
        self._was_full = False  # whether a batch became full since the last tick

    def __len__(self) -> int:
        return len(self._messages)

    def put(
        self, topic: str, value: bytes | str | None, key: str | bytes, receipt: Receipt, event: AssetEvent | None
    ) -> bool:
        """Take a message, and hand it over at once, unless it waits for a batch; return False if there is no room."""
        self._messages.append((topic, value, key, _ANY_PARTITION, receipt))
        if not self.is_under_load or self._busy:
            self._put += 1
            if not self._put % _MANY:
                self._look_at_load()
        elif len(self._messages) >= _BATCH:
            self._was_full = True
        elif event is not None and event.tag not in _URGENT_TAGS:
            return True
        return self.hand_over()

    def hand_over(self) -> bool:
        """Hand over all messages, unless another thread does it; return False if the queue of librdkafka is full.

        A signal may raise an exception in the main thread after any call: a message stays until it is handed over, and
        the lock, if it is not released then, lets the same thread go on.
        """
        while self._messages and self._handing_over.acquire(blocking=False):
            try:
                if self._is_handing_over:
                    return True  # called by a handler of a signal: the call that it interrupts goes on
                self._is_handing_over = True
                try:
                    if not self._hand_over_all():
                        return False
                finally:
                    self._is_handing_over = False
            finally:
                self._handing_over.release()
        return True

    def _hand_over_all(self) -> bool:
        messages, produce = self._messages, self._producer.produce
        while messages:
            message = messages[0]
            try:
                produce(*message)  # type: ignore[arg-type]  # the receipt is also the callback
            except BufferError:
                return False
            except self._rejection as error:
                messages.popleft()
                self._on_rejected(message[-1], error.args[0])
            except BaseException:  # of a signal, after the call
                messages.popleft()
                raise
            else:
                messages.popleft()
        return True

    def tick(self) -> None:
        """End the load if few messages were put since the last call, and hand over all messages."""
        if not self._was_full and len(self._messages) < _FEW:
            self.is_under_load = False
        self._was_full = False
        self.hand_over()

    @contextmanager
    def at_once(self) -> Generator[None]:
        """Let no message wait for a batch while the calling thread may be too busy for `tick`."""
        self._busy += 1
        try:
            self.is_under_load = False
            self.hand_over()
            yield
        finally:
            self._busy -= 1

    def withdraw(self, receipt: Receipt) -> bool:
        """Take a message back, and return whether it was still here."""
        with self._handing_over:
            for index, message in enumerate(self._messages):
                if message[-1] is receipt:
                    del self._messages[index]
                    return True
        return False

    def clear(self) -> None:
        """Drop all messages; they are never sent."""
        self._messages.clear()

    def replace(self, producer: Producer) -> Producer:
        """Hand further messages to another producer, and return the former one."""
        with self._handing_over:
            former, self._producer = self._producer, producer
        return former

    def _look_at_load(self) -> None:
        now = time.monotonic()
        if now < self._looked_at + _MANY_SECONDS and not self._busy:
            self.is_under_load = True
            self._on_load()
        self._looked_at = now
