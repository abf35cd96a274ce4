"""An event loop in its own thread, for coroutines of a synchronous app."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """An event loop in its own thread, which runs coroutines that any thread submits.

    >>> async def answer() -> int:
    ...     return 42
    >>> with LoopThread("example") as loop:
    ...     loop.submit(answer()).result(timeout=5)
    42
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> LoopThread:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the loop.

        Returns:
            a future for the result or the exception of the coroutine; closing the loop cancels it.

        Raises:
            RuntimeError: the loop is closed.
        """
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        coroutine.close()
        raise RuntimeError(f"The loop of {self._thread.name} is closed. Start a new LoopThread.")

    def close(self, timeout: float = 5.0) -> None:
        """Cancel the coroutines that still run, and end the loop and its thread.

        Args:
            timeout: seconds to wait for the end of the thread.
        """
        with self._lock:
            if not self._closed:
                self._closed = True
                self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
