"""The arrival of a command: its age then, and the time at which its caller gives up."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from openfactory.commands.waiting import SENT, TIMEOUT, seconds_in, text_in
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.events.event import AssetEvent

__all__ = ["Arrival"]

# The stamp of a command may be later than its sending by this number of seconds, see `LogClock.latest`.
_STAMP_SECONDS = 0.25


class Arrival(NamedTuple):
    """The age of a command that has arrived, and the time at which its caller gives up.

    Attributes:
        age: seconds since it was sent, by the time of the log; None if they are not known.
        timeout: seconds that the caller waits in all; infinity if the command does not tell.
        expires: time at which the caller gives up, by a clock that runs while the process is frozen.
        is_stamped: whether the command tells when it was sent, so that its age includes the time before its write.
    """

    age: float | None = None
    timeout: float = math.inf
    expires: float = math.inf
    is_stamped: bool = True

    @classmethod
    def of(cls, event: AssetEvent, age: Callable[[AssetEvent], float | None]) -> Arrival:
        """Return the arrival of a command, now.

        Args:
            event: the event of the command.
            age: see `Engine.age`.
        """
        timeout = seconds_in(event, TIMEOUT)
        if timeout is None:
            return cls()
        seconds = age(event)
        expires = boot_seconds() + timeout - (seconds or 0.0)
        return cls(seconds, timeout, expires, text_in(event, SENT) is not None)

    @property
    def overdue(self) -> float:
        """Seconds since the caller has given up, below 0 as long as it waits."""
        return boot_seconds() - self.expires

    def is_doubtful(self, sent: datetime) -> bool:
        """Return whether the caller may have given up before the command was written.

        The time of sending is known to a quarter of a second. If the command does not tell it, the clocks of sender and
        app decide, which may differ.

        Args:
            sent: the time by the sender's clock.
        """
        if not self.is_stamped:
            return (datetime.now(UTC) - sent).total_seconds() >= self.timeout
        left = -self.overdue
        return left < _STAMP_SECONDS and (self.age or 0.0) > left
