"""The use of a database file without other processes, to put another file in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from openfactory.concurrency.file_lock import FileLock
from openfactory.concurrency.kernel_locks import kernel_locks
from openfactory.exceptions import EngineUnavailableError

if sys.platform != "win32":
    import fcntl

__all__ = ["exclusive", "processes_of", "refuse_open"]

# Each connection of SQLite to a database with a WAL holds a shared lock on this byte of the index of the WAL.
_CONNECTION_BYTE = 128

# Seconds to wait for the lock, which a writer holds for one commit.
_LOCK_SECONDS = 5.0


def processes_of(path: Path) -> list[int]:
    """Return the ids of the other processes that have a database open; 0 for a process that is only known to exist."""
    index = path.with_name(f"{path.name}-shm")
    try:
        locks = kernel_locks(index.stat())
    except FileNotFoundError:
        return [] if not index.exists() or sys.platform == "win32" else _by_own_lock(index)
    found = {max(lock.process, 0) for lock in locks if lock.first == _CONNECTION_BYTE}
    return sorted(found - {os.getpid()})


def _by_own_lock(index: Path) -> list[int]:
    """Return whether others have locked the index, on a system that does not list its locks. Not tested.

    This process must not have the database open: with the descriptor, it would lose its own locks.
    """
    with index.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _CONNECTION_BYTE)
        except OSError:
            return [0]
    return []


def refuse_open(path: Path, purpose: str) -> None:
    """Refuse to replace a database that other processes have open.

    Raises:
        EngineUnavailableError: processes have the database open.
    """
    processes = processes_of(path)
    if not processes:
        return
    known = ", ".join(str(process) for process in processes if process)
    who = f"by process {known}" if known else "by a process of another container or user"
    raise EngineUnavailableError(
        f"{path} is open {who}. Stop every app and tool that uses the file, then {purpose} it.", address=str(path)
    )


@contextmanager
def exclusive(path: Path, purpose: str) -> Generator[None]:
    """Hold the lock of a database that no other process has open, so that no process opens it meanwhile.

    Raises:
        EngineUnavailableError: processes have the database open.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
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
