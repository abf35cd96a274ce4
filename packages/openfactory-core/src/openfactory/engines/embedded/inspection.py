"""The facts about a database: its size, its events by kind and attribute, its bounds."""

from __future__ import annotations

from typing import Any, NamedTuple

from openfactory.engines.embedded.bounds import Bounds, StoredBounds, bounds_of, read_bounds
from openfactory.engines.embedded.database import FileDatabase
from openfactory.engines.embedded.files import wal_of
from openfactory.engines.embedded.raw_texts import raw_texts

__all__ = ["AttributeCount", "DatabaseFacts", "facts_of"]

# The events of the index, and the newest ones, which are not indexed yet. The kind of an attribute is that of its
# newest event: a bare column beside max() comes from the row that has it.
_COUNTS = """
SELECT asset, attr, sample, sum(count), max(last) FROM (
    SELECT asset, attr, sample, sum(count) AS count, max(last) AS last FROM positions GROUP BY asset, attr
    UNION ALL
    SELECT asset, attr, type = 'Samples', count(*), max(id) FROM log WHERE id > (SELECT up_to FROM indexed)
    GROUP BY asset, attr
) GROUP BY asset, attr ORDER BY sum(count) DESC, asset, attr
"""
_END = "SELECT id, ts FROM log ORDER BY id {order} LIMIT 1"


class AttributeCount(NamedTuple):
    """The number of events of an attribute."""

    asset_uuid: str
    id: str
    kind: str
    events: int


class DatabaseFacts(NamedTuple):
    """The facts about a database.

    Attributes:
        schema: version of the schema.
        size: bytes of the file.
        wal: bytes of the WAL.
        free: bytes of free pages in the file, which later events use.
        attributes: the attributes, those with the most events first.
        oldest: position and timestamp of the oldest event, or None.
        newest: position and timestamp of the newest event, or None.
        indexed: position up to which histories of one attribute use the index.
        bounds: the bounds of the log.
        origin: the process that has set the bounds, or None for the default.
    """

    schema: int
    size: int
    wal: int
    free: int
    attributes: list[AttributeCount]
    oldest: tuple[int, str] | None
    newest: tuple[int, str] | None
    indexed: int
    bounds: Bounds
    origin: StoredBounds | None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(one.events for one in self.attributes if one.kind == "samples")

    @property
    def events(self) -> int:
        """Number of other events."""
        return sum(one.events for one in self.attributes if one.kind == "events")


def facts_of(database: FileDatabase) -> DatabaseFacts:
    """Return the facts about a database."""
    wal = wal_of(database.path)
    with database.querying() as connection:

        def pragma(name: str) -> int:
            return int(connection.execute(f"PRAGMA {name}").fetchone()[0])

        with raw_texts(connection):
            counts = [
                AttributeCount(_text(asset), _text(attr), "samples" if sample else "events", count)
                for asset, attr, sample, count, _ in connection.execute(_COUNTS).fetchall()
            ]
            oldest, newest = (_end(connection.execute(_END.format(order=o)).fetchone()) for o in ("ASC", "DESC"))
        stored = read_bounds(connection)
        return DatabaseFacts(
            schema=pragma("user_version"),
            size=pragma("page_count") * pragma("page_size"),
            wal=wal.stat().st_size if wal.exists() else 0,
            free=pragma("freelist_count") * pragma("page_size"),
            attributes=counts,
            oldest=oldest,
            newest=newest,
            indexed=connection.execute("SELECT up_to FROM indexed").fetchone()[0],
            bounds=bounds_of(stored),
            origin=stored,
        )


def _end(row: tuple[Any, ...] | None) -> tuple[int, str] | None:
    return None if row is None else (row[0], _text(row[1]))


def _text(encoded: bytes) -> str:
    return encoded.decode(errors="replace")
