"""The database and access to it: one writer at a time across all processes, readers at any time."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from abc import abstractmethod
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Protocol

from openfactory.concurrency.file_lock import FileLock
from openfactory.concurrency.group_access import create_for_group
from openfactory.engines.embedded.file_system import refuse_network_file_system
from openfactory.engines.embedded.files import lock_of, wake_folder_of
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.embedded.open_files import OpenFiles
from openfactory.engines.embedded.wake import DatagramWake, LocalWake, Wake
from openfactory.engines.tables import renew_topology, schema_of_topology
from openfactory.exceptions import EngineUnavailableError

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "Database", "FileDatabase", "MemoryDatabase", "fault_of_kind"]

SCHEMA_VERSION = 3

# Processes of the earlier version that have the file open keep working: they name the columns that they write.
_TO_VERSION_2 = "ALTER TABLE log ADD COLUMN attributes TEXT CHECK (attributes IS NULL OR json_valid(attributes));"

# Tables of version 3, which an earlier file gets empty, so that opening it takes no time.
_RETENTION = "retention.sql"

# The last event of each attribute. Its key is that of `latest`: the log has no index of assets and attributes.
_LAST = """\
CREATE VIEW last AS
SELECT latest.asset, latest.attr, log.value, log.type, log.tag, log.ts, log.id
FROM latest JOIN log ON log.id = latest.id"""

# Marks a file as a database of OpenFactory: "OFAe".
APPLICATION_ID = 0x4F464165

# Seconds of waiting for the lock after which its owner is reported.
_LOCK_PATIENCE = 0.3

_FOREIGN = "is a database of another program"

_OLDEST_SQLITE = (3, 38, 0)

# An I/O error on a disk with less free space than this is one of a full disk.
_LEAST_FREE_BYTES = 128 * 1024

# Seconds to wait for the lock when the file is opened.
_LOCK_TIMEOUT = 5.0


class Database(Protocol):
    """The database of one engine, in a file or in memory."""

    wake: Wake

    @abstractmethod
    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Take the lock that all processes share, and yield the connection for writing."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Yield a connection that reads committed data."""

    @abstractmethod
    def querying(self) -> AbstractContextManager[sqlite3.Connection]:
        """Yield a connection for a user's query, which may take long."""

    @abstractmethod
    def tailing(self) -> AbstractContextManager[sqlite3.Connection]:
        """Yield the connection of the thread that follows the log."""

    @abstractmethod
    def write_problem(self) -> str:
        """Return the problem that keeps writers from writing now, with its remedy, or an empty string."""

    @abstractmethod
    def explained(self, error: Exception) -> Exception:
        """Return the reason of a failed write: the error, or an error with a remedy in its place."""

    @abstractmethod
    def file_problem(self) -> str:
        """Return the error text if a file of the database was removed or replaced, or an empty string."""

    @abstractmethod
    def listen(self) -> None:
        """Start to receive wake-ups."""

    @abstractmethod
    def close(self, timeout: float) -> None:
        """Close all connections. Wait for the lock at most `timeout` seconds."""


class MemoryDatabase:
    """Database in memory that ends with the engine."""

    def __init__(self) -> None:
        self.wake: Wake = LocalWake()
        self._lock = threading.RLock()
        self._connection = _connect(":memory:", "normal")
        _create_schema(self._connection)

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            yield self._connection

    reading = querying = tailing = writing

    def write_problem(self) -> str:
        return ""

    file_problem = write_problem

    def explained(self, error: Exception) -> Exception:
        return error

    def listen(self) -> None:
        pass

    def close(self, timeout: float) -> None:
        if self._lock.acquire(timeout=timeout):  # a function of a user's query may still run
            self._connection.close()
            self._lock.release()
        self.wake.close()


class FileDatabase:
    """Database in a file that many processes share, with a lock file and a wake-up folder beside it."""

    def __init__(self, location: EmbeddedLocation) -> None:
        assert location.path is not None
        self.path = location.path
        self._synchronous = location.synchronous
        self._reading = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        refuse_network_file_system(self.path)
        lock_path, wake_path = lock_of(self.path), wake_folder_of(self.path)
        creates_lock = False
        lock: FileLock | None = None
        try:
            creates_lock = not lock_path.exists()
            self.lock = lock = FileLock(lock_path)
            self.wake: Wake = DatagramWake(wake_path)
            self._open()
        except (OSError, sqlite3.Error, EngineUnavailableError) as error:
            if lock is not None:
                lock.close()
            if creates_lock and self._is_foreign(error):
                _remove(lock_path, wake_path)  # leave no files beside the database of another program
            if isinstance(error, EngineUnavailableError):
                raise
            raise EngineUnavailableError(
                f"{self.path} cannot be opened ({error}). {_remedy(self.path, error)}", address=str(self.path)
            ) from error

    @staticmethod
    def _is_foreign(error: Exception) -> bool:
        return any(reason in str(error) for reason in (_FOREIGN, "not a database"))

    def _open(self) -> None:
        if not self.lock.acquire(_LOCK_TIMEOUT):
            raise EngineUnavailableError(
                f"{self.path} cannot be opened: {self._lock_problem()}", address=str(self.path)
            )
        try:
            create_for_group(self.path)  # SQLite would take away the group's access; the other files get the same mode
            self._writer = self._connect()
            if fault := fault_of_kind(self._writer, self.path):
                raise EngineUnavailableError(fault, address=str(self.path))
            self._writer.execute("PRAGMA journal_mode = WAL")  # stored in the file
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                _create_schema(self._writer)
            elif version < SCHEMA_VERSION:
                extension = _part_of_schema(_RETENTION) if version == 2 else _TO_VERSION_2 + _part_of_schema(_RETENTION)
                renew_topology(self._writer, SCHEMA_VERSION, extension)
            _renew_last(self._writer)
            _refuse_damaged(self._writer)
            self._reader, self._tailer = self._connect(), self._connect()
            for connection in (self._reader, self._tailer):
                connection.execute("PRAGMA query_only = ON")
            self._files = OpenFiles(self.path, self.lock.path)
        except BaseException:
            self._close_connections()
            raise
        finally:
            self.lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = _connect(os.fspath(self.path), self._synchronous)
        self._connections.append(connection)
        return connection

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        with self.lock:
            yield self._writer

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        with self._translated_errors(), self._reading:
            yield self._reader

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise EngineUnavailableError(
                f"{self.path} cannot be read ({error}). {_remedy(self.path, error)}", address=str(self.path)
            ) from error

    @contextmanager
    def querying(self) -> Generator[sqlite3.Connection]:
        # A connection of its own, so that a long query delays no other reader. A read-only one never checkpoints.
        with self._translated_errors():
            connection = _connect(f"{self.path.as_uri()}?mode=ro", self._synchronous)
            try:
                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            except BaseException:
                connection.close()
                raise
        with closing(connection):
            yield connection

    @contextmanager
    def tailing(self) -> Generator[sqlite3.Connection]:
        yield self._tailer

    def write_problem(self) -> str:
        return self._lock_problem() if self.lock.waited() > _LOCK_PATIENCE else self.file_problem()

    def explained(self, error: Exception) -> Exception:
        if not _is_of_full_disk(self.path, error):
            return error
        full = EngineUnavailableError(f"{_full_disk(self.path)} Then write again.", address=str(self.path))
        full.__cause__ = error
        return full

    def file_problem(self) -> str:
        return self._files.problem()

    def _lock_problem(self) -> str:
        holder = self.lock.holder()
        if holder is None:
            return (
                f"another process holds {self.lock.path.name} and does not release it. Find it with "
                f"`fuser {self.lock.path}`, run by root and outside of containers. Then resume or end it."
            )
        return (
            f"process {holder} holds {self.lock.path.name} and does not release it. "
            "Check whether that process is suspended, then resume or end it."
        )

    def listen(self) -> None:
        assert isinstance(self.wake, DatagramWake)
        try:
            self.wake.listen()
        except OSError as error:
            raise EngineUnavailableError(
                f"{self.path} cannot be watched ({error}). {_remedy(self.path, error)}", address=str(self.path)
            ) from error

    def close(self, timeout: float) -> None:
        self.wake.close()
        # Closing the last connection checkpoints the WAL and removes it, which needs the lock, and the WAL must still
        # be the one that was opened. Otherwise the connections stay open until the process has ended: its end does not
        # checkpoint, and the next process that opens the file reads the WAL as it is.
        if not self.lock.acquire(timeout):
            _never_close(self._connections)
            return
        try:
            if self.file_problem():
                _never_close(self._connections)
            else:
                self._close_connections()
        finally:
            self.lock.release()
            self.lock.close()
            self._files.close()

    def _close_connections(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()


def _never_close(connections: list[sqlite3.Connection]) -> None:
    """Keep connections open until the process has ended. Python would close them when it ends."""
    import ctypes

    for connection in connections:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _connect(path: str, synchronous: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise EngineUnavailableError(
            f"SQLite {sqlite3.sqlite_version} of this Python is too old for the embedded engine. "
            "Use a Python with SQLite 3.38 or later.",
            address=path,
        )
    is_uri = path.startswith("file:")
    connection = sqlite3.connect(
        path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=64, uri=is_uri
    )
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # only under the lock, see `checkpoints`
        connection.execute("PRAGMA secure_delete = OFF")  # some distributions turn it on
        connection.execute("PRAGMA case_sensitive_like = ON")  # as ksqlDB compares
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_damaged(connection: sqlite3.Connection) -> None:
    """Read from every table, so that opening a damaged file fails."""
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()  # noqa: S608 - our own names


def fault_of_kind(connection: sqlite3.Connection, path: Path) -> str:
    """Return the fault of a file that is neither new nor a database of this or an earlier version, or an empty text."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_new = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if application != APPLICATION_ID and not (is_new and application == version == 0):
        return f"{path} {_FOREIGN}. Name another file in KSQLDB_URL."
    if version > SCHEMA_VERSION:
        return (
            f"{path} was written by a later version of OpenFactory: its schema has version {version}, and this "
            f"OpenFactory supports {SCHEMA_VERSION}. Upgrade it: pip install --upgrade openfactory-core."
        )
    return ""


def _create_schema(connection: sqlite3.Connection) -> None:
    schema = _part_of_schema("schema.sql") + _part_of_schema(_RETENTION)
    marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    connection.executescript(f"BEGIN; {schema}\n{_LAST};\n{schema_of_topology()}\n{marks} COMMIT;")


def _part_of_schema(name: str) -> str:
    return resources.files("openfactory.engines.embedded").joinpath(name).read_text(encoding="utf-8")


def _renew_last(connection: sqlite3.Connection) -> None:
    """Give a file its present view `last`. That of earlier files read the whole log for each registered asset."""
    if connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'last'").fetchone() != (_LAST,):
        connection.executescript(f"BEGIN; DROP VIEW IF EXISTS last; {_LAST}; COMMIT;")


def _remove(lock_path: Path, wake_path: Path) -> None:
    with suppress(OSError):
        lock_path.unlink(missing_ok=True)
        wake_path.rmdir()


def _is_of_full_disk(path: Path, error: Exception) -> bool:
    """Return whether an error comes from a full disk, for which SQLite has several errors."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return code == sqlite3.SQLITE_FULL
    try:
        return shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES
    except OSError:
        return False


def _full_disk(path: Path) -> str:
    return f"The disk of {path} is full. Free space on it, or move the file to a larger disk."


def _remedy(path: Path, error: Exception) -> str:
    if _is_of_full_disk(path, error):
        return _full_disk(path)
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        return "It is not a database of OpenFactory. Name another file in KSQLDB_URL."
    if "disk I/O error" in str(error):
        return (
            f"If {path.name}-wal or {path.name}-shm was removed, stop every app that uses the database, then start "
            "them again. Otherwise check the disk."
        )
    if "malformed" in str(error):
        return "Restore a copy of the file, or move it away to start with an empty database."
    if path.parent.exists() and not path.parent.is_dir():
        return f"{path.parent} is not a folder. Name another file in KSQLDB_URL."
    if not path.parent.is_dir():
        return f"Create the folder {path.parent} first, or name another file in KSQLDB_URL."
    return "Name a file in KSQLDB_URL that this user may write."
