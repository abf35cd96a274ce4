"""Limits on the size of the file: the log is trimmed a little after each commit, and the WAL is checkpointed.

This runs in the writer's thread, which owns the lock meanwhile. An error here must not make a commit fail.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from datetime import UTC, datetime, timedelta

from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.events.timestamp import openfactory_timestamp
from openfactory.logs.outage import Outage

__all__ = ["Retention"]

_logger = logging.getLogger("openfactory.engines")

# Number of events written between two trims, and trimmed at once. It is small because a trim occupies the lock.
_TRIM_EVENTS = 1_000

# Upper bound of keep_days: longer than any use, and still in the range of dates.
_MAX_KEEP_DAYS = 365_000

# Sizes of the WAL from which a checkpoint is tried, waits for readers, and is reported as overdue.
_WAL_CHECKPOINT_BYTES = 4 * 1024 * 1024
_WAL_TRUNCATE_BYTES = 64 * 1024 * 1024
_WAL_WARNING_BYTES = 512 * 1024 * 1024

# Number of events written between two looks at the size of the WAL.
_EVENTS_BETWEEN_CHECKS = 2_000

_TRIM = """
DELETE FROM log WHERE id > ? AND id <= ?
AND id IS NOT (SELECT latest.id FROM latest WHERE latest.asset = log.asset AND latest.attr = log.attr)
"""


class Retention:
    """Policy that trims the log and checkpoints the WAL of one database."""

    def __init__(self, location: EmbeddedLocation) -> None:
        self._wal = None if location.path is None else f"{location.path}-wal"
        self._keep_events = location.keep_events
        self._keep_days = location.keep_days
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
            if self._written_since_trim >= _TRIM_EVENTS:
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
        if newest <= self._keep_events and self._keep_days is None:
            self._written_since_trim = 0
            return
        trimmed = connection.execute("SELECT up_to FROM trimmed").fetchone()[0]
        up_to = min(trimmed + self._written_since_trim + _TRIM_EVENTS, newest - 1)
        self._written_since_trim = 0
        if up_to > newest - self._keep_events and not self._is_too_old(connection, up_to):
            up_to = newest - self._keep_events
        if up_to <= trimmed:
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(_TRIM, (trimmed, up_to))
            connection.execute("UPDATE trimmed SET up_to = ?", (up_to,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk ends the transaction by itself
                connection.execute("ROLLBACK")
            raise

    def _is_too_old(self, connection: sqlite3.Connection, position: int) -> bool:
        if self._keep_days is None:
            return False
        row = connection.execute("SELECT ts FROM log WHERE id >= ? ORDER BY id LIMIT 1", (position,)).fetchone()
        oldest = openfactory_timestamp(datetime.now(UTC) - timedelta(days=min(self._keep_days, _MAX_KEEP_DAYS)))
        return row is not None and row[0] < oldest

    def _checkpoint(self, connection: sqlite3.Connection, size: int) -> None:
        if size < _WAL_CHECKPOINT_BYTES:
            self._growth.end()
            return
        mode = "TRUNCATE" if size >= _WAL_TRUNCATE_BYTES else "PASSIVE"
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        if size >= _WAL_WARNING_BYTES:
            self._growth.begin(
                f"{self._wal} has grown to {size // 1_000_000} MB because the database is read without a pause."
            )
