"""The bounds of the log: how many samples and how many other events stay, and for how long.

They are in the file, so that all its processes follow the same bounds: those of the process that opened it last with
bounds in its URL.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from typing import NamedTuple

from openfactory.engines.embedded.transaction import transaction

__all__ = ["DEFAULT_EVENTS", "Bounds", "StoredBounds", "bounds_of", "read_bounds", "store_bounds"]

#: Number of samples, and of other events, that stay in the log unless a URL has bounds.
DEFAULT_EVENTS = 1_000_000

_READ = "SELECT events, days, samples, samples_days, pid, host, at FROM bounds"


class Bounds(NamedTuple):
    """The bounds of a log.

    Attributes:
        events: number of events, besides samples, that stay.
        days: days that they stay after their commit, or None for no limit.
        samples: number of samples that stay.
        samples_days: days that they stay after their commit, or None for no limit.
    """

    events: int = DEFAULT_EVENTS
    days: float | None = None
    samples: int = DEFAULT_EVENTS
    samples_days: float | None = None

    @classmethod
    def of(
        cls,
        events: int | None = None,
        days: float | None = None,
        samples: int | None = None,
        samples_days: float | None = None,
    ) -> Bounds:
        """Return bounds of which only some are given. Those of samples are by default those of other events."""
        events = DEFAULT_EVENTS if events is None else events
        return cls(events, days, samples or events, samples_days or days)

    def number(self, *, of_samples: bool) -> int:
        """Return the number of samples, or of other events, that stay."""
        return self.samples if of_samples else self.events

    def age(self, *, of_samples: bool) -> float | None:
        """Return the days that samples, or other events, stay."""
        return self.samples_days if of_samples else self.days

    @property
    def shortest_age(self) -> float | None:
        """The smaller number of days, or None without a limit."""
        return min((days for days in (self.days, self.samples_days) if days is not None), default=None)

    def options(self) -> dict[str, float | None]:
        """Return the bounds by the names of the options of a URL."""
        return {
            "keep_events": self.events,
            "keep_days": self.days,
            "keep_samples": self.samples,
            "keep_samples_days": self.samples_days,
        }

    def __str__(self) -> str:
        """Return the bounds as options of a URL.

        >>> str(Bounds(samples_days=7))
        'keep_events=1000000&keep_samples=1000000&keep_samples_days=7'
        """
        return "&".join(f"{name}={value:.15g}" for name, value in self.options().items() if value is not None)


class StoredBounds(NamedTuple):
    """The bounds in a file, and the process that has set them.

    Attributes:
        bounds: the bounds.
        pid: id of the process.
        host: host of the process.
        at: time of the change, in seconds since 1970.
    """

    bounds: Bounds
    pid: int
    host: str
    at: float

    @property
    def origin(self) -> str:
        """The process, for a text."""
        return f"process {self.pid} on host {self.host}"


def read_bounds(connection: sqlite3.Connection) -> StoredBounds | None:
    """Return the bounds in a file, or None if no process has set any."""
    row = connection.execute(_READ).fetchone()
    return None if row is None else StoredBounds(Bounds(*row[:4]), *row[4:])


def bounds_of(stored: StoredBounds | None) -> Bounds:
    """Return the bounds that count: those in the file, or the default if no process has set any."""
    return Bounds() if stored is None else stored.bounds


def store_bounds(connection: sqlite3.Connection, bounds: Bounds) -> None:
    """Set the bounds in a file, in the name of this process. The caller has the lock."""
    with transaction(connection):
        connection.execute("DELETE FROM bounds")
        row = (*bounds, os.getpid(), socket.gethostname(), time.time())
        connection.execute("INSERT INTO bounds VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE indexed SET applied = -1")
