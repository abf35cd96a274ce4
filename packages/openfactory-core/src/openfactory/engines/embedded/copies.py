"""Copies of a database: backup while apps run, restore, and a compact copy in the place of the file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from openfactory.concurrency.group_access import create_for_group
from openfactory.engines.embedded.database import APPLICATION_ID, fault_of_kind
from openfactory.engines.embedded.exclusion import exclusive, refuse_open
from openfactory.engines.embedded.files import size_text, wal_index_of, wal_of
from openfactory.exceptions import EngineUnavailableError

__all__ = ["Progress", "back_up", "compact", "restore"]

#: Called with a stage, such as "copied", and the part of it that is done, from 0 to 1.
Progress = Callable[[str, float], None]

# Number of pages that are copied at once.
_PAGES = 2_048

# Number of steps of SQLite between two reports of progress.
_STEPS = 200_000

# Bytes that stay free on the disk.
_SPARE_BYTES = 16 * 1024 * 1024


def back_up(path: Path, target: Path, progress: Progress) -> int:
    """Copy a database as it is now, also while apps write to it, and check the copy. Return its size.

    The copy is written beside its place, and gets its name when it is whole.

    Raises:
        EngineUnavailableError: the target exists, the disk has too little space, or the copy is not whole.
    """
    if target.exists():
        raise _error(target, "exists. Name another file, or remove that one.")
    remedy = "Free space, or name a file on another disk."
    with _checked_copy(path, target, "part", remedy, progress) as part:
        if target.exists():
            raise _error(target, "was created by another process meanwhile. Name another file.")
        part.rename(target)
    return target.stat().st_size


def restore(path: Path, backup: Path, progress: Progress) -> Path | None:
    """Put a copy of a backup in the place of a database. Return the name that a former file has now.

    Raises:
        EngineUnavailableError: processes have the database open, or the backup is not a database of OpenFactory.
    """
    if not backup.is_file():
        raise _error(backup, "does not exist. Name the file that `ofa db backup` has written.")
    if backup.resolve() == path:
        raise _error(backup, "is the database itself. Name the file that `ofa db backup` has written.")
    refuse_open(path, "restore")
    with _checked_copy(backup, path, "restoring", "Free space on it.", progress) as part:
        if path.exists():
            _take_rights(part, path)
        with exclusive(path, "restore"):
            aside = _put_aside(path)
            part.rename(path)
    return aside


def compact(path: Path, progress: Progress) -> tuple[int, int]:
    """Write a database anew without its free pages. Return its size before and after.

    Raises:
        EngineUnavailableError: processes have the database open, or the disk has too little space.
    """
    with exclusive(path, "compact"), _part(path, "compact") as part:
        before = _size(path)
        with closing(_opened(path, "rw")) as connection:
            _refuse_other(connection, path)
            pages, free, page_bytes = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            expected = (pages - free) * page_bytes
            _require_space(path, expected, "Free space on it, or lower the bounds with `ofa db prune`.")
            connection.set_progress_handler(lambda: progress("written", min(_size(part) / expected, 1.0)), _STEPS)
            try:
                connection.execute("VACUUM INTO ?", (os.fspath(part),))
            except sqlite3.Error as error:
                problem = f"cannot be written anew ({error}). Check the disk, and the file with `ofa doctor`."
                raise _error(path, problem) from error
        _check(part, progress)
        _take_rights(part, path)
        _sync(part)
        if wal_of(path).exists():  # the file alone would lack its contents
            raise _error(path, "is read by another program. End it, then compact the file.")
        part.replace(path)
        return before, path.stat().st_size


@contextmanager
def _checked_copy(source: Path, target: Path, suffix: str, remedy: str, progress: Progress) -> Generator[Path]:
    """Yield a checked copy of a database beside its place, and remove it unless it gets another name.

    Args:
        source: the database.
        target: place of the copy.
        suffix: end of the name of the copy beside it.
        remedy: what helps if the disk has too little space.
        progress: called with the progress.
    """
    _require_space(target, _size(source), remedy)
    with _part(target, suffix) as part:
        _copy(source, part, progress)
        _check(part, progress)
        _sync(part)
        yield part


def _copy(source: Path, target: Path, progress: Progress) -> None:
    """Copy one state of a database, page by page."""
    with closing(_opened(source, "ro")) as connection, closing(sqlite3.connect(target)) as copy:
        _refuse_other(connection, source)
        try:
            connection.execute("BEGIN")  # one state for all steps: a write meanwhile would begin the copy anew
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
            connection.backup(
                copy,
                pages=_PAGES,
                progress=lambda _, remaining, total: progress("copied", 1 - remaining / max(total, 1)),
            )
            # A copy in WAL mode could not be read on a read-only disk. An app that opens it sets the mode again.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        except sqlite3.Error as error:
            problem = f"cannot be copied ({error}). Check the disks, and the file with `ofa doctor`."
            raise _error(source, problem) from error


def _check(path: Path, progress: Progress) -> None:
    with closing(_opened(path, "rw")) as connection:
        _refuse_other(connection, path)

        def report() -> None:
            progress("checked", 0.0)

        connection.set_progress_handler(report, _STEPS)
        try:
            faults = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        except sqlite3.DatabaseError as error:
            faults = [str(error)]
    if faults != ["ok"]:
        raise _error(path, f"is damaged: {'; '.join(faults)}. Check the disk, and use another backup.")
    progress("checked", 1.0)


def _opened(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise _error(path, f"cannot be opened ({error}). Grant this user access to it.") from error


def _refuse_other(connection: sqlite3.Connection, path: Path) -> None:
    try:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        fault = fault_of_kind(connection, path)
    except sqlite3.Error as error:
        raise _error(path, f"cannot be read ({error}). Name a database of OpenFactory.") from error
    if application != APPLICATION_ID:
        raise _error(path, "is not a database of OpenFactory. Name another file.")
    if fault:
        raise EngineUnavailableError(fault, address=str(path))


def _take_rights(part: Path, path: Path) -> None:
    """Give a copy the permissions of the database in whose place it comes, and its owner and group if possible."""
    shutil.copymode(path, part)
    with suppress(PermissionError):
        os.chown(part, path.stat().st_uid, path.stat().st_gid)


def _put_aside(path: Path) -> Path | None:
    """Rename a database, with the rest of its WAL if its last process was killed."""
    if not path.exists():
        return None
    stem = f"{path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside, number = path.with_name(stem), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{stem}-{number}")
    wal = wal_of(path)
    if wal.exists():
        wal.rename(wal_of(aside))
    wal_index_of(path).unlink(missing_ok=True)
    return path.rename(aside)


@contextmanager
def _part(path: Path, suffix: str) -> Generator[Path]:
    """Yield the name of a file beside a path, for a copy that is not whole yet, and remove the rest of that file."""
    part = path.with_name(f"{path.name}.{suffix}")
    part.unlink(missing_ok=True)  # of a command that was killed
    try:
        create_for_group(part)
    except OSError as error:
        problem = f"cannot be created ({error.strerror}). Name a file in a folder that this user may write."
        raise _error(part, problem) from error
    try:
        yield part
    finally:
        for rest in ("", "-wal", "-shm", "-journal"):
            part.with_name(part.name + rest).unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Return the bytes of a database and its WAL."""
    files = (path, wal_of(path))
    return sum(file.stat().st_size for file in files if file.exists())


def _require_space(path: Path, size: int, remedy: str) -> None:
    if not path.parent.is_dir():
        raise _error(path, f"cannot be written: the folder {path.parent} does not exist. Create it first.")
    free = shutil.disk_usage(path.parent).free
    if free < size + _SPARE_BYTES:
        raise _error(
            path,
            f"needs {size_text(size)}, and its disk has {size_text(free)} free. {remedy}",
        )


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _error(path: Path, problem: str) -> EngineUnavailableError:
    return EngineUnavailableError(f"{path} {problem}", address=str(path))
