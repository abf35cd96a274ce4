"""The tables of the ksqlDB topology in SQLite: making them, and users' own SELECTs on them."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Collection
from importlib import resources
from typing import Any

from openfactory.exceptions import QueryError

__all__ = ["TABLES", "read_pairs", "run_select", "schema_of_topology"]

#: What users may SELECT from, as the ksqlDB topology names it.
TABLES = ("ASSETS", "ASSETS_AVAIL", "ASSETS_TYPE", "ASSETS_UNS", "ASSET_TO_UNS_MAP", "DOCKER_SERVICES")

# How long a user's query may take, in seconds.
_QUERY_SECONDS = 10.0

_SELECT = re.compile(r"(select|with)\b", re.IGNORECASE)

_ONLY = "IN (SELECT value FROM json_each(?))"


def schema_of_topology() -> str:
    """The statements that make the tables, where there is a `last`."""
    return resources.files("openfactory.engines").joinpath("topology.sql").read_text(encoding="utf-8")


def read_pairs(
    connection: sqlite3.Connection, view: str, column: str, asset_uuids: Collection[str] | None = None
) -> dict[str, str]:
    """One column of a view by asset UUID."""
    sql = f"SELECT asset_uuid, {column} FROM {view} WHERE {column} IS NOT NULL"  # noqa: S608 - our own names
    if asset_uuids is None:
        return dict(connection.execute(sql))
    return dict(connection.execute(f"{sql} AND asset_uuid {_ONLY}", (json.dumps(list(asset_uuids)),)))


def _row(columns: list[str], values: tuple[Any, ...]) -> dict[str, Any]:
    """A row as ksqlDB gives it, where the levels of a place are a map."""
    row = dict(zip(columns, values, strict=True))
    if isinstance(levels := row.get("UNS_LEVELS"), str):
        row["UNS_LEVELS"] = json.loads(levels)
    return row


def run_select(connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
    """A user's SELECT, which may neither write nor take for ever; the columns come in upper case.

    Raises:
        QueryError: it is no SELECT, or cannot be answered.
    """
    statement = sql.strip().rstrip(";").strip()
    if not _SELECT.match(statement):
        raise QueryError(
            f"Only SELECT is answered here, not {statement[:60]!r}. "
            "Write through an asset's attributes, or use a ksqlDB for statements.",
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
            f"{statement!r} cannot be answered: {error}. "
            f"Use plain SELECTs on {', '.join(TABLES)}; to watch, use an asset's subscriptions.",
            statement=sql,
        ) from error
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute(f"PRAGMA query_only = {was_query_only}")
