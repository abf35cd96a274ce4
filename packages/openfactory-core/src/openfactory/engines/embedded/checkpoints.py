"""Checkpoints of the WAL, which limit its size. They run under the lock, after a commit."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.files import size_text, wal_of
from openfactory.logs.outage import Outage

__all__ = ["WAL_CHECKPOINT_BYTES", "WAL_TRUNCATE_BYTES", "Checkpoints"]

_logger = logging.getLogger("openfactory.engines")

# Sizes of the WAL from which a checkpoint is tried, waits for readers, and is reported as overdue.
WAL_CHECKPOINT_BYTES = 4 * 1024 * 1024
WAL_TRUNCATE_BYTES = 64 * 1024 * 1024
_WAL_WARNING_BYTES = 512 * 1024 * 1024

# Number of events written or removed between two looks at the size of the WAL.
_EVENTS_BETWEEN_CHECKS = 2_000


class Checkpoints:
    """Checkpoints of one database, which are due by the size of its WAL.

    Args:
        path: the database, or None for one in memory, which has no WAL.
    """

    def __init__(self, path: Path | None) -> None:
        self._wal = None if path is None else wal_of(path)
        self._changed_since_check = 0
        self._growth = Outage(
            _logger,
            meanwhile="Look for a program that keeps a query open on the database.",
            over=f"{self._wal} is small again.",
        )

    def after_commit(self, connection: sqlite3.Connection, changed: int) -> None:
        """Checkpoint if due.

        Args:
            connection: connection for writing, whose lock the caller has.
            changed: number of events that the commit has written or removed.
        """
        if size := self._size_if_due(changed):
            self._checkpoint(connection, size)

    def after_step(self, database: Database, changed: int) -> None:
        """Checkpoint if due, after a commit of the upkeep. The lock is taken only for a checkpoint.

        Args:
            database: the database, whose lock the caller does not have.
            changed: number of events that the commit has indexed or removed.
        """
        if size := self._size_if_due(changed):
            with database.writing() as connection:
                self._checkpoint(connection, size)

    def _size_if_due(self, changed: int) -> int:
        """Count changes, and return the size of the WAL if a checkpoint is due, otherwise 0."""
        self._changed_since_check += changed
        if self._wal is None or self._changed_since_check < _EVENTS_BETWEEN_CHECKS:
            return 0
        self._changed_since_check = 0
        size = os.stat(self._wal).st_size
        if size < WAL_CHECKPOINT_BYTES:
            self._growth.end()
            return 0
        return size

    def _checkpoint(self, connection: sqlite3.Connection, size: int) -> None:
        mode = "TRUNCATE" if size >= WAL_TRUNCATE_BYTES else "PASSIVE"
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        if size >= _WAL_WARNING_BYTES:
            self._growth.begin(
                f"{self._wal} has grown to {size_text(size)} because the database is read without a pause."
            )
