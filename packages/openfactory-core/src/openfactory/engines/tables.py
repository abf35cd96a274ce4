"""The tables of the ksqlDB topology in SQLite: their schema, and SELECTs of users on them."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import resources
from sys import getsizeof
from typing import Any

import msgspec

from openfactory.concurrency.bounded import call_on_thread
from openfactory.events.decoding import decode_json
from openfactory.exceptions import QueryError

__all__ = ["TABLES", "read_pairs", "read_places", "renew_topology", "run_select", "schema_of_topology"]

#: Tables that users may SELECT from, by their names in the ksqlDB topology.
TABLES = ("ASSETS", "ASSETS_AVAIL", "ASSETS_TYPE", "ASSETS_UNS", "ASSET_TO_UNS_MAP", "DOCKER_SERVICES")

# Time limit of a user's query, in seconds, and the time that its thread has to notice it.
_QUERY_SECONDS = 10.0
_NOTICE_SECONDS = 1.0

# Limits of a user's query. A single function cannot be interrupted, so its values must be small: an event has 256 KiB.
_VALUE_BYTES = 1024 * 1024
_PATTERN_BYTES = 1_000
_RESULT_BYTES = 256 * 1024 * 1024

# Number of rows between two looks at the time.
_ROWS_AT_ONCE = 1_000

_TOO_LONG = f"it did not end within {_QUERY_SECONDS:g} s"

_SELECT = re.compile(r"(select|with)\b", re.IGNORECASE)

_IN_LIST = "IN (SELECT value FROM json_each(?))"


def schema_of_topology() -> str:
    """Return the statements that create the tables. The database must have a table or view `last`."""
    return resources.files("openfactory.engines").joinpath("topology.sql").read_text(encoding="utf-8")


def renew_topology(connection: sqlite3.Connection, version: int, extension: str) -> None:
    """Extend the tables of a database of an earlier version, and give it the present views.

    Args:
        connection: the database.
        version: version of the schema that the database has afterwards.
        extension: statements that extend the tables.
    """
    connection.executescript(f"BEGIN; {extension} {schema_of_topology()}\nPRAGMA user_version = {version}; COMMIT;")


def read_places(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the UNS id of each asset that has one; the asset that got its place last is the last."""
    return dict(connection.execute("SELECT asset_uuid, uns_id FROM uns WHERE uns_id IS NOT NULL ORDER BY updated_at"))


def read_pairs(
    connection: sqlite3.Connection, view: str, column: str, asset_uuids: Collection[str] | None = None
) -> dict[str, str]:
    """Return the non-null values of a column by asset UUID, of the given assets or of all."""
    sql = f"SELECT asset_uuid, {column} FROM {view} WHERE {column} IS NOT NULL"  # noqa: S608 - our own names
    if asset_uuids is None:
        return dict(connection.execute(sql))
    return dict(connection.execute(f"{sql} AND asset_uuid {_IN_LIST}", (json.dumps(list(asset_uuids)),)))


def _row(columns: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    """Build a row as ksqlDB returns it, with the levels of the namespace as a map."""
    row = dict(zip(columns, values, strict=True))
    if isinstance(levels := row.get("UNS_LEVELS"), str):
        with suppress(msgspec.DecodeError):  # a column of the user's query may have this name
            row["UNS_LEVELS"] = decode_json(levels)
    return row


def run_select(
    reading: Callable[[], AbstractContextManager[sqlite3.Connection]], sql: str, parameters: tuple[Any, ...]
) -> list[dict[str, Any]]:
    """Run a user's SELECT and return its rows, with the names of the columns in upper case.

    The statement cannot write. It runs on a thread of its own, because SQLite cannot interrupt every function: the
    caller waits for a limited time.

    Args:
        reading: yields the connection, on that thread.
        sql: the statement.
        parameters: values of its parameters.

    Raises:
        QueryError: the statement is not a SELECT, or it failed, or it exceeded its time.
    """
    statement = sql.strip().rstrip(";").strip()
    if not _SELECT.match(statement):
        raise QueryError(
            f"{statement[:60]!r} is not a SELECT. "
            "Write through an asset's attributes, or use ksqlDB for other statements.",
            statement=sql,
        )
    deadline = time.monotonic() + _QUERY_SECONDS

    def select() -> list[dict[str, Any]]:
        with reading() as connection, _limited(connection, deadline):
            return _rows(connection.execute(statement, parameters), deadline)

    selected = call_on_thread("openfactory-query", select)
    try:
        error = selected.exception(_QUERY_SECONDS + _NOTICE_SECONDS)
    except TimeoutError:
        error = TimeoutError(_TOO_LONG)
    if error is None:
        return selected.result()
    if not isinstance(error, (sqlite3.Error, OverflowError, UnicodeError, TimeoutError)):
        raise error
    reason = _TOO_LONG if str(error) == "interrupted" else error
    raise QueryError(
        f"{statement!r} failed: {reason}. "
        f"Use plain SELECTs on {', '.join(TABLES)}. To watch for changes, subscribe to an asset.",
        statement=sql,
    ) from error


@contextmanager
def _limited(connection: sqlite3.Connection, deadline: float) -> Generator[None]:
    """Let the statements of a connection only read, until a time and with small values."""
    was_query_only = connection.execute("PRAGMA query_only").fetchone()[0]
    limits = {sqlite3.SQLITE_LIMIT_LENGTH: _VALUE_BYTES, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: _PATTERN_BYTES}
    before = {category: connection.setlimit(category, limit) for category, limit in limits.items()}
    connection.execute("PRAGMA query_only = ON")
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute(f"PRAGMA query_only = {was_query_only}")
        for category, limit in before.items():
            connection.setlimit(category, limit)


def _rows(cursor: sqlite3.Cursor, deadline: float) -> list[dict[str, Any]]:
    columns = [column[0].upper() for column in cursor.description]
    rows: list[dict[str, Any]] = []
    size = 0
    try:
        while values := cursor.fetchmany(_ROWS_AT_ONCE):
            rows += [_row(columns, row) for row in values]
            size += sum(getsizeof(value) for row in values for value in row)
            if time.monotonic() > deadline:
                raise TimeoutError(_TOO_LONG)
            if size > _RESULT_BYTES:
                raise OverflowError(f"its result has more than {_RESULT_BYTES // 1024**2} MiB")
    finally:
        cursor.close()
    return rows
