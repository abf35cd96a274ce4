"""Buffer of events between the engine that delivers them and a reader at its own pace, a thread or a coroutine."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import Protocol, Self

from openfactory.assets.all_assets import AllAssets
from openfactory.assets.subscriptions import Listener, Subscriptions
from openfactory.engines.base import Engine
from openfactory.events.event import AssetEvent
from openfactory.exceptions import SubscriptionError

__all__ = ["EventBuffer"]

_logger = logging.getLogger("openfactory.assets")

# A coroutine that always finds an event lets the others run after this number of events.
_READS_IN_A_ROW = 64


# Buffers for which coroutines wait. An event loop does not keep a task that waits, so the task could become garbage.
_awaited: set[EventBuffer] = set()


class _Asset(Protocol):
    """The part of an `Asset` that delivers events."""

    @property
    def _subscriptions(self) -> Subscriptions: ...


class _Source(Protocol):
    """Source of events: an asset, or all assets of an engine."""

    @property
    def name(self) -> str: ...

    def add_listener(
        self, listener: Listener, attribute_ids: Collection[str] | None, *, current_values: bool
    ) -> list[AssetEvent]: ...

    def remove_listener(self, listener: Listener) -> None: ...


class EventBuffer:
    """Bounded buffer of the events of some assets, or of all assets of an engine.

    Threads read it with `get`, coroutines with `async for`, on any event loop. A `with` block opens it and closes it.

    >>> from openfactory.assets import Asset, AssetAttribute
    >>> from openfactory.kafka import KSQLDBClient
    >>> with Asset("MILL", KSQLDBClient("memory://buffer")) as mill:
    ...     mill.add_attribute(AssetAttribute(id="speed", value=100, type="Samples", tag="Speed"))
    ...     with EventBuffer(mill, current_values=True) as events:
    ...         mill.speed = 120
    ...         [events.get(timeout=5).value for _ in range(2)]
    [100.0, 120.0]

    When the buffer is full, the oldest event is dropped, so a slow reader sees the newest events. Each drop is counted,
    and the first is logged. The value of a sample is a float if possible.

    Args:
        *sources: assets whose events enter the buffer, or an engine for the events of all assets.
        attributes: ids of the attributes whose events enter the buffer; all attributes by default.
        current_values: begin with the last event of each attribute.
        commands: include commands, replies and the contracts of methods, which are not attributes.
        max_queued: maximum number of new events in the buffer.

    Raises:
        SubscriptionError: `attributes` is a string, or `max_queued` is less than 1.

    Attributes:
        lost: number of events that were dropped.
        ended: whether no more events arrive, because the buffer or one of its assets is closed.
    """

    def __init__(
        self,
        *sources: _Asset | Engine,
        attributes: Collection[str] | None = None,
        current_values: bool = False,
        commands: bool = False,
        max_queued: int = 1000,
    ) -> None:
        if isinstance(attributes, str):
            raise SubscriptionError(f"attributes={attributes!r} is not a list of ids. Pass [{attributes!r}].")
        if max_queued < 1:
            raise SubscriptionError(f"max_queued={max_queued} leaves no room for an event. Pass 1 or more.")
        self.lost = 0
        self.ended = False
        self._sources: list[_Source] = [
            # Private, because each public name of an asset could be the id of an attribute.
            AllAssets(source) if isinstance(source, Engine) else source._subscriptions  # pyright: ignore[reportPrivateUsage]
            for source in sources
        ]
        self._name = ", ".join(source.name for source in self._sources)
        self._attribute_ids = None if attributes is None else frozenset(attributes)
        self._with_current_values = current_values
        self._with_commands = commands
        self._opened = False
        self._changed = threading.Condition()
        self._waiting_threads = 0
        self._waiting_coroutines: set[asyncio.Future[None]] = set()
        self._reads = 0
        self._current: deque[AssetEvent] = deque()
        self._events: deque[AssetEvent] = deque(maxlen=max_queued)
        # The current values for which older events, and their echoes, may still arrive.
        self._initial: dict[tuple[str, str], AssetEvent] = {}

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    # Reading

    def get(self, timeout: float | None = None) -> AssetEvent | None:
        """Wait for the next event and remove it from the buffer.

        Args:
            timeout: seconds to wait; no limit by default.

        Returns:
            the event, or None if no event arrived in time, or if the buffer has `ended` and is empty.
        """
        with self._changed:
            if not self._is_ready():
                self._waiting_threads += 1
                try:
                    self._changed.wait_for(self._is_ready, timeout)
                finally:
                    self._waiting_threads -= 1
            return self._next()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AssetEvent:
        self._reads += 1
        if self._reads % _READS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        while True:
            with self._changed:
                if (event := self._next()) is not None:
                    return event
                if self.ended:
                    raise StopAsyncIteration
                waiting = asyncio.get_running_loop().create_future()
                self._waiting_coroutines.add(waiting)
                _awaited.add(self)
            try:
                await waiting
            finally:
                with self._changed:
                    self._waiting_coroutines.discard(waiting)
                    if not self._waiting_coroutines:
                        _awaited.discard(self)

    # Opening and closing

    def open(self) -> None:
        """Receive events from now on; opening twice does nothing."""
        if self._opened:
            return
        self._opened = True
        try:
            for source in self._sources:
                self._current += source.add_listener(
                    self, self._attribute_ids, current_values=self._with_current_values
                )
        except BaseException:
            self.close()
            raise
        # New events queue behind the current values; an event that is in both is delivered once.
        with self._changed:
            self._initial = {(event.asset_uuid, event.id): event for event in self._current}
            new = [event for event in self._events if not self._is_initial(event)]
            self._events.clear()
            self._events.extend(new)

    def close(self) -> None:
        """Stop receiving events; those in the buffer can still be read."""
        for source in self._sources:
            source.remove_listener(self)
        self.end()

    # Called by the sources, on the thread that delivers the events

    def offer(self, event: AssetEvent) -> None:
        """Put an event into the buffer without waiting."""
        if not (self._with_commands or event.is_attribute):
            return
        with self._changed:
            if self.ended or (self._initial and self._is_initial(event)):
                return  # it displaces no other event and does not count as lost
            if len(self._events) == self._events.maxlen:
                self._count_loss()
            self._events.append(event)
            if self._waiting_threads or self._waiting_coroutines:
                self._wake_readers()

    def end(self) -> None:
        """Mark the buffer as ended and wake its readers."""
        with self._changed:
            self.ended = True
            self._wake_readers()

    # Internals; the caller owns the lock

    def _is_ready(self) -> bool:
        return bool(self._current or self._events or self.ended)

    def _next(self) -> AssetEvent | None:
        events = self._current or self._events
        return events.popleft().as_read() if events else None

    def _wake_readers(self) -> None:
        self._changed.notify_all()
        for waiting in self._waiting_coroutines:
            with suppress(RuntimeError):  # its event loop is closed already
                waiting.get_loop().call_soon_threadsafe(_wake, waiting)
        self._waiting_coroutines.clear()

    def _is_initial(self, event: AssetEvent) -> bool:
        """Return whether the current value with which the buffer began is this event or a later one."""
        attribute = event.asset_uuid, event.id
        initial = self._initial.get(attribute)
        if initial is None:
            return False
        if initial.position is not None and event.position is not None:
            return event.position <= initial.position
        # The current value is a write of this process without a position: skip its echo, unless another event came
        # before the echo.
        if (event.timestamp, event.value) == (initial.timestamp, initial.value):
            return True
        del self._initial[attribute]
        return False

    def _count_loss(self) -> None:
        self.lost += 1
        if self.lost == 1:
            _logger.warning(
                "A reader of %s lags: %d events wait, and the oldest are dropped from now on. "
                "Read faster, or raise max_queued.",
                self._name,
                len(self._events),
            )


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
