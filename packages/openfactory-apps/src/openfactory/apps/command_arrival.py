"""What is known of a command when it arrives: its age, and the time at which its caller gives up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from openfactory.commands.waiting import TIMEOUT, seconds_in
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.events.event import AssetEvent

__all__ = ["Arrival"]


class Arrival(NamedTuple):
    """The age of a command that has arrived, and the time at which its caller gives up.

    Attributes:
        age: seconds since it was sent, by the time of the log; None if they are not known.
        timeout: seconds that the caller waits in all; infinity if the command does not tell.
        expires: time at which the caller gives up, by a clock that runs while the process is frozen.
    """

    age: float | None = None
    timeout: float = math.inf
    expires: float = math.inf

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
        return cls(seconds, timeout, boot_seconds() + timeout - (seconds or 0.0))

    @property
    def overdue(self) -> float:
        """Seconds since the caller has given up, below 0 as long as it waits."""
        return boot_seconds() - self.expires
