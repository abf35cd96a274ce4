"""The bounds applied at once, by a tool and not by the upkeep of an app."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from openfactory.engines.embedded.bounds import Bounds
from openfactory.engines.embedded.checkpoints import Checkpoints
from openfactory.engines.embedded.database import FileDatabase
from openfactory.engines.embedded.position_index import extend_index
from openfactory.engines.embedded.removal import Cutoffs, Removal, cutoffs_of, too_old
from openfactory.engines.embedded.upkeep import INDEXED_AT_ONCE, REMOVED_AT_ONCE

__all__ = ["Excess", "excess_of", "prune"]

# Seconds between two steps, in which apps get the lock.
_PAUSE_SECONDS = 0.002

_ENDS = "SELECT (SELECT coalesce(max(id), 0) FROM log), up_to FROM indexed"

_COUNT = """
SELECT count(*) FROM positions CROSS JOIN json_each(positions.distances) AS distance
WHERE asset = CAST(:asset AS TEXT) AND attr = CAST(:attr AS TEXT) AND first <= :cutoff
AND last - distance.value <= :cutoff
AND last - distance.value IS NOT (
    SELECT latest.id FROM latest WHERE latest.asset = positions.asset AND latest.attr = positions.attr
)
"""


class Excess(NamedTuple):
    """The events that exceed the bounds.

    Attributes:
        cutoffs: the positions up to which they are.
        counts: number of them by asset and attribute.
    """

    cutoffs: Cutoffs
    counts: dict[tuple[str, str], int]

    @property
    def total(self) -> int:
        """Number of events."""
        return sum(self.counts.values())


def excess_of(database: FileDatabase, bounds: Bounds, progress: Callable[[str, float], None]) -> Excess:
    """Return the events that exceed the bounds. The log is indexed up to its end first."""
    _index(database, progress)
    with database.querying() as connection:
        cutoffs = cutoffs_of(connection, bounds, too_old(connection, bounds))
        counts = {
            (asset.decode(errors="replace"), attr.decode(errors="replace")): connection.execute(
                _COUNT, {"asset": asset, "attr": attr, "cutoff": cutoff}
            ).fetchone()[0]
            for (asset, attr), cutoff in cutoffs.items()
        }
    return Excess(cutoffs, {attribute: count for attribute, count in counts.items() if count})


def prune(database: FileDatabase, excess: Excess, progress: Callable[[str, float], None]) -> int:
    """Remove the events that exceed the bounds, in short transactions, and return how many.

    Args:
        database: the database.
        excess: result of `excess_of`.
        progress: called with "removed" and the part that is done.
    """
    checkpoints = Checkpoints(database.path)
    with database.querying() as connection:
        removal = Removal(connection, excess.cutoffs)
    removed = 0
    while removal:
        while removal:
            step = removal.step(database, REMOVED_AT_ONCE)
            checkpoints.after_step(database, step)
            removed += step
            progress("removed", min(removed / max(excess.total, 1), 1.0))
            time.sleep(_PAUSE_SECONDS)
        with database.querying() as connection:
            removal = Removal(connection, excess.cutoffs)
    return removed


def _index(database: FileDatabase, progress: Callable[[str, float], None]) -> None:
    checkpoints = Checkpoints(database.path)
    with database.reading() as connection:
        newest, up_to = connection.execute(_ENDS).fetchone()
    while up_to < newest:
        extend_index(database, INDEXED_AT_ONCE)
        checkpoints.after_step(database, INDEXED_AT_ONCE)
        with database.reading() as connection:
            up_to = connection.execute("SELECT up_to FROM indexed").fetchone()[0]
        progress("indexed", min(up_to / newest, 1.0))
        time.sleep(_PAUSE_SECONDS)
