"""Log lines about a resource that is away: a warning when that begins, and a line when it is over."""

from __future__ import annotations

import logging
import threading

from openfactory.concurrency.forked_child import reset_in_forked_child

__all__ = ["Outage"]


class Outage:
    """State of a server or another resource: available, or away for a reason. Any thread may change it.

    Args:
        logger: logger of the lines.
        meanwhile: sentence that follows the reason in the warning, such as "Retrying until it is back."
        over: text of the line at the end of an outage.

    Attributes:
        reason: the sentences with the cause and the remedy during an outage, otherwise empty.
    """

    def __init__(self, logger: logging.Logger, *, meanwhile: str = "", over: str) -> None:
        self.reason = ""
        self._logger = logger
        self._meanwhile = meanwhile
        self._over = over
        self._lock = threading.Lock()
        reset_in_forked_child(self)

    def begin(self, reason: str) -> None:
        """Begin an outage and log a warning; during an outage only the reason changes."""
        with self._lock:
            begins, self.reason = not self.reason, reason
        if begins:
            self._logger.warning("%s", f"{reason} {self._meanwhile}".rstrip())

    def end(self) -> None:
        """End the outage and log that it is over; without an outage, do nothing."""
        if not self.reason:
            return  # without the lock, because most calls come while all is well
        with self._lock:
            ends, self.reason = bool(self.reason), ""
        if ends:
            self._logger.info("%s", self._over)

    def reset_after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()
