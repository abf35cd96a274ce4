"""A transaction that writes, undone if an error ends it."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["transaction"]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """Begin a transaction that writes, and commit it at the end. The caller has the lock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk ends the transaction by itself
            connection.execute("ROLLBACK")
        raise
