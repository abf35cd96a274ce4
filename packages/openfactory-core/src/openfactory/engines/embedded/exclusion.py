"""The use of a database file without other processes, to put another file in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from openfactory.concurrency.file_lock import FileLock
from openfactory.concurrency.kernel_locks import kernel_locks
from openfactory.engines.embedded.files import lock_of, wal_index_of
from openfactory.exceptions import EngineUnavailableError

if sys.platform != "win32":
    import fcntl

__all__ = ["exclusive", "processes_of", "refuse_open"]

# Each connection of SQLite to a database with a WAL holds a shared lock on this byte of the index of the WAL.
_CONNECTION_BYTE = 128

# Seconds to wait for the lock, which a writer holds for one commit.
_LOCK_SECONDS = 5.0


def processes_of(path: Path) -> list[int]:
    """Return the ids of the other processes that have a database open; 0 for a process that is only known to exist.

    Call it before this process opens the database, which could otherwise lose its own locks.

    Raises:
        EngineUnavailableError: this user may not look.
    """
    index = wal_index_of(path)
    try:
        found = {max(lock.process, 0) for lock in kernel_locks(index.stat()) if lock.first == _CONNECTION_BYTE}
    except OSError:  # there is no index, or the kernel does not list its locks
        found = set()
    if found:
        return sorted(found - {os.getpid()})
    # The list lacks the processes of other containers, and on some file systems every process.
    return [0] if _is_locked(index, path) else []


def _is_locked(index: Path, path: Path) -> bool:
    """Return whether a process has locked the index, as the kernel tells all processes of a machine."""
    if sys.platform == "win32":
        return False
    try:
        file = index.open("r+b")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise EngineUnavailableError(
            f"{index} cannot be opened ({error.strerror}), so it is not known whether apps have {path} open. "
            "Grant this user access to it.",
            address=str(path),
        ) from error
    with file:  # its end releases the lock
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _CONNECTION_BYTE)
        except OSError:
            return True
    return False


def refuse_open(path: Path, purpose: str) -> None:
    """Refuse to replace a database that other processes have open.

    Raises:
        EngineUnavailableError: processes have the database open, or this user may not look.
    """
    processes = processes_of(path)
    if not processes:
        return
    known = ", ".join(str(process) for process in processes if process)
    who = f"by process {known}" if known else "by another process, perhaps of another container"
    raise EngineUnavailableError(
        f"{path} is open {who}. Stop every app and tool that uses the file, then {purpose} it.", address=str(path)
    )


@contextmanager
def exclusive(path: Path, purpose: str) -> Generator[None]:
    """Hold the lock of a database that no other process has open, so that no process opens it meanwhile.

    Raises:
        EngineUnavailableError: processes have the database open, or this user may not look.
    """
    lock = FileLock(lock_of(path))
    try:
        if not lock.acquire(_LOCK_SECONDS):
            raise EngineUnavailableError(
                f"Process {lock.holder()} holds {lock.path} and does not release it. "
                f"Resume or end it, then {purpose} {path}.",
                address=str(path),
            )
        try:
            refuse_open(path, purpose)
            yield
        finally:
            lock.release()
    finally:
        lock.close()
