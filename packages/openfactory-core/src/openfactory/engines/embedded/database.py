"""The database and who may touch it when: one writer at a time over all processes, readers at any time."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Protocol

from openfactory.concurrency.file_lock import FileLock
from openfactory.engines.embedded.location import Location
from openfactory.engines.embedded.wake import DatagramWake, LocalWake, Wake
from openfactory.engines.tables import schema_of_topology
from openfactory.exceptions import EngineUnavailableError

__all__ = ["Database", "FileDatabase", "MemoryDatabase"]

SCHEMA_VERSION = 1

# Marks the file as ours: "OFAe".
_APPLICATION_ID = 0x4F464165

# How long a lock may take before somebody is said to hold it, in seconds.
_LOCK_PATIENCE = 0.3

_OF_OTHERS = "is a database of something else"

_OLDEST_SQLITE = (3, 38, 0)

# How long opening tries to get the lock, in seconds.
_LOCK_TIMEOUT = 5.0

_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "fuse.sshfs", "fuse.glusterfs", "ceph"}


class Database(Protocol):
    """One place of data, in a file or in memory."""

    wake: Wake

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection that writes, while nobody else in any process does."""

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection that reads what is committed."""

    def tailing(self) -> AbstractContextManager[sqlite3.Connection]:
        """The connection of the thread that follows the log."""

    def trouble(self) -> str:
        """What keeps writers from writing now, with the remedy; empty where nothing does."""

    def gone(self) -> str:
        """What is said when the file was removed; empty while it is in its place."""

    def listen(self) -> None:
        """Be woken from now on."""

    def close(self, timeout: float) -> None:
        """Let go of everything, within so many seconds."""


class MemoryDatabase:
    """Data that lives and ends with the engine."""

    def __init__(self) -> None:
        self.wake: Wake = LocalWake()
        self._lock = threading.RLock()
        self._connection = _connect(":memory:", "normal")
        _create_schema(self._connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection

    reading = tailing = writing

    def trouble(self) -> str:
        return ""

    gone = trouble

    def listen(self) -> None:
        pass

    def close(self, timeout: float) -> None:  # noqa: ARG002 - nothing here has to be waited for
        with self._lock:
            self._connection.close()
        self.wake.close()


class FileDatabase:
    """Data in a file that many processes share, with the lock and the wake-up folder beside it."""

    def __init__(self, location: Location) -> None:
        assert location.path is not None
        self.path = location.path
        self._synchronous = location.synchronous
        self._reading = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        _refuse_network_file_system(self.path)
        lock_path, wake_path = (self.path.with_name(self.path.name + suffix) for suffix in (".lock", ".wake"))
        is_new_here = False
        lock: FileLock | None = None
        try:
            is_new_here = not lock_path.exists()
            self.lock = lock = FileLock(lock_path)
            self.wake: Wake = DatagramWake(wake_path)
            self._open()
        except (OSError, sqlite3.Error, EngineUnavailableError) as error:
            if lock is not None:
                lock.close()
            if is_new_here and self._is_of_others(error):
                _remove(lock_path, wake_path)  # no litter beside a file that is none of ours
            if isinstance(error, EngineUnavailableError):
                raise
            raise EngineUnavailableError(
                f"{self.path} cannot be opened ({error}). {_remedy(self.path, error)}", address=str(self.path)
            ) from error

    @staticmethod
    def _is_of_others(error: Exception) -> bool:
        return any(reason in str(error) for reason in (_OF_OTHERS, "not a database"))

    def _open(self) -> None:
        if not self.lock.acquire(_LOCK_TIMEOUT):
            raise EngineUnavailableError(
                f"{self.path} cannot be opened: {self._lock_is_held()}", address=str(self.path)
            )
        try:
            self._writer = self._connect()
            _refuse_what_is_not_ours(self._writer, self.path)
            self._writer.execute("PRAGMA journal_mode = WAL")  # stays with the file
            if self._writer.execute("PRAGMA user_version").fetchone()[0] == 0:
                _create_schema(self._writer)
            _refuse_damage(self._writer)
            self._reader, self._tailer = self._connect(), self._connect()
            for connection in (self._reader, self._tailer):
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            self._close_connections()
            raise
        finally:
            self.lock.release()
        self._inode = os.stat(self.path).st_ino

    def _connect(self) -> sqlite3.Connection:
        connection = _connect(os.fspath(self.path), self._synchronous)
        self._connections.append(connection)
        return connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        with self.lock:
            yield self._writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._reading:
                yield self._reader
        except sqlite3.DatabaseError as error:
            raise EngineUnavailableError(
                f"{self.path} cannot be read ({error}). {_remedy(self.path, error)}", address=str(self.path)
            ) from error

    @contextmanager
    def tailing(self) -> Iterator[sqlite3.Connection]:
        yield self._tailer

    def trouble(self) -> str:
        return self._lock_is_held() if self.lock.waited() > _LOCK_PATIENCE else self.gone()

    def gone(self) -> str:
        try:
            moved = os.stat(self.path).st_ino != self._inode
        except OSError:
            moved = True
        if moved:
            return (
                f"{self.path} was removed or replaced while it was open. "
                "Stop every app that uses it, then start them again."
            )
        return ""

    def _lock_is_held(self) -> str:
        return (
            f"{self.lock.holder()} holds {self.lock.path.name} and does not give it back. "
            "See whether that process is stopped, and let it go on or end it."
        )

    def listen(self) -> None:
        assert isinstance(self.wake, DatagramWake)
        self.wake.listen()

    def close(self, timeout: float) -> None:
        self.wake.close()
        # The last connection that closes checkpoints, which needs the lock. Without it they stay open until the
        # process ends: that checkpoints nothing, and the next one to open the file finds the log as it is.
        if not self.lock.acquire(timeout):
            _never_closed.extend(self._connections)
            return
        try:
            self._close_connections()
        finally:
            self.lock.release()
            self.lock.close()

    def _close_connections(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections.clear()


# Connections that could not be closed under the lock: kept, because Python would close what nobody holds.
_never_closed: list[sqlite3.Connection] = []


def _connect(path: str, synchronous: str) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise EngineUnavailableError(
            f"The embedded engine needs SQLite 3.38 and this Python has {sqlite3.sqlite_version}. "
            "Use a Python that brings a newer one.",
            address=path,
        )
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # only under the lock, see `writer`
        connection.execute("PRAGMA secure_delete = OFF")  # some distributions compile it on
        connection.execute("PRAGMA case_sensitive_like = ON")  # as ksqlDB compares
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_damage(connection: sqlite3.Connection) -> None:
    """Touch every table, so that a file that is damaged for good is found when it is opened."""
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        connection.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone()  # noqa: S608 - our own names


def _refuse_what_is_not_ours(connection: sqlite3.Connection, path: Path) -> None:
    """A new file is fine, and one that we have written; nothing else is touched."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    is_new = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if application != _APPLICATION_ID and not (is_new and application == version == 0):
        raise EngineUnavailableError(f"{path} {_OF_OTHERS}. Name another file in KSQLDB_URL.", address=str(path))
    if version > SCHEMA_VERSION:
        raise EngineUnavailableError(
            f"{path} was written by a later version of OpenFactory: its schema is {version}, "
            f"this one knows {SCHEMA_VERSION}. Upgrade it: pip install --upgrade openfactory-core.",
            address=str(path),
        )


def _create_schema(connection: sqlite3.Connection) -> None:
    schema = resources.files("openfactory.engines.embedded").joinpath("schema.sql").read_text(encoding="utf-8")
    marks = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
    connection.executescript(f"BEGIN; {schema}\n{schema_of_topology()}\n{marks} COMMIT;")


def _remove(lock_path: Path, wake_path: Path) -> None:
    with suppress(OSError):
        lock_path.unlink(missing_ok=True)
        wake_path.rmdir()


def _remedy(path: Path, error: Exception) -> str:
    if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
        return "It is no database of OpenFactory: name another file in KSQLDB_URL."
    if "malformed" in str(error):
        return "Restore a copy of it, or move it away to begin anew."
    if path.parent.exists() and not path.parent.is_dir():
        return f"{path.parent} is no folder: name another file in KSQLDB_URL."
    if not path.parent.is_dir():
        return f"Make the folder {path.parent} first, or name another file in KSQLDB_URL."
    return "Name a file that this user may write in KSQLDB_URL."


def _refuse_network_file_system(path: Path) -> None:
    """Processes that share the file must share memory, which they do not over a network."""
    if sys.platform != "linux":
        return
    mounts = []
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            _, folder, kind = line.split(" ")[:3]
            folder = folder.replace("\\040", " ")
            if path.is_relative_to(folder):
                mounts.append((len(folder), kind))
    kind = max(mounts, default=(0, ""))[1]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise EngineUnavailableError(
            f"{path} is on a network file system ({kind}), which cannot keep an embedded database sound. "
            "Name a file on a local disk in KSQLDB_URL, or use a Kafka for a factory of several machines.",
            address=str(path),
        )
