"""The upkeep of a database by its writers: notes of the time, checkpoints, the index of positions, and the bounds.

It runs in the writer's thread: a little after each commit, and from time to time while nothing is written. Each step
has the lock for some milliseconds only. An error here must not make a commit fail.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from typing import NamedTuple

from openfactory.engines.embedded.bounds import Bounds, StoredBounds, bounds_of, read_bounds, store_bounds
from openfactory.engines.embedded.checkpoints import Checkpoints
from openfactory.engines.embedded.commit_times import CommitTimes, forget_times
from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.embedded.position_index import extend_index
from openfactory.engines.embedded.removal import Removal, cutoffs_of, too_old

__all__ = ["INDEXED_AT_ONCE", "REMOVED_AT_ONCE", "Upkeep"]

_logger = logging.getLogger("openfactory.engines")

#: Number of events that are indexed at once, at most. Histories scan the events that are not yet indexed.
INDEXED_AT_ONCE = 32_768

#: Number of events that are removed at once, besides as many as were written meanwhile.
REMOVED_AT_ONCE = 1_000

# The log is indexed when so many events are not: INDEXED_AT_ONCE while it grows, _INDEXED_AT_REST while it does not.
# For small bounds it is a part of them, at least _LEAST_INDEXED.
_INDEXED_AT_REST = 8_192
_LEAST_INDEXED = 256

# Number of events written, or seconds, between two looks at what is due.
_EVENTS_BETWEEN_LOOKS = 1_000
_SECONDS_BETWEEN_LOOKS = 20.0

# Seconds between two steps while nothing is written, in which other processes get the lock.
_PAUSE_SECONDS = 0.005

# The bounds are applied when the log has grown by one part in so many of them, and by at least this number of events.
_GROWTH = 10
_LEAST_GROWTH = 500

# A choice of events to remove reads the index of the whole log. It takes one part in so many of the time.
_PLAN_PAUSE = 50

_STATE = "SELECT (SELECT coalesce(max(id), 0) FROM log), up_to, applied FROM indexed"


class _State(NamedTuple):
    """The newest position, the position up to which the log is indexed, and that when the bounds were last applied."""

    newest: int
    indexed: int
    applied: int


class Upkeep:
    """The upkeep of one database.

    Args:
        database: the database.
        location: its location, with the bounds of the URL.
    """

    def __init__(self, database: Database, location: EmbeddedLocation) -> None:
        self._database = database
        self._given = location.bounds
        self._times = CommitTimes()
        self._checkpoints = Checkpoints(location.path)
        self._bounds = self._given or Bounds()
        self._warned_of: Bounds | None = None
        self._written = 0
        self._removal: Removal | None = None
        self._old = self._removed_old = (0, 0)  # positions up to which samples and other events are too old; removed
        self._old_at = -math.inf
        self._next_plan = -math.inf
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS

    def begin(self) -> None:
        """Set the bounds of the URL in the file, which count for all its processes from now on."""
        self._times.keep_apart(self._bounds.shortest_age)
        if self._given is None:
            return
        try:
            with self._database.reading() as connection:
                before = read_bounds(connection)
            if before is not None and before.bounds == self._given:
                return
            with self._database.writing() as connection:
                store_bounds(connection, self._given)
        except Exception as error:  # noqa: BLE001 - writing goes on
            _logger.warning("The bounds %s could not be set: %s. Open the file again.", self._given, error)
            return
        if before is not None:
            _logger.warning(
                "The bounds of the log are now %s, for all processes that have the file open. Before, they were %s, "
                "from %s. Give all processes the same options in KSQLDB_URL.",
                self._given,
                before.bounds,
                before.origin,
            )

    def seconds_to_look(self) -> float:
        """Return the seconds until `look` is due, if nothing is written."""
        return max(self._next_look - time.monotonic(), 0.0)

    def after_commit(self, connection: sqlite3.Connection, newest: int, written: int) -> None:
        """Note the time and checkpoint if due.

        Args:
            connection: connection for writing, whose lock the caller has.
            newest: newest position of the log.
            written: number of events in the commit.
        """
        self._written += written
        try:
            if self._times.note(connection, newest):
                self._old_at = -math.inf
            self._checkpoints.after_commit(connection, written)
        except Exception as error:  # noqa: BLE001 - the commit has succeeded
            _warn(error)

    def look(self) -> None:
        """Index or remove some events if that is due. The caller does not have the lock."""
        is_time = time.monotonic() >= self._next_look
        if not is_time and self._written < _EVENTS_BETWEEN_LOOKS:
            return
        written, self._written = self._written, 0
        try:
            has_worked = self._step(written, INDEXED_AT_ONCE if written else _INDEXED_AT_REST)
        except Exception as error:  # noqa: BLE001 - nothing of it is needed to write
            _warn(error)
            has_worked = False
        self._next_look = time.monotonic() + (_PAUSE_SECONDS if has_worked else _SECONDS_BETWEEN_LOOKS)

    def _step(self, written: int, most: int) -> bool:
        with self._database.reading() as connection:
            state, stored = _State(*connection.execute(_STATE).fetchone()), read_bounds(connection)
            self._follow(stored)
            old = self._too_old(connection)
        least = min(most, self._growth(_LEAST_INDEXED))
        indexed = 0
        if state.newest - state.indexed >= least or max(old) > state.indexed:
            indexed = extend_index(self._database, INDEXED_AT_ONCE)
            self._checkpoints.after_step(self._database, indexed)
        removed = 0
        if self._removal:
            removed = self._removal.step(self._database, written + REMOVED_AT_ONCE)
            self._checkpoints.after_step(self._database, removed)
        elif self._removal is not None or self._is_due(state, old):
            self._plan(state, old)
        return bool(indexed or removed or self._removal)

    def _too_old(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Return the positions up to which samples and other events are too old, which change with the notes only."""
        now = time.time()
        if not 0 <= now - self._old_at < self._times.interval:
            self._old, self._old_at = too_old(connection, self._bounds), now
        return self._old

    def _follow(self, stored: StoredBounds | None) -> None:
        """Take the bounds of the file, and warn if they are not those of the URL."""
        bounds = bounds_of(stored)
        if bounds != self._bounds:
            self._bounds = bounds
            self._removal = None
            self._removed_old, self._old_at = (0, 0), -math.inf
            self._times.keep_apart(bounds.shortest_age)
        if self._given not in (None, bounds) and bounds != self._warned_of and stored is not None:
            _logger.warning(
                "The bounds %s of this process do not count: %s has opened the file later, and the log has its bounds, "
                "%s. Give all processes the same options in KSQLDB_URL.",
                self._given,
                stored.origin,
                bounds,
            )
        self._warned_of = bounds

    def _is_due(self, state: _State, old: tuple[int, int]) -> bool:
        if state.newest - state.indexed > 2 * INDEXED_AT_ONCE:  # a file of an earlier version
            return False
        if state.applied >= 0 and time.monotonic() < self._next_plan:
            return False
        grown = state.newest - state.applied >= self._growth(_LEAST_GROWTH)
        return state.applied < 0 or grown or old != self._removed_old

    def _growth(self, least: int) -> int:
        """Return the growth of the log after which something is due: a part of the smaller bound, or the least."""
        return max(min(self._bounds.events, self._bounds.samples) // _GROWTH, least)

    def _plan(self, state: _State, old: tuple[int, int]) -> None:
        """Choose the next events to remove. If no event exceeds the bounds, note that they are applied."""
        begun = time.monotonic()
        with self._database.querying() as connection:
            self._removal = Removal(connection, cutoffs_of(connection, self._bounds, old)) or None
        self._next_plan = time.monotonic() + _PLAN_PAUSE * (time.monotonic() - begun)
        if self._removal is None:
            self._removed_old = old
            limits = zip(old, (self._bounds.samples_days, self._bounds.days), strict=True)
            with self._database.writing() as connection:
                # Another process may have changed the bounds meanwhile.
                connection.execute("UPDATE indexed SET applied = ? WHERE applied = ?", (state.newest, state.applied))
                forget_times(connection, min((position for position, days in limits if days is not None), default=None))


def _warn(error: Exception) -> None:
    _logger.warning(
        "The log could not be indexed, trimmed or checkpointed: %s. The events are written. It is tried again.", error
    )
