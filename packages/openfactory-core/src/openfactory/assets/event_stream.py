"""Events of an asset for coroutines: `async for event in asset.watch("status")`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import msgspec

from openfactory.events.attribute import sample_value
from openfactory.events.event import AssetEvent
from openfactory.exceptions import SubscriptionError

__all__ = ["EventStream"]

_logger = logging.getLogger("openfactory.assets")


class EventStream:
    """Asynchronous iterator over the events of a subscription, for the event loop in which it is created.

    When its queue is full, the oldest event is dropped, so a slow reader sees the newest events. Each drop is counted,
    and the first is logged.

    Args:
        name: name of the asset or attribute, for the log.
        max_queued: maximum number of events in the queue.
        stop: ends the subscription.

    Raises:
        SubscriptionError: `max_queued` is less than 1.

    Attributes:
        lost: number of events that were dropped.
    """

    def __init__(self, name: str, max_queued: int, stop: Callable[[EventStream], None]) -> None:
        if max_queued < 1:
            raise SubscriptionError(f"max_queued={max_queued} leaves no room for an event. Pass 1 or more.")
        self.lost = 0
        self._name = name
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._events: deque[AssetEvent] = deque(maxlen=max_queued)
        self._changed = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> AssetEvent:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def offer(self, event: AssetEvent) -> None:
        """Queue an event; may be called from any thread."""
        if self._closed:
            return
        if event.type == "Samples":
            event = msgspec.structs.replace(event, value=sample_value(event.value))
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._append, event)

    def close(self) -> None:
        """End the subscription; the iteration ends after the events in the queue."""
        self._stop(self)
        self.end()

    def end(self) -> None:
        """End the iteration after the events in the queue; may be called from any thread."""
        self._closed = True
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._changed.set)

    def _append(self, event: AssetEvent) -> None:
        if len(self._events) == self._events.maxlen:
            self.lost += 1
            if self.lost == 1:
                _logger.warning(
                    "The reader of %s lags: %d events wait, and the oldest are dropped from now on. "
                    "Read faster, or raise max_queued.",
                    self._name,
                    len(self._events),
                )
        self._events.append(event)
        self._changed.set()
