"""Checks of a factory in a file: its files, its disk, its content, and a test event on the embedded engine."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openfactory.doctor.content import examine_content
from openfactory.doctor.disk import examine_disk
from openfactory.doctor.factory import Factory
from openfactory.doctor.file_access import examine_access
from openfactory.doctor.finding import Finding, advised, failed, fine, unchecked
from openfactory.doctor.wal import examine_wal, other_writers
from openfactory.engines.embedded.database import FileDatabase
from openfactory.engines.embedded.files import files_of
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.engines.embedded.trial import try_event
from openfactory.engines.tables import read_pairs
from openfactory.exceptions import EngineUnavailableError, OpenFactoryError
from openfactory.settings.redaction import redacted

__all__ = ["examine_embedded"]

# Seconds to wait for a wake-up, which takes a fraction of a millisecond.
_WAKE_SECONDS = 1.0

# Milliseconds to wait for another program. An app holds the lock of the factory while it writes, and this check too.
_BUSY_MS = 1_000


def examine_embedded(factory: Factory) -> Iterator[Finding]:
    """Check the file of a factory, and the embedded engine on it. A missing file is not created.

    A damaged file is only read.
    """
    location = EmbeddedLocation.of(factory.url)
    path = location.path
    if path is None:
        yield unchecked("file", f"{redacted(factory.url)} exists only in the memory of the process that opened it.")
        return
    try:
        is_file = path.is_file()
    except PermissionError:
        yield failed("file", f"{path} is in a folder closed to this user. Grant this user access to the folder.")
        return
    if not is_file:
        yield failed("file", _missing(path))
        return
    with _kept_owner(path):
        yield from examine_access(path)
        yield from examine_disk(path)
        yield from examine_wal(path)
        content = list(examine_content(path))
        yield from content
        if any(finding.status == "failed" for finding in content):
            yield unchecked("engine", "Not opened, because an engine writes to the file. Repair the file first.")
        else:
            yield from _examine_engine(location, path)


def _missing(path: Path) -> str:
    if path.exists():
        return f"{path} is not a file. Name a file in KSQLDB_URL."
    if not path.parent.is_dir():
        return f"{path} does not exist. Create the folder {path.parent} first, or name another file in KSQLDB_URL."
    return f"{path} does not exist. Start an app with `ofa run FILE`, which creates it."


@contextmanager
def _kept_owner(path: Path) -> Generator[None]:
    """Give the files that root creates beside a database to the owner of the database, who could not use them."""
    before, owner = [file for file in files_of(path) if file.exists()], path.stat()
    try:
        yield
    finally:
        if os.name == "posix" and os.geteuid() == 0:
            for file in files_of(path):
                if file not in before and file.exists():
                    with suppress(FileNotFoundError):  # another process closes the database
                        os.chown(file, owner.st_uid, owner.st_gid)


def _examine_engine(location: EmbeddedLocation, path: Path) -> Iterator[Finding]:
    """Open the database as an engine does, and write an event."""
    try:
        database = FileDatabase(location)
    except OpenFactoryError as error:
        yield failed("engine", error)
        return
    try:
        with database.reading() as connection:
            assets = len(read_pairs(connection, "assets_type", "type"))
        yield fine("engine", f"works, registered assets: {assets}")
        yield _examine_writing(database, path)
        yield _examine_wake_up(database, path)
    except OpenFactoryError as error:
        yield failed("engine", error)
    finally:
        database.close(_WAKE_SECONDS)


def _examine_writing(database: FileDatabase, path: Path) -> Finding:
    """Write an event, read it, and remove it again, in a transaction that shows it to no other process."""
    start = time.monotonic()
    try:
        with database.writing() as connection:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            is_read = try_event(connection)
    except (sqlite3.Error, OSError, OpenFactoryError) as error:
        explained = database.explained(error)
        if explained is not error:
            return failed("test event", explained)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return failed("test event", f"{_locked(path)} End its transaction, or end the program.")
        return failed("test event", f"An event cannot be written to {path} ({error}). Check the file and its disk.")
    if not is_read:
        return failed("test event", f"An event was written to {path} and is not read. Restore a copy of the file.")
    return fine("test event", f"written and read in {(time.monotonic() - start) * 1000:.0f} ms, and removed again")


def _locked(path: Path) -> str:
    writers = other_writers(path)
    who = f"Process {writers[0]}" if writers else "Another program"
    return f"{who} keeps a transaction open on {path}, so that nobody can write."


def _examine_wake_up(database: FileDatabase, path: Path) -> Finding:
    try:
        database.listen()
        start = time.monotonic()
        database.wake.notify()
        database.wake.wait(_WAKE_SECONDS)
        seconds = time.monotonic() - start
    except EngineUnavailableError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        found = f"Wake-ups cannot be received in {path.name}.wake ({reason})."
    else:
        if seconds < _WAKE_SECONDS:
            return fine("wake-up", f"received after {seconds * 1000:.1f} ms")
        found = f"No wake-up arrives in {path.name}.wake."
    return advised(
        "wake-up",
        f"{found} Without them, subscribers read an event a quarter of a second late. Stop all apps and remove "
        f"the folder {path}.wake; the next app creates it.",
    )
