"""Delays between the attempts to reach a server that is away."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

# The delay between two attempts doubles from the shortest to the longest, in seconds.
_SHORTEST_DELAY = 0.5
_LONGEST_DELAY = 5.0


class Backoff:
    """The delay until the next attempt to reach one server."""

    def __init__(self) -> None:
        self._delay = _SHORTEST_DELAY

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt: longer each time, and random so that processes differ."""
        delay, self._delay = self._delay, min(2 * self._delay, _LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Start again with the shortest delay, after the server has been available for a while."""
        self._delay = _SHORTEST_DELAY
