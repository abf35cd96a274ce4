"""The removal of events that exceed the bounds: which they are, and how they leave the log, some at a time.

When there are more samples, or more other events, than may stay, the attributes with the most of them lose their
oldest. So an attribute with few events keeps them, however many its neighbours write. The last event of each attribute
always stays.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Collection, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec

from openfactory.engines.embedded.bounds import Bounds
from openfactory.engines.embedded.commit_times import position_before
from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.raw_texts import raw_texts
from openfactory.engines.embedded.transaction import transaction

__all__ = ["Cutoffs", "Removal", "cutoffs_of", "share_of_each", "too_old"]

#: Asset and attribute, as bytes, to the position up to which their events are to be removed.
Cutoffs = dict[tuple[bytes, bytes], int]

# The newest part of the events that may stay is not removed, whatever its attributes are, so that a subscription does
# not miss an event as soon as it lags.
_NEWEST_PART = 10

# Number of rows of the index that a removal has, and about how many of their positions it takes at once.
_ROWS = 20_000
_POSITIONS = 32_768

# The kind of an attribute is that of its newest event: a bare column beside max() comes from the row that has it.
_TOTALS = "SELECT asset, attr, sum(count), sample, max(last) FROM positions GROUP BY asset, attr"
_PARTS = "SELECT last, count FROM positions WHERE asset = CAST(? AS TEXT) AND attr = CAST(? AS TEXT) ORDER BY last DESC"
_PLACE = """
SELECT last - (distances ->> ('$[' || ? || ']')) FROM positions
WHERE asset = CAST(? AS TEXT) AND attr = CAST(? AS TEXT) AND last = ?
"""

# A row that has only the last event of its attribute stays.
_UNWANTED = """
SELECT positions.last FROM positions LEFT JOIN latest ON latest.asset = positions.asset AND latest.attr = positions.attr
WHERE positions.asset = CAST(? AS TEXT) AND positions.attr = CAST(? AS TEXT) AND first <= ?
AND NOT (count = 1 AND last = latest.id) ORDER BY last LIMIT ?
"""
_ROW = """
SELECT count, distances, EXISTS (
    SELECT 1 FROM latest WHERE latest.asset = positions.asset AND latest.attr = positions.attr AND latest.id = last
)
FROM positions WHERE asset = CAST(:asset AS TEXT) AND attr = CAST(:attr AS TEXT) AND last = :last
"""

_DELETE = """
DELETE FROM log WHERE id IN (SELECT value FROM json_each(?))
AND id IS NOT (SELECT latest.id FROM latest WHERE latest.asset = log.asset AND latest.attr = log.attr)
"""
_DROP_ROW = "DELETE FROM positions WHERE asset = CAST(? AS TEXT) AND attr = CAST(? AS TEXT) AND last = ? AND count = ?"
_CUT_ROW = """
UPDATE positions SET first = last - ?, count = ?, distances = CAST(? AS TEXT)
WHERE asset = CAST(? AS TEXT) AND attr = CAST(? AS TEXT) AND last = ? AND count = ?
"""
_TRIMMED = "UPDATE trimmed SET up_to = max(up_to, min(?, (SELECT max(id) FROM log) - 1))"


def too_old(connection: sqlite3.Connection, bounds: Bounds) -> tuple[int, int]:
    """Return the positions up to which samples, and other events, are older than the bounds."""
    return position_before(connection, bounds.samples_days), position_before(connection, bounds.days)


def cutoffs_of(connection: sqlite3.Connection, bounds: Bounds, old: tuple[int, int]) -> Cutoffs:
    """Return the attributes with events that exceed the bounds.

    Args:
        connection: connection that reads.
        bounds: the bounds.
        old: result of `too_old`.
    """
    newest: int = connection.execute("SELECT coalesce(max(id), 0) FROM log").fetchone()[0]
    cutoffs: Cutoffs = {}
    with raw_texts(connection):
        totals = connection.execute(_TOTALS).fetchall()
    for of_samples, oldest in zip((True, False), old, strict=True):
        counts = {(asset, attr): count for asset, attr, count, sample, _ in totals if sample == of_samples}
        number = bounds.number(of_samples=of_samples)
        share = share_of_each(counts.values(), number)
        kept = newest - number // _NEWEST_PART
        for attribute, count in counts.items():
            cutoff = min(_cutoff(connection, attribute, share), kept) if count > share else 0
            if (cutoff := max(cutoff, oldest)) > 0:
                cutoffs[attribute] = cutoff
    return cutoffs


def share_of_each(counts: Collection[int], number: int) -> int:
    """Return how many events each attribute keeps, so that a number of events stays; the least such share.

    >>> share_of_each([1_000, 40, 600], 840)  # the attribute with few events keeps its 40, the others 400 each
    400
    """
    left, attributes = number, len(counts)
    if sum(counts) <= number:
        return max(counts, default=0)
    for count in sorted(counts):
        if count * attributes > left:
            return -(-left // attributes)
        left -= count
        attributes -= 1
    return 0


def _cutoff(connection: sqlite3.Connection, attribute: tuple[bytes, bytes], share: int) -> int:
    """Return the newest position beyond the newest events of an attribute."""
    kept = 0
    for last, count in connection.execute(_PARTS, attribute).fetchall():
        if kept + count > share:
            row = connection.execute(_PLACE, (share - kept, *attribute, last)).fetchone()
            return int(row[0])
        kept += count
    return 0


class _Part(NamedTuple):
    """A row of the index with positions that are to be removed."""

    asset: bytes
    attr: bytes
    last: int
    cutoff: int


class _Cut(NamedTuple):
    """A row of the index as it becomes when its positions are removed.

    Attributes:
        part: the row.
        before: number of its positions before.
        distances: the distances that remain.
    """

    part: _Part
    before: int
    distances: list[int]


class Removal:
    """A part of the events up to the cutoffs, to be removed in steps, the oldest first.

    Args:
        connection: connection that reads.
        cutoffs: result of `cutoffs_of`.
    """

    def __init__(self, connection: sqlite3.Connection, cutoffs: Cutoffs) -> None:
        self._parts = deque(sorted(_parts(connection, cutoffs), key=lambda part: part.last))
        self._positions: deque[int] = deque()  # of some rows, in the order of the log: neighbours share a page
        self._cuts: list[_Cut] = []  # of these rows

    def __bool__(self) -> bool:
        """Whether there is more to remove."""
        return bool(self._parts or self._cuts)

    def step(self, database: Database, most: int) -> int:
        """Remove some events in one transaction, and return how many.

        A step that fails can be tried again: a row is cut only when all its positions are removed.
        """
        if not self._cuts:
            self._take_rows(database)
        chosen = list(islice(self._positions, most))
        cuts = self._cuts if len(chosen) == len(self._positions) else []
        if not chosen and not cuts:
            return 0
        with database.writing() as connection, transaction(connection):
            removed = connection.execute(_DELETE, (msgspec.json.encode(chosen).decode(),)).rowcount
            for cut in cuts:
                _shorten(connection, cut)
            if chosen:
                connection.execute(_TRIMMED, (max(chosen),))
        for _ in chosen:
            self._positions.popleft()
        if cuts:
            self._cuts = []
        return removed

    def _take_rows(self, database: Database) -> None:
        """Read the next rows of the index, and choose their positions."""
        positions: list[int] = []
        cuts: list[_Cut] = []
        taken = 0
        with database.reading() as connection:
            for part in self._parts:
                if len(positions) >= _POSITIONS:
                    break
                taken += 1
                row = connection.execute(_ROW, part._asdict()).fetchone()
                if row is None:
                    continue  # another process has removed it
                count, text, has_latest = row
                distances = msgspec.json.decode(text, type=list[int])
                unwanted = [distance for distance in distances if part.last - distance <= part.cutoff]
                if has_latest and unwanted and unwanted[0] == 0:
                    del unwanted[0]
                positions += (part.last - distance for distance in unwanted)
                cuts.append(_Cut(part, count, distances[: len(distances) - len(unwanted)]))
        for _ in range(taken):
            self._parts.popleft()
        self._cuts = cuts
        self._positions.extend(sorted(positions))


def _parts(connection: sqlite3.Connection, cutoffs: Cutoffs) -> Iterator[_Part]:
    of_each = max(_ROWS // max(len(cutoffs), 1), 10)
    for (asset, attr), cutoff in cutoffs.items():
        for (last,) in connection.execute(_UNWANTED, (asset, attr, cutoff, of_each)).fetchall():
            yield _Part(asset, attr, last, cutoff)


def _shorten(connection: sqlite3.Connection, cut: _Cut) -> None:
    row = (cut.part.asset, cut.part.attr, cut.part.last, cut.before)
    if cut.distances:
        text = msgspec.json.encode(cut.distances)
        connection.execute(_CUT_ROW, (cut.distances[-1], len(cut.distances), text, *row))
    else:
        connection.execute(_DROP_ROW, row)
