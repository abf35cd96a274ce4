"""The index of the positions of each attribute, written later than the events, for a part of the log at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.raw_texts import raw_texts
from openfactory.engines.embedded.transaction import transaction

__all__ = ["extend_index"]

# Maximum number of positions in a row. A history of a period reads whole rows.
_POSITIONS = 4_096

_RANGE = """
SELECT up_to, (SELECT max(id) FROM (SELECT id FROM log WHERE id > indexed.up_to ORDER BY id LIMIT ?)) FROM indexed
"""

# The earliest and the latest timestamp, and whether all have the shape of the wire. A text of this shape is in the
# format of the wire, or is no time; sets of characters would take much longer.
_PERIOD = "min(ts), max(ts), min(ts GLOB '????-??-??T??:??:??.???Z')"

# A bare column beside one max() comes from the row that has the maximum.
_GATHER = f"""
SELECT asset, attr, type = 'Samples', json_group_array(id), {_PERIOD}, max(id)
FROM log WHERE id > ? AND id <= ? GROUP BY asset, attr
"""  # noqa: S608 - our own text
_GATHER_PERIOD = f"""
SELECT {_PERIOD} FROM log WHERE id BETWEEN ? AND ? AND asset = CAST(? AS TEXT) AND attr = CAST(? AS TEXT)
"""  # noqa: S608 - our own text
_ADD = """
INSERT INTO positions VALUES
(CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT))
"""


def extend_index(database: Database, most: int) -> int:
    """Add the next events to the index, at most a number of them; return how many positions it has grown by.

    The events are gathered without the lock, so that writers wait only while the result is inserted.
    """
    with database.querying() as connection:
        first, last = connection.execute(_RANGE, (most,)).fetchone()
        if last is None:
            return 0
        with raw_texts(connection):
            rows = list(_rows(connection, first, last))
    with database.writing() as connection, transaction(connection):
        if connection.execute("UPDATE indexed SET up_to = ? WHERE up_to = ?", (last, first)).rowcount == 0:
            return 0  # another process was quicker
        connection.executemany(_ADD, rows)
    return int(last - first)


def _rows(connection: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the events after one position up to another."""
    for asset, attr, sample, ids, *period, _ in connection.execute(_GATHER, (first, last)).fetchall():
        positions = sorted(msgspec.json.decode(ids, type=list[int]), reverse=True)
        for start in range(0, len(positions), _POSITIONS):
            part = positions[start : start + _POSITIONS]
            if len(part) < len(positions):
                period = connection.execute(_GATHER_PERIOD, (part[-1], part[0], asset, attr)).fetchone()
            since, until, is_of_wire = period
            distances = msgspec.json.encode([part[0] - position for position in part])
            limits = (since, until) if is_of_wire else (None, None)
            yield asset, attr, part[0], part[-1], len(part), sample, *limits, distances
