"""The time that `publish` waits for room in a full queue: the engine's own, or less if the caller has less."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["room_deadline", "waiting_for_room"]

# Seconds that `publish` waits, and the seconds that it may block an event loop.
_SECONDS = 3.0
_SECONDS_IN_COROUTINE = 0.25

_limit: ContextVar[float] = ContextVar("openfactory_room_seconds", default=_SECONDS)


@contextmanager
def waiting_for_room(seconds: float) -> Generator[None]:
    """Let each `publish` in the block wait at most these seconds for room in the queue."""
    token = _limit.set(max(seconds, 0.0))
    try:
        yield
    finally:
        _limit.reset(token)


def room_deadline() -> float:
    """Return the value of `time.monotonic()` until which a full queue is awaited."""
    seconds = min(_SECONDS, _limit.get())
    if asyncio._get_running_loop() is not None:
        seconds = min(seconds, _SECONDS_IN_COROUTINE)
    return time.monotonic() + seconds
