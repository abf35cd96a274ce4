"""Queries on the log: batches, snapshots and histories.

SQLite returns all rows as one JSON text, because fetching them would release the interpreter lock at each row.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from openfactory.engines.base import Snapshot
from openfactory.engines.embedded.raw_texts import raw_texts
from openfactory.engines.shared import HistoryQuery
from openfactory.events.decoding import MAX_DEPTH, brackets_in, decode_json, is_too_deep
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.timestamp import WIRE_PATTERN

__all__ = [
    "Batch",
    "read_all",
    "read_batch",
    "read_history",
    "read_last",
    "read_snapshot",
    "unreadable_rows",
]

_logger = logging.getLogger("openfactory.engines")

_EVENT = "json_array(log.asset, log.attr, json(log.value), log.type, log.tag, log.ts, log.id, json(log.attributes))"
_IN_LIST = "IN (SELECT value FROM json_each(?))"

# The next event after a position, and the newest position. Mostly the next event is the newest, and this is quicker.
_NEXT = """
SELECT asset, attr, value, type, tag, ts, id, attributes, (SELECT max(id) FROM log)
FROM log WHERE id > ? ORDER BY id LIMIT 1
"""
_ENDS = "SELECT (SELECT coalesce(max(id), 0) FROM log), (SELECT up_to FROM trimmed)"
_BATCH = "SELECT * FROM log WHERE id > ? AND id <= ? {only} ORDER BY id"
_SNAPSHOT = "SELECT log.* FROM latest JOIN log ON log.id = latest.id {only} ORDER BY latest.id"
_HISTORY = """
SELECT * FROM (
    SELECT * FROM log WHERE asset = ? {only} ORDER BY id DESC LIMIT ?
) ORDER BY id
"""
# The newest events are not indexed yet. The other part reads no more than the limit, the newest first.
_HISTORY_OF_ONE = """
SELECT * FROM (
    SELECT * FROM (
        SELECT * FROM log WHERE id > (SELECT up_to FROM indexed) AND +asset = ? AND attr = ? {only}
        ORDER BY id DESC LIMIT ?
    )
    UNION ALL
    SELECT * FROM (
        SELECT log.* FROM positions CROSS JOIN json_each(positions.distances) AS distance
        CROSS JOIN log ON log.id = positions.last - distance.value
        WHERE positions.asset = ? AND positions.attr = ? {rows} {only} ORDER BY positions.last DESC LIMIT ?
    )
    ORDER BY id DESC LIMIT ?
) ORDER BY id
"""
_ROWS_IN_PERIOD = "AND (positions.since IS NULL OR (positions.since <= ? AND positions.until >= ?))"

# The format of the wire is compared as text, which is quick. Only other timestamps are parsed.
_IN_PERIOD = f"""
AND CASE WHEN ts GLOB '{WIRE_PATTERN}' THEN ts BETWEEN ? AND ? ELSE in_period(CAST(ts AS BLOB)) END
"""

# Number of unreadable rows in each file; each row counts once.
_unreadable: Counter[str] = Counter()

_decode_list = msgspec.json.Decoder(list[AssetEvent]).decode


class Batch(NamedTuple):
    """Events from the log, with the newest position and the position up to which the log is trimmed."""

    newest: int
    trimmed: int
    events: list[AssetEvent]


def read_batch(
    connection: sqlite3.Connection, after: int, up_to: int, asset_uuids: Collection[str] | None = None
) -> Batch:
    """Return the events after one position up to another, of the given assets or of all."""
    try:
        row = connection.execute(_NEXT, (after,)).fetchone()
        if row is not None and row[6] == row[8] == after + 1 <= up_to:
            if asset_uuids is not None and row[0] not in asset_uuids:
                return Batch(row[6], 0, [])
            attributes = None if row[7] is None else decode_json(row[7])
            event = AssetEvent(row[0], row[1], decode_json(row[2]), row[3], row[4], row[5], row[6], attributes)
            return Batch(row[6], 0, [event])
    except (sqlite3.OperationalError, msgspec.DecodeError) as error:
        _raise_unless_unreadable(error)
    parameters: list[Any] = [after, up_to]
    if asset_uuids is not None:
        parameters.append(json.dumps(list(asset_uuids)))
    only = "" if asset_uuids is None else f"AND asset {_IN_LIST}"
    return Batch(*_read(connection, _BATCH.format(only=only), parameters))


def _read(connection: sqlite3.Connection, rows: str, parameters: Sequence[Any]) -> tuple[int, int, list[AssetEvent]]:
    """Return the newest position, the trimmed position and the events of the rows, from one state of the database."""
    select = f"{_ENDS}, (SELECT json_group_array({_EVENT}) FROM ({rows}) AS log)"  # noqa: S608 - our own text
    try:
        newest, trimmed, text = connection.execute(select, parameters).fetchone()
        return newest, trimmed, _decode_events(text)
    except (sqlite3.OperationalError, msgspec.DecodeError) as error:
        _raise_unless_unreadable(error)
    begins = not connection.in_transaction
    if begins:
        connection.execute("BEGIN")  # both queries read one state of the database
    try:
        newest, trimmed = connection.execute(_ENDS).fetchone()
        return newest, trimmed, list(_read_row_by_row(connection, rows, parameters))
    finally:
        if begins:
            connection.execute("COMMIT")


def _decode_events(text: str) -> list[AssetEvent]:
    def has_deep_value(events: list[AssetEvent]) -> bool:
        # Each event has a bracket of its own, so a large batch has many without any deep value.
        return brackets_in(text) > MAX_DEPTH + len(events) and any(is_too_deep(event.value) for event in events)

    return decode_json(text, _decode_list, has_deep_value)


def _raise_unless_unreadable(error: Exception) -> None:
    """Raise the error again if it comes from the database itself. Unreadable rows are reported row by row instead."""
    if isinstance(error, sqlite3.OperationalError) and "UTF-8" not in str(error):
        raise error


def _read_row_by_row(connection: sqlite3.Connection, rows: str, parameters: Sequence[Any]) -> Iterator[AssetEvent]:
    """Yield the events of the readable rows. Each unreadable row is reported once."""
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    with raw_texts(connection):
        encoded = connection.execute(rows, parameters).fetchall()
    for position, asset, attr, json_value, kind, tag, ts, json_attributes in encoded:
        try:
            value, attributes = decode_json(json_value), decode_json(json_attributes or b"null")
            texts = (kind.decode(), tag.decode(), ts.decode())
            yield AssetEvent(asset.decode(), attr.decode(), value, *texts, position, attributes)
        except (UnicodeError, msgspec.DecodeError) as error:
            _report_unreadable(file, position, f"{asset!r}.{attr!r}", str(error))


@lru_cache(maxsize=10_000)
def _report_unreadable(file: str, position: int, attribute: str, reason: str) -> None:
    _unreadable[file] += 1
    text = "The event at position %d (%s) of the log %s cannot be read: %s. It is skipped."
    _logger.warning(text, position, attribute, file, reason)


def unreadable_rows(file: str) -> int:
    """Return the number of unreadable rows found in a file."""
    return _unreadable[file]


def read_snapshot(connection: sqlite3.Connection, asset_uuids: Collection[str] | None) -> Snapshot:
    """Return the last event of each attribute, of the given assets or of all."""
    only = "" if asset_uuids is None else f"WHERE latest.asset {_IN_LIST}"
    parameters = () if asset_uuids is None else (json.dumps(list(asset_uuids)),)
    position, _, events = _read(connection, _SNAPSHOT.format(only=only), parameters)
    by_asset: dict[str, list[AssetEvent]] = {}
    for event in events:
        by_asset.setdefault(event.asset_uuid, []).append(event)
    return Snapshot(by_asset, position)


def read_all(connection: sqlite3.Connection, attribute_id: str) -> list[AssetEvent]:
    """Return the last event of an attribute of each asset that has it."""
    return _read(connection, _SNAPSHOT.format(only="WHERE latest.attr = ?"), (attribute_id,))[2]


def read_last(connection: sqlite3.Connection, asset_uuid: str, attribute_ids: Collection[str]) -> dict[str, AssetEvent]:
    """Return the last events of some attributes of an asset, by id."""
    only = f"WHERE latest.asset = ? AND latest.attr {_IN_LIST}"
    events = _read(connection, _SNAPSHOT.format(only=only), (asset_uuid, json.dumps(list(attribute_ids))))[2]
    return {event.id: event for event in events}


def read_history(connection: sqlite3.Connection, query: HistoryQuery) -> list[AssetEvent]:
    """Return the events of a query, oldest first."""
    parameters: list[Any] = []
    only = ""
    period = query.period
    if period.is_bounded:
        only += _IN_PERIOD
        parameters += period.first, period.last
        # Bytes, because a text that is not UTF-8 would make the query fail.
        connection.create_function("in_period", 1, lambda encoded: period.contains(encoded.decode(errors="replace")))
    if query.tag in (COMMAND_TAG, REPLY_TAG):
        only += f"AND tag = '{query.tag}'"  # a literal, so that SQLite uses the index of commands
    elif query.tag is not None:
        only += "AND tag = ?"
        parameters.append(query.tag)
    if query.attribute_id is None:
        return _read(connection, _HISTORY.format(only=only), (query.asset_uuid, *parameters, query.limit))[2]
    attribute, overlap = (query.asset_uuid, query.attribute_id), (period.last, period.first) * period.is_bounded
    rows = _HISTORY_OF_ONE.format(only=only, rows=_ROWS_IN_PERIOD if overlap else "")
    limits = (query.limit, *attribute, *overlap, *parameters, query.limit, query.limit)
    return _read(connection, rows, (*attribute, *parameters, *limits))[2]
