"""Waiting in tests: for a condition, with a bound, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["eventually"]


def eventually(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Come back as soon as a condition holds; the bound is one that a busy machine keeps.

    >>> eventually(lambda: True)

    Raises:
        AssertionError: it did not hold within so many seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise AssertionError(f"it did not come to be within {timeout:g} s")
        time.sleep(0.005)
