"""Texts of the database as bytes: one that a foreign program has written may not be UTF-8."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["raw_texts"]


@contextmanager
def raw_texts(connection: sqlite3.Connection) -> Generator[None]:
    """Have a connection return texts as bytes. As a parameter, such a text is `CAST(? AS TEXT)`."""
    connection.text_factory = bytes
    try:
        yield
    finally:
        connection.text_factory = str
