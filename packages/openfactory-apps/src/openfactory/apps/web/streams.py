"""The open streams of an app."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from openfactory.assets import EventQueue

__all__ = ["OpenStreams"]


class OpenStreams:
    """The open streams of an app, which end when the app stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[EventQueue] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self, events: EventQueue) -> Generator[EventQueue]:
        """Open a queue for the block, and end it when the app stops."""
        with events:
            with self._lock:
                self._open.add(events)
                if self._ended:
                    events.end()
            try:
                yield events
            finally:
                with self._lock:
                    self._open.discard(events)

    def end(self) -> None:
        """End the open streams, and each stream that is opened later."""
        with self._lock:
            self._ended = True
            for events in self._open:
                events.end()
