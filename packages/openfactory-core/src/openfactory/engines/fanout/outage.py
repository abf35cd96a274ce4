"""What is said of a server that stays away: one line when it goes, one when it is back."""

from __future__ import annotations

import logging
import random

__all__ = ["Outage"]

_logger = logging.getLogger("openfactory.engines.fanout")

# The time between two attempts doubles from the first to the second, in seconds.
_SHORTEST_WAIT = 0.5
_LONGEST_WAIT = 5.0


class Outage:
    """Knows whether a server is away, says so once, and how long to wait until it is tried again.

    Attributes:
        reason: a sentence that says why it is away, empty where it is not.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._wait = _SHORTEST_WAIT

    def begins(self, reason: str) -> None:
        """Warn, unless it is the same outage; its reason may change while it lasts."""
        if not self.reason:
            _logger.warning("%s It is tried again until it is back.", reason)
        self.reason = reason

    def ends(self, text: str) -> None:
        """Say that it is back, if it was away."""
        if self.reason:
            _logger.info("%s", text)
        self.reason = ""

    def next_wait(self) -> float:
        """How long to wait now, in seconds: longer each time, and not the same in all processes."""
        wait, self._wait = self._wait, min(2 * self._wait, _LONGEST_WAIT)
        return wait * random.uniform(0.5, 1.0)

    def start_over(self) -> None:
        """Wait the shortest time again: what has been good for long is not likely to fail at once."""
        self._wait = _SHORTEST_WAIT
