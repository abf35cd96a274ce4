"""Log lines and retry delays for a server that is away: one line when it goes away, and one when it is back."""

from __future__ import annotations

import logging
import random

__all__ = ["Outage"]

_logger = logging.getLogger("openfactory.engines.fanout")

# The delay between two attempts doubles from the shortest to the longest, in seconds.
_SHORTEST_DELAY = 0.5
_LONGEST_DELAY = 5.0


class Outage:
    """State of one server: available or away, with the delay until the next attempt to connect.

    Attributes:
        reason: the sentences with the cause and the remedy while the server is away, otherwise empty.
    """

    def __init__(self) -> None:
        self.reason = ""
        self._delay = _SHORTEST_DELAY

    def begin(self, reason: str) -> None:
        """Begin an outage and log a warning; during an outage only the reason changes."""
        if not self.reason:
            _logger.warning("%s Retrying until it is back.", reason)
        self.reason = reason

    def end(self, text: str) -> None:
        """End the outage and log a text; without an outage, do nothing."""
        if self.reason:
            _logger.info("%s", text)
        self.reason = ""

    def next_delay(self) -> float:
        """Return the seconds to wait before the next attempt: longer each time, and random so that processes differ."""
        delay, self._delay = self._delay, min(2 * self._delay, _LONGEST_DELAY)
        return delay * random.uniform(0.5, 1.0)

    def reset_delay(self) -> None:
        """Start again with the shortest delay, after the server has been available for a while."""
        self._delay = _SHORTEST_DELAY
