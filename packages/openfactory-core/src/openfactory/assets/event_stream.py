"""Events of an asset for coroutines: `async for event in asset.watch("status")`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openfactory.assets.event_buffer import EventBuffer

__all__ = ["EventStream"]


class EventStream(EventBuffer):
    """Asynchronous iterator over the events of a subscription, created in a running event loop.

    When its queue is full, the oldest event is dropped, so a slow reader sees the newest events. Each drop is counted,
    and the first is logged.

    Args:
        name: name of the asset or attribute, for the log.
        max_queued: maximum number of events in the queue.
        stop: ends the subscription.

    Raises:
        SubscriptionError: `max_queued` is less than 1.
        RuntimeError: no event loop is running.

    Attributes:
        lost: number of events that were dropped.
    """

    def __init__(self, name: str, max_queued: int, stop: Callable[[EventStream], None]) -> None:
        super().__init__(commands=True, max_queued=max_queued)
        asyncio.get_running_loop()
        self._name = name
        self._stop = stop

    def close(self) -> None:
        """End the subscription; the iteration ends after the events in the queue."""
        self._stop(self)
        super().close()
