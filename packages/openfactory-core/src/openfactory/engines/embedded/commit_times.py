"""The times at which positions of the log were committed, which decide when events are too old.

The timestamps of events come from the clocks of machines.
"""

from __future__ import annotations

import math
import sqlite3
import time

__all__ = ["CommitTimes", "forget_times", "position_before"]

# The time of the commits is noted this often within the days to keep, so events are kept that much too long at most.
_NOTES = 1_000

# Seconds between two notes without a limit, so that days that are given later count for earlier events too, and the
# number of such notes that are kept.
_INTERVAL = 600.0
_KEPT = 100_000

# Another process may have noted the time. A note of a clock that was ahead does not count.
_IS_NOTED = "SELECT 1 FROM committed WHERE at > ? AND at <= ? LIMIT 1"
_NOTE = "INSERT OR IGNORE INTO committed VALUES (?, ?)"

# The newest position that is too old: before the first note that is not. A clock that was ahead or behind for a while
# has left notes with a wrong time between those with the right time; they neither keep events nor remove them.
_TOO_OLD = """
SELECT coalesce(max(id), 0) FROM committed WHERE at <= :oldest
AND id < coalesce((SELECT min(id) FROM committed WHERE at > :oldest AND at <= :now), 9223372036854775807)
"""


_FORGET = """
DELETE FROM committed WHERE id < coalesce(?, (SELECT id FROM committed ORDER BY id DESC LIMIT 1 OFFSET ?))
"""


class CommitTimes:
    """Notes of the times of commits, in the table `committed`.

    Attributes:
        interval: seconds between two notes.
    """

    def __init__(self) -> None:
        self.interval = _INTERVAL
        self._noted_at = -math.inf
        self._last_commit: tuple[int, float] | None = None  # its position and time

    def keep_apart(self, days: float | None) -> None:
        """Note times so often that events of so many days can be told from older ones; None for no limit."""
        self.interval = _INTERVAL if days is None else days * 86_400 / _NOTES

    def note(self, connection: sqlite3.Connection, newest: int) -> bool:
        """Note the time of a commit if a note is due, and return whether it was.

        Args:
            connection: connection for writing, whose lock the caller has.
            newest: newest position of the commit.
        """
        now = time.time()
        last, self._last_commit = self._last_commit, (newest, now)
        if 0 <= now - self._noted_at < self.interval:
            return False
        self._noted_at = now
        if last is not None and not 0 <= now - last[1] < self.interval:  # otherwise a time without commits would count
            connection.execute(_NOTE, last)
        if connection.execute(_IS_NOTED, (now - self.interval, now)).fetchone() is None:
            connection.execute(_NOTE, self._last_commit)
        return True


def forget_times(connection: sqlite3.Connection, before: int | None) -> None:
    """Delete the notes before a position, or with None the oldest if there are very many. The caller has the lock."""
    connection.execute(_FORGET, (before, _KEPT))


def position_before(connection: sqlite3.Connection, days: float | None) -> int:
    """Return the position up to which the log is older than some days; 0 without a limit."""
    if days is None:
        return 0
    now = time.time()
    position: int = connection.execute(_TOO_OLD, {"oldest": now - days * 86_400, "now": now}).fetchone()[0]
    return position
