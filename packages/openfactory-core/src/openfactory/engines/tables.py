"""The tables of the ksqlDB topology in SQLite: their schema, and SELECTs of users on them."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Collection
from contextlib import suppress
from importlib import resources
from typing import Any

import msgspec

from openfactory.events.decoding import decode_json
from openfactory.exceptions import QueryError

__all__ = ["TABLES", "read_pairs", "run_select", "schema_of_topology"]

#: Tables that users may SELECT from, by their names in the ksqlDB topology.
TABLES = ("ASSETS", "ASSETS_AVAIL", "ASSETS_TYPE", "ASSETS_UNS", "ASSET_TO_UNS_MAP", "DOCKER_SERVICES")

# Time limit of a user's query, in seconds.
_QUERY_SECONDS = 10.0

_SELECT = re.compile(r"(select|with)\b", re.IGNORECASE)

_IN_LIST = "IN (SELECT value FROM json_each(?))"


def schema_of_topology() -> str:
    """Return the statements that create the tables. The database must have a table or view `last`."""
    return resources.files("openfactory.engines").joinpath("topology.sql").read_text(encoding="utf-8")


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


def run_select(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Run a user's SELECT and return its rows, with the names of the columns in upper case.

    The statement cannot write, and its running time is limited.

    Raises:
        QueryError: the statement is not a SELECT, or it failed.
    """
    statement = sql.strip().rstrip(";").strip()
    if not _SELECT.match(statement):
        raise QueryError(
            f"{statement[:60]!r} is not a SELECT. "
            "Write through an asset's attributes, or use ksqlDB for other statements.",
            statement=sql,
        )
    deadline = time.monotonic() + _QUERY_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    was_query_only = connection.execute("PRAGMA query_only").fetchone()[0]
    connection.execute("PRAGMA query_only = ON")
    try:
        cursor = connection.execute(statement, parameters)
        columns = [column[0].upper() for column in cursor.description]
        return [_row(columns, row) for row in cursor.fetchall()]
    except (sqlite3.Error, OverflowError, UnicodeError) as error:
        raise QueryError(
            f"{statement!r} failed: {error}. "
            f"Use plain SELECTs on {', '.join(TABLES)}. To watch for changes, subscribe to an asset.",
            statement=sql,
        ) from error
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute(f"PRAGMA query_only = {was_query_only}")
