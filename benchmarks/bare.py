"""The bare equivalents: the standard library alone, on the engine's own schema."""

from __future__ import annotations

import json
import socket
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = [
    "Notifier",
    "insert",
    "open_database",
    "read_after",
    "row",
    "rows",
    "write_batches",
    "write_one_by_one",
]

_INSERT = "INSERT INTO log (asset, attr, value, type, tag, ts) VALUES (?, ?, ?, ?, ?, ?)"

Row = tuple[str, str, str, str, str, str]


def open_database(path: Path) -> sqlite3.Connection:
    """A connection as the engine opens it; a new file gets the engine's tables and trigger."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA secure_delete = OFF")
    if not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        schema = resources.files("openfactory.engines.embedded").joinpath("schema.sql")
        connection.executescript(f"BEGIN; {schema.read_text(encoding='utf-8')} COMMIT;")
    return connection


def row(asset: str, attribute: str, value: Any) -> Row:
    """One event, with its JSON and its timestamp made anew."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return asset, attribute, json.dumps(value), "Samples", "Benchmark", now


def rows(count: int) -> Iterator[Row]:
    """So many samples of one attribute, each made when it is asked for."""
    return (row("BENCH", "sample", number * 0.1) for number in range(count))


def insert(connection: sqlite3.Connection, one: Row) -> None:
    """Write one event in a commit of its own."""
    connection.execute(_INSERT, one)


def write_batches(connection: sqlite3.Connection, count: int, batch: int) -> float:
    """Write samples, so many in a transaction.

    Returns:
        how many a second.
    """
    source = rows(count)
    started = time.perf_counter()
    while chunk := list(islice(source, batch)):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, chunk)
        connection.execute("COMMIT")
    return count / (time.perf_counter() - started)


def write_one_by_one(connection: sqlite3.Connection, count: int) -> float:
    """Write samples, each in a commit of its own, which autocommit makes the cheapest.

    Returns:
        how many a second.
    """
    started = time.perf_counter()
    for one in rows(count):
        connection.execute(_INSERT, one)
    return count / (time.perf_counter() - started)


def read_after(connection: sqlite3.Connection, position: int) -> list[tuple[int, str]]:
    """The position and the value of each event after a position."""
    return connection.execute("SELECT id, value FROM log WHERE id > ? ORDER BY id", (position,)).fetchall()


class Notifier:
    """Sends one byte to a unix datagram socket."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = str(address)

    def send(self) -> None:
        """Wake who listens there."""
        self._socket.sendto(b"w", self._address)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
