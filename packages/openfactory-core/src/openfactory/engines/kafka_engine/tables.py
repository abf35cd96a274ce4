"""The SQLite tables for queries, filled from a `Fold`; in a state file, they are also the state of the next start."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from openfactory.concurrency.file_lock import FileLock
from openfactory.concurrency.group_access import create_for_group
from openfactory.engines.kafka_engine.fold import Fold, Place
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.recent_commands import MAX_COMMANDS
from openfactory.engines.kafka_engine.record_mark import RecordMark
from openfactory.engines.tables import read_pairs, read_places, renew_topology, run_select, schema_of_topology
from openfactory.events.event import AssetEvent
from openfactory.exceptions import EngineUnavailableError

__all__ = ["FoldedState", "FoldedTables"]

_logger = logging.getLogger("openfactory.kafka")

_VERSION = 3

# The earlier version of a state file that can be extended.
_FORMER_VERSION = 2
_FROM_FORMER_VERSION = "ALTER TABLE last ADD COLUMN attributes TEXT;"

# Seconds that a close waits for a query.
_CLOSE_SECONDS = 5.0

# Marks a file as a state file of this engine: "OFAk".
_APPLICATION_ID = 0x4F46416B

_OF_ASSETS = ("last", "command", "deregistered")
_ALL = (*_OF_ASSETS, "folded", "log", "uns")

_encode = msgspec.json.Encoder().encode
_events = msgspec.json.Decoder(list[AssetEvent])
_levels = msgspec.json.Decoder(dict[str, str])

_ROWS = """
SELECT json_group_array(json_array(asset, attr, json(value), type, tag, ts, id, json(attributes)))
FROM (SELECT * FROM last ORDER BY id)
"""
_COMMANDS = "SELECT json_group_array(json(event)) FROM (SELECT * FROM command ORDER BY id)"


class FoldedState(NamedTuple):
    """The part of a log that a state file contains.

    Attributes:
        offsets: by partition, the offset up to which the file contains the log.
        marks: by partition, the last record that the file contains.
    """

    offsets: Mapping[Partition, int] = {}
    marks: Mapping[Partition, RecordMark] = {}


class FoldedTables:
    """The contents of a fold in SQLite.

    One process writes a state file. Further processes with the same file read it when they start, and then keep their
    tables in memory.

    Args:
        state: the state file, or None to keep the tables in memory.
        log: the identity of the log.

    Attributes:
        owns_file: whether this process writes the state file.

    Raises:
        EngineUnavailableError: the file cannot be opened, or is not a state file.
    """

    def __init__(self, state: Path | None, log: str) -> None:
        self._lock = threading.Lock()
        self._state = state
        self._log = log
        self._file_lock = None if state is None else _lock_of(state)
        self.owns_file = self._file_lock is not None and self._file_lock.acquire(0)
        try:
            if state is not None and self.owns_file:
                create_for_group(state)
            self._connection = _open(str(state) if self.owns_file else ":memory:")
        except (OSError, sqlite3.Error) as error:
            self._release()
            raise _unusable(state, error) from error
        except BaseException:
            self._release()
            raise

    @property
    def has_file(self) -> bool:
        """Whether the state is that of a file."""
        return self._state is not None

    def load(self, fold: Fold) -> FoldedState:
        """Load the state file into a fold.

        Returns:
            The part of the log that the file contains; empty for a file of another log.

        Raises:
            EngineUnavailableError: the file is damaged.
        """
        if self._state is None:
            return FoldedState()
        try:
            if self.owns_file:
                return self._load(self._connection, fold)
            _logger.info("%s is in use by another process. It is read now, and not updated.", self._state)
            connection = sqlite3.connect(f"{self._state.as_uri()}?mode=ro", uri=True, isolation_level=None)
            try:
                return self._load(connection, fold)
            finally:
                connection.close()
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            raise _unusable(self._state, error) from error

    def save(
        self, fold: Fold, positions: Mapping[Partition, int], marks: Mapping[Partition, RecordMark], base: int
    ) -> None:
        """Write the changes of a fold to the tables.

        The caller ensures that the fold does not change meanwhile.

        Args:
            fold: the state.
            positions: by partition, the offset up to which the fold contains the log, from the base.
            marks: by partition, the last record.
            base: the base of the log, from which the tables do not count.
        """
        with self._lock:
            connection = self._connection
            connection.execute("BEGIN")
            try:
                self._write(connection, fold, base)
                if self.owns_file:
                    self._write_for_next_start(connection, fold, positions, marks, base)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk ends the transaction by itself
                    connection.execute("ROLLBACK")
                raise
        fold.clear_changes()

    def pairs(self, view: str, column: str, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        """Return one column of a table by asset UUID."""
        with self._lock:
            return read_pairs(self._connection, view, column, asset_uuids)

    def places(self) -> dict[str, str]:
        """Return the UNS id of each asset that has one; the asset that got its place last is the last."""
        with self._lock:
            return read_places(self._connection)

    def select(self, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Run a user's SELECT and return its rows.

        Raises:
            QueryError: the statement is not a SELECT, or cannot be answered.
        """
        return run_select(self._reading, sql, parameters)

    def close(self) -> None:
        """Close the database and release the lock of the state file."""
        if self._lock.acquire(timeout=_CLOSE_SECONDS):  # a function of a user's query may still run
            self._connection.close()
            self._lock.release()
        self._release()

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            yield self._connection

    def _load(self, connection: sqlite3.Connection, fold: Fold) -> FoldedState:
        if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            return FoldedState()  # the process that writes the file replaces it
        log = connection.execute("SELECT id FROM log").fetchone()
        if log is not None and log[0] != self._log:
            _logger.warning(
                "%s belongs to another cluster, or to topics that have been made anew or have other partitions. "
                "The log is read from its start instead.",
                self._state,
            )
            self.begin(self._log)
            return FoldedState()
        for event in _events.decode(connection.execute(_ROWS).fetchone()[0]):
            fold.apply(event)
        fold.commands.clear()
        for event in _events.decode(connection.execute(_COMMANDS).fetchone()[0]):
            fold.commands[event.asset_uuid, event.tag].append(event)
        fold.deregistered.update(connection.execute("SELECT asset, id FROM deregistered").fetchall())
        for asset_uuid, uns_id, levels, updated_at in connection.execute("SELECT * FROM uns").fetchall():
            fold.places[asset_uuid] = Place(uns_id, None if levels is None else _levels.decode(levels), updated_at)
        if self.owns_file:
            fold.clear_changes()
        else:
            fold.changed_registrations.update(fold.deregistered, fold.places)
        offsets: dict[Partition, int] = {}
        marks: dict[Partition, RecordMark] = {}
        for topic, number, offset, *mark in connection.execute("SELECT * FROM folded"):
            offsets[Partition(topic, number)] = offset
            if mark[0] is not None:
                marks[Partition(topic, number)] = RecordMark(*mark)
        return FoldedState(offsets, marks)

    def begin(self, log: str) -> None:
        """Delete all rows, because the tables contain another log from now on.

        Args:
            log: the identity of the log.
        """
        with self._lock:
            self._log = log
            deletions = (f"DELETE FROM {table};" for table in _ALL)  # noqa: S608 - our own names
            self._connection.executescript(f"BEGIN; {' '.join(deletions)} COMMIT;")

    def drop(self, asset_uuids: Collection[str]) -> None:
        """Delete the rows of some assets from tables that are no state file; their places in the namespace stay."""
        with self._lock:
            for table in _OF_ASSETS:
                self._connection.executemany(
                    f"DELETE FROM {table} WHERE asset = ?",  # noqa: S608 - our own names
                    ((asset_uuid,) for asset_uuid in asset_uuids),
                )

    def _write(self, connection: sqlite3.Connection, fold: Fold, base: int) -> None:
        changed = (fold.assets[asset_uuid][attribute_id] for asset_uuid, attribute_id in fold.changed)
        rows = (_row(event, base) for event in changed)
        connection.executemany("INSERT OR REPLACE INTO last VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        registrations = fold.changed_registrations
        connection.executemany(
            "INSERT OR REPLACE INTO deregistered VALUES (?, ?)",
            [(asset, fold.deregistered[asset] - base) for asset in registrations if asset in fold.deregistered],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO uns VALUES (?, ?, ?, ?)",
            [_row_of_place(asset, fold.places[asset]) for asset in registrations if asset in fold.places],
        )

    def _write_for_next_start(
        self,
        connection: sqlite3.Connection,
        fold: Fold,
        positions: Mapping[Partition, int],
        marks: Mapping[Partition, RecordMark],
        base: int,
    ) -> None:
        unsaved = (event for recent in fold.commands.values() for event in recent.newest(recent.unsaved))
        changed = (event.with_position((event.position or 0) - base) for event in unsaved)
        commands = ((event.asset_uuid, event.tag, event.position, _encode(event).decode()) for event in changed)
        connection.executemany("INSERT OR REPLACE INTO command VALUES (?, ?, ?, ?)", commands)
        for (asset_uuid, tag), recent in fold.commands.items():
            if len(recent) == MAX_COMMANDS:
                oldest = (next(iter(recent)).position or 0) - base
                connection.execute(
                    "DELETE FROM command WHERE asset = ? AND tag = ? AND id < ?", (asset_uuid, tag, oldest)
                )
        folded = [
            (*partition, offset - base, *marks.get(partition, (None, None))) for partition, offset in positions.items()
        ]
        connection.executemany("INSERT OR REPLACE INTO folded VALUES (?, ?, ?, ?, ?)", folded)
        connection.execute("DELETE FROM log")
        connection.execute("INSERT INTO log VALUES (?)", (self._log,))

    def _release(self) -> None:
        if self._file_lock is not None:
            if self.owns_file:
                self._file_lock.release()
            self._file_lock.close()


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_new = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None
        if application == _APPLICATION_ID and version < _FORMER_VERSION:
            connection.close()
            for suffix in ("", "-wal", "-shm"):  # the log has all that an earlier version has written
                Path(path + suffix).unlink(missing_ok=True)
            return _open(path)
        if (application, version) == (_APPLICATION_ID, _FORMER_VERSION):
            renew_topology(connection, _VERSION, _FROM_FORMER_VERSION)
        elif (application, version) != (_APPLICATION_ID, _VERSION) and not is_new:
            raise EngineUnavailableError(
                f"{path} is not a state file of this version. Name another file by state= in the URL.",
                address=path,
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA case_sensitive_like = ON")  # like ksqlDB
        if is_new:
            schema = resources.files("openfactory.engines.kafka_engine").joinpath("tables.sql").read_text("utf-8")
            marks = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION};"
            connection.executescript(f"BEGIN; {schema}\n{schema_of_topology()}\n{marks} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _lock_of(state: Path) -> FileLock:
    try:
        return FileLock(state.with_name(state.name + ".lock"))
    except OSError as error:
        raise _unusable(state, error) from error


def _unusable(state: Path | None, error: Exception) -> EngineUnavailableError:
    return EngineUnavailableError(
        f"The state file {state} cannot be used ({error}). "
        "Remove it, and the engine creates it again from the log; or name another file by state= in the URL.",
        address=str(state),
    )


def _row(event: AssetEvent, base: int) -> tuple[Any, ...]:
    value, position = _encode(event.value).decode(), (event.position or 0) - base
    attributes = None if event.attributes is None else _encode(event.attributes).decode()
    return event.asset_uuid, event.id, value, event.type, event.tag, event.timestamp, position, attributes


def _row_of_place(asset_uuid: str, place: Place) -> tuple[Any, ...]:
    levels = None if place.uns_levels is None else _encode(place.uns_levels).decode()
    return asset_uuid, place.uns_id, levels, place.updated_at
