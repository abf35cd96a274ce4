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
    """The events of a subscription, one after the other, on the loop that reads them.

    It holds so many that have not been read. When it is full the oldest goes: a reader that lags sees the newest.
    Each loss is counted, and the first is logged.

    Args:
        name: what is watched, for the log.
        max_queued: how many events may wait.
        stop: ends the subscription.

    Raises:
        SubscriptionError: no event could wait.

    Attributes:
        lost: how many events went unread.
    """

    def __init__(self, name: str, max_queued: int, stop: Callable[[EventStream], None]) -> None:
        if max_queued < 1:
            raise SubscriptionError(f"{max_queued} events cannot wait to be read. Give max_queued 1 or more.")
        self.lost = 0
        self._name = name
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._events: deque[AssetEvent] = deque(maxlen=max_queued)
        self._news = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> AssetEvent:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def offer(self, event: AssetEvent) -> None:
        """Take an event; from any thread."""
        if self._closed:
            return
        if event.type == "Samples":
            event = msgspec.structs.replace(event, value=sample_value(event.value))
        with suppress(RuntimeError):  # the loop was closed before
            self._loop.call_soon_threadsafe(self._take, event)

    def close(self) -> None:
        """Hear no more; what is queued can still be read, then the iteration ends."""
        self._stop(self)
        self.end()

    def end(self) -> None:
        """Let the iteration end; from any thread."""
        self._closed = True
        with suppress(RuntimeError):  # the loop was closed before
            self._loop.call_soon_threadsafe(self._news.set)

    def _take(self, event: AssetEvent) -> None:
        if len(self._events) == self._events.maxlen:
            self.lost += 1
            if self.lost == 1:
                _logger.warning(
                    "The reader of %s lags: %d events wait, and from now on the oldest go. "
                    "Read faster, or allow more by max_queued.",
                    self._name,
                    len(self._events),
                )
        self._events.append(event)
        self._news.set()
