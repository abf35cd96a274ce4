"""The threads that answer requests: each answers one at a time, and waits a while for the next."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["RequestThreads"]

# So many threads wait for a next call at most, and each for so long, in seconds. To start one costs more than to answer
# a small request.
_KEPT = 32
_KEPT_SECONDS = 10.0


class RequestThreads:
    """Calls a function in threads: at once, however many calls run, because who finds no thread waiting gets a new one.

    What a call sets in its context (`contextvars`) ends with it, as it would with a thread of its own.

    Args:
        function: what is called; it lets no exception out.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._free = 0  # threads that wait, less the calls that wait for them
        self._closed = False
        self._calls: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()

    def call(self, *arguments: Any) -> None:
        """Call the function with these, and come back at once.

        Raises:
            RuntimeError: the machine gives no further thread.
        """
        with self._lock:
            is_one_free = self._free > 0
            self._free -= is_one_free
        if not is_one_free:
            threading.Thread(target=self._run, name="openfactory-request", daemon=True).start()
        self._calls.put(arguments)  # not given to the thread itself, which would keep them as long as it lives

    def close(self) -> None:
        """Let the threads end: those that wait now, the others after their call."""
        with self._lock:
            self._closed = True
            for _ in range(self._free):
                self._calls.put(None)
            self._free = 0

    def _run(self) -> None:
        call = self._calls.get()
        while call is not None:
            contextvars.Context().run(self._function, *call)
            del call  # nothing of it is kept while this thread waits
            call = self._next()

    def _next(self) -> tuple[Any, ...] | None:
        """What to call now, or None to end."""
        with self._lock:
            if self._closed or self._free >= _KEPT:
                return None
            self._free += 1
        try:
            return self._calls.get(timeout=_KEPT_SECONDS)
        except Empty:
            with self._lock:
                if self._free:
                    self._free -= 1
                    return None
        return self._calls.get()  # a call has counted on this thread just now
