"""Threads for requests, which are reused for later requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

__all__ = ["RequestThreads"]

# The number of idle threads, and the seconds that each waits for another call. Starting a thread takes longer than
# answering a small request.
_MAX_IDLE = 32
_IDLE_SECONDS = 10.0


class RequestThreads:
    """Pool of threads that call a function without waiting: if all threads are busy, a new thread is started.

    Args:
        function: function to call; it must not raise an exception.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._free = 0  # number of idle threads minus the calls that are queued for them
        self._closed = False
        self._calls: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()

    def call(self, *arguments: Any) -> None:
        """Call the function on a thread, and return without waiting.

        Raises:
            RuntimeError: the machine cannot start another thread.
        """
        with self._lock:
            has_free_thread = self._free > 0
            self._free -= has_free_thread
        if not has_free_thread:
            threading.Thread(target=self._run, name="openfactory-request", daemon=True).start()
        self._calls.put(arguments)  # not as arguments of the thread, which would keep them until it ends

    def close(self) -> None:
        """End the threads: idle threads now, the others after their call."""
        with self._lock:
            self._closed = True
            for _ in range(self._free):
                self._calls.put(None)
            self._free = 0

    def _run(self) -> None:
        call = self._wait()
        while call is not None:
            self._function(*call)
            del call  # so that its arguments are freed while this thread is idle
            call = self._next()

    def _next(self) -> tuple[Any, ...] | None:
        """Wait for the next call and return its arguments, or None if the thread is to end."""
        with self._lock:
            if self._closed or self._free >= _MAX_IDLE:
                return None
            self._free += 1
        return self._wait()

    def _wait(self) -> tuple[Any, ...] | None:
        while True:
            try:
                return self._calls.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._free:
                        self._free -= 1
                        return None
            # A call has reserved this thread in the meantime. If another thread takes the call, this one is free again.
