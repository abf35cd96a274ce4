"""Wait for a condition in a test."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["eventually"]


def eventually(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait until a condition is true.

    >>> eventually(lambda: True)

    Args:
        condition: called again and again, until its result is true.
        timeout: seconds to wait. The default is long enough for a busy machine.

    Raises:
        AssertionError: the condition did not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"The condition did not become true within {timeout:g} s.")
        time.sleep(0.005)
