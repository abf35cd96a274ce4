"""Inserts: a batch of events, and of changes of other tables between them, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from openfactory.engines.embedded.queries import read_last
from openfactory.engines.embedded.transaction import transaction
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, OWNER_ID, counts_after
from openfactory.events.receipt import Receipt

__all__ = ["Entry", "OwnerEvent", "Run", "Statement", "insert_event", "write_batch"]

# Maximum number of rows in a statement. Each statement releases the interpreter lock once, so few are quicker.
_ROWS = 500

_encode = msgspec.json.Encoder().encode


class Statement(msgspec.Struct, gc=False):
    """SQL statement that changes another table, executed in order with the events.

    With an event that an owner writes, it is executed only if the event counts.
    """

    sql: str
    parameters: tuple[Any, ...]
    only_with: AssetEvent | None = None


class OwnerEvent(msgspec.Struct, gc=False):
    """An event that is written as the owner of its asset, and only while the claim of the writer counts."""

    event: AssetEvent


class Entry(msgspec.Struct, gc=False):
    """An event or a statement in the queue of the writer, with its receipt and its size in bytes."""

    work: AssetEvent | Statement | OwnerEvent
    receipt: Receipt
    size: int


class Run(NamedTuple):
    """Entries at consecutive positions, and the position of the last entry."""

    entries: list[Entry]
    last: int

    def acknowledge(self) -> None:
        """Set the position of each receipt. Call it only after the commit.

        An event that does not count, because another process owns the asset, has none in the log: its receipt gets the
        position of the newest event, as one of a log that keeps events that do not count.
        """
        for position, entry in enumerate(self.entries, self.last - len(self.entries) + 1):
            entry.receipt.position = position


def write_batch(connection: sqlite3.Connection, batch: list[Entry]) -> list[Run]:
    """Write a batch in one transaction and return its runs."""
    if len(batch) <= _ROWS and all(isinstance(entry.work, AssetEvent) for entry in batch):
        return [_insert(connection, batch)]  # one statement is a transaction of its own
    with transaction(connection):
        return _write_in_turn(connection, batch)


def _write_in_turn(connection: sqlite3.Connection, batch: list[Entry]) -> list[Run]:
    """Write events in runs and execute the statements between them. A statement has the newest event's position."""
    runs: list[Run] = []
    events: list[Entry] = []
    for entry in batch:
        if not isinstance(entry.work, AssetEvent):
            if events:
                runs.append(_insert(connection, events))
                events = []
            if isinstance(entry.work, OwnerEvent) and _counts(connection, entry.work.event):
                runs.append(Run([entry], insert_event(connection, entry.work.event)))
                continue
            if isinstance(entry.work, Statement) and _counts(connection, entry.work.only_with):
                connection.execute(entry.work.sql, entry.work.parameters)
            newest = connection.execute("SELECT coalesce(max(id), 0) FROM log").fetchone()[0]
            runs.append(Run([entry], newest))
        else:
            events.append(entry)
            if len(events) == _ROWS:
                runs.append(_insert(connection, events))
                events = []
    if events:
        runs.append(_insert(connection, events))
    return runs


def insert_event(connection: sqlite3.Connection, event: AssetEvent) -> int:
    """Insert an event and return its position."""
    return _insert_rows(connection, [event])


def _insert(connection: sqlite3.Connection, entries: list[Entry]) -> Run:
    return Run(entries, _insert_rows(connection, [entry.work for entry in entries]))


def _insert_rows(connection: sqlite3.Connection, events: Sequence[AssetEvent | Statement | OwnerEvent]) -> int:
    """Insert events and return the position of the last one."""
    parameters: list[str | None] = []
    for event in events:
        assert isinstance(event, AssetEvent)
        value = _encode(event.value).decode()
        attributes = None if event.attributes is None else _encode(event.attributes).decode()
        parameters += (event.asset_uuid, event.id, value, event.type, event.tag, event.timestamp, attributes)
    last = connection.execute(_insert_statement(len(events)), parameters).lastrowid
    assert last is not None
    return last


def _counts(connection: sqlite3.Connection, event: AssetEvent | None) -> bool:
    """Return whether an event that an owner writes still counts; other work always does, and passes None."""
    if event is None:
        return True
    last = read_last(connection, event.asset_uuid, [OWNER_ID, AVAILABILITY_ID])
    return counts_after(event, last.get(OWNER_ID), last.get(AVAILABILITY_ID))


@cache
def _insert_statement(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO log (asset, attr, value, type, tag, ts, attributes) VALUES {values}"  # noqa: S608 - only placeholders
