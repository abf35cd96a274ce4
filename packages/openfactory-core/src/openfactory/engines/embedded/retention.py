"""Limits on the size of the file: the log is trimmed a little after each commit, and the WAL is checkpointed.

Events are trimmed by their number, or by the time of their commits. Their timestamps come from the clocks of machines.

This runs in the writer's thread, which owns the lock meanwhile. An error here must not make a commit fail.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time

from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.logs.outage import Outage

__all__ = ["WAL_CHECKPOINT_BYTES", "WAL_TRUNCATE_BYTES", "Retention"]

_logger = logging.getLogger("openfactory.engines")

# Number of events written between two trims, and trimmed at once. It is small because a trim occupies the lock.
_TRIM_EVENTS = 1_000

# Sizes of the WAL from which a checkpoint is tried, waits for readers, and is reported as overdue.
WAL_CHECKPOINT_BYTES = 4 * 1024 * 1024
WAL_TRUNCATE_BYTES = 64 * 1024 * 1024
_WAL_WARNING_BYTES = 512 * 1024 * 1024

# Number of events written between two looks at the size of the WAL.
_EVENTS_BETWEEN_CHECKS = 2_000

# The time of the commits is noted this often within keep_days, so the log is trimmed that much too late at most.
_NOTES = 1_000

# The table is created when keep_days is first used, so that earlier versions can still open the file.
_CREATE_NOTES = "CREATE TABLE IF NOT EXISTS committed (id INTEGER PRIMARY KEY, at REAL NOT NULL)"

# Another process may have noted the time. A note of a clock that was ahead does not count.
_IS_NOTED = "SELECT 1 FROM committed WHERE at > ? AND at <= ? LIMIT 1"
_NOTE = "INSERT OR IGNORE INTO committed VALUES (?, ?)"

# The newest position that is too old: before the first note that is not. A clock that was ahead or behind for a while
# has left notes with a wrong time between those with the right time; they neither keep events nor remove them.
_TOO_OLD = """
SELECT coalesce(max(id), 0) FROM committed WHERE at <= :oldest
AND id < coalesce((SELECT min(id) FROM committed WHERE at > :oldest AND at <= :now), 9223372036854775807)
"""

_TRIM = """
DELETE FROM log WHERE id > ? AND id <= ?
AND id IS NOT (SELECT latest.id FROM latest WHERE latest.asset = log.asset AND latest.attr = log.attr)
"""


class Retention:
    """Policy that trims the log and checkpoints the WAL of one database."""

    def __init__(self, location: EmbeddedLocation) -> None:
        self._wal = None if location.path is None else f"{location.path}-wal"
        self._keep_events = location.keep_events
        self._keep_seconds = None if location.keep_days is None else location.keep_days * 86_400
        self._noted_at = -math.inf
        self._last_commit: tuple[int, float] | None = None  # its position and time
        self._written_since_trim = 0
        self._written_since_check = 0
        self._growth = Outage(
            _logger,
            meanwhile="Look for a program that keeps a query open on the database.",
            over=f"{self._wal} is small again.",
        )

    def after_commit(self, connection: sqlite3.Connection, newest: int, written: int) -> None:
        """Trim and checkpoint if due.

        Args:
            newest: newest position of the log.
            written: number of events in the commit.
        """
        self._written_since_trim += written
        self._written_since_check += written
        try:
            if self._note_time(connection, newest) or self._written_since_trim >= _TRIM_EVENTS:
                self._trim(connection, newest)
            if self._wal is not None and self._written_since_check >= _EVENTS_BETWEEN_CHECKS:
                self._written_since_check = 0
                self._checkpoint(connection, os.stat(self._wal).st_size)
        except Exception as error:  # noqa: BLE001 - the commit has succeeded
            _logger.warning(
                "The log could not be trimmed or checkpointed: %s. The events are written. A later commit tries again.",
                error,
            )

    def _trim(self, connection: sqlite3.Connection, newest: int) -> None:
        written, self._written_since_trim = self._written_since_trim, 0
        unwanted = max(newest - self._keep_events, self._too_old(connection))
        if unwanted <= 0:
            return
        trimmed = connection.execute("SELECT up_to FROM trimmed").fetchone()[0]
        up_to = min(trimmed + written + _TRIM_EVENTS, newest - 1, unwanted)
        if up_to <= trimmed:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_TRIM, (trimmed, up_to))
            connection.execute("UPDATE trimmed SET up_to = ?", (up_to,))
            if self._keep_seconds is not None:
                connection.execute("DELETE FROM committed WHERE id < ?", (up_to,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk ends the transaction by itself
                connection.execute("ROLLBACK")
            raise

    def _note_time(self, connection: sqlite3.Connection, newest: int) -> bool:
        """Note the time of the commit if a note is due, and return whether it was."""
        if self._keep_seconds is None:
            return False
        now = time.time()
        last, self._last_commit = self._last_commit, (newest, now)
        interval = self._keep_seconds / _NOTES
        if 0 <= now - self._noted_at < interval:
            return False
        self._noted_at = now
        connection.execute(_CREATE_NOTES)
        if last is not None and not 0 <= now - last[1] < interval:  # otherwise a long time without commits would count
            connection.execute(_NOTE, last)
        if connection.execute(_IS_NOTED, (now - interval, now)).fetchone() is None:
            connection.execute(_NOTE, self._last_commit)
        return True

    def _too_old(self, connection: sqlite3.Connection) -> int:
        """Return the position up to which the log is older than keep_days, by the time of its commits."""
        if self._keep_seconds is None:
            return 0
        now = time.time()
        bounds = {"oldest": now - self._keep_seconds, "now": now}
        position: int = connection.execute(_TOO_OLD, bounds).fetchone()[0]
        return position

    def _checkpoint(self, connection: sqlite3.Connection, size: int) -> None:
        if size < WAL_CHECKPOINT_BYTES:
            self._growth.end()
            return
        mode = "TRUNCATE" if size >= WAL_TRUNCATE_BYTES else "PASSIVE"
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        if size >= _WAL_WARNING_BYTES:
            self._growth.begin(
                f"{self._wal} has grown to {size // 1_000_000} MB because the database is read without a pause."
            )
