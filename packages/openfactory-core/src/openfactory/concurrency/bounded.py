"""Calls of functions without a time limit, which the caller awaits for a bounded time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

__all__ = ["call_on_thread"]

P = ParamSpec("P")
T = TypeVar("T")


def call_on_thread(name: str, function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> Future[T]:
    """Call a function on a daemon thread.

    >>> call_on_thread("example", pow, 2, 10).result(timeout=5)
    1024

    Args:
        name: name of the thread.
        function: function to call, with the further arguments.

    Returns:
        a future for the result or the exception of the function. `result(timeout=…)` and `exception(timeout=…)` raise
        `TimeoutError` if the function does not return in time. Its thread then continues, until the process ends.

    Raises:
        RuntimeError: the thread cannot be started, because the machine has too many or the interpreter is exiting.
    """
    called: Future[T] = Future()
    called.set_running_or_notify_cancel()  # it cannot be cancelled

    def call() -> None:
        try:
            result = function(*arguments, **keywords)
        except BaseException as error:  # noqa: BLE001 - raised where the result is expected
            called.set_exception(error)
        else:
            called.set_result(result)

    threading.Thread(target=call, name=name, daemon=True).start()
    return called
