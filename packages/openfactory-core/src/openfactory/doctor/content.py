"""Check of the content of a database: its header, its pages, its tables, and the events that they point to."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from openfactory.concurrency.bounded import call_on_thread
from openfactory.doctor.files import read_part
from openfactory.doctor.finding import Finding, failed, fine, unchecked
from openfactory.doctor.wal import RESTORE_WITH_WAL, fault_of_wal, lost_frames
from openfactory.engines.embedded.database import APPLICATION_ID, SCHEMA_VERSION, MemoryDatabase, fault_of_kind
from openfactory.engines.embedded.files import size_text

__all__ = ["examine_content"]

# Seconds for all checks of the pages, and for SQLite to notice that they are over.
_SECONDS = 6.0
_NOTICE_SECONDS = 0.5

# Number of steps of SQLite between two looks at the time.
_STEPS = 10_000

# The first bytes of a database, and the place of its application id.
_MAGIC = b"SQLite format 3\0"
_APPLICATION_PLACE = 68

# Number of faults that a finding quotes.
_QUOTED = 3

_RESTORE = "Stop all apps. Restore a copy of the file, or move it away with its -wal to start with an empty database."

# What `integrity_check` says of an index whose table is whole.
_OF_INDEX = re.compile(r"row \d+ missing from index|wrong # of entries in index|non-unique entry in index")

# An attribute whose last event is not in the log has no value for anybody.
_WITHOUT_EVENT = """
SELECT count(*), min(asset || '.' || attr) FROM latest WHERE NOT EXISTS (SELECT 1 FROM log WHERE log.id = latest.id)
"""

# The newest event of the file alone is in the log with its WAL too, unless the log was trimmed.
_IS_IN_LOG = """
SELECT 1 FROM log WHERE id = :id AND asset = :asset AND attr = :attr AND ts = :ts
UNION ALL SELECT 1 FROM trimmed WHERE up_to >= :id
"""

# Tables that have one row; an earlier version has the first of them only.
_OF_ONE_ROW = ("trimmed", "indexed")

# Seconds between two looks at a file to which apps may be writing.
_PAUSE_SECONDS = 0.2

# Errors of SQLite that say nothing of the content of the file.
_OF_ACCESS = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


def examine_content(path: Path) -> Iterator[Finding]:
    """Check the content of a database within some seconds, without writing to it."""
    checked = call_on_thread("openfactory-doctor-content", _faults, path, time.monotonic() + _SECONDS)
    size = size_text(path.stat().st_size)
    try:
        error = checked.exception(_SECONDS + _NOTICE_SECONDS)
    except TimeoutError:
        error = sqlite3.OperationalError("interrupted")
    if error is None:
        fault = checked.result()
        yield failed("content", fault) if fault else fine("content", f"{size}, pages, tables and index are whole")
    elif str(error) == "interrupted":
        yield unchecked(
            "content",
            f"{size} cannot be checked within {_SECONDS:g} s; no fault so far. "
            f"Check the rest at a quiet time: sqlite3 {path} 'PRAGMA integrity_check'.",
        )
    elif _code_of(error) == sqlite3.SQLITE_READONLY and path.with_name(f"{path.name}-journal").exists():
        found = f"Another program was ended while it wrote to {path}, and left its journal."
        yield failed("content", f"{found} Stop all apps, then let SQLite undo the write: sqlite3 {path} .tables")
    elif isinstance(error, OSError) or _code_of(error) in _OF_ACCESS:
        yield failed("content", f"{path} cannot be read ({error}). Grant this user access to it, and check its disk.")
    elif _code_of(error) == sqlite3.SQLITE_BUSY:
        yield failed("content", f"Another program keeps {path} for itself ({error}). End that program.")
    elif isinstance(error, sqlite3.DatabaseError):
        yield failed("content", f"{path} is damaged: {str(error).removesuffix('.')}. {_RESTORE}")
    else:
        raise error


def _code_of(error: BaseException) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _faults(path: Path, deadline: float) -> str:
    """Return a text that describes the first kind of fault, with its remedy, or an empty text."""
    if fault := _fault_of_header(path) or fault_of_wal(path):
        return fault
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", timeout=1.0, uri=True)  # a read-only one never checkpoints
    with closing(connection):
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        return (
            _fault_of_kind(connection, path)
            or _fault_of_commits(connection, path)
            or _fault_of_pages(connection, path, "quick_check(sqlite_schema)")  # of the free pages too
            or _fault_of_pages(connection, path, f"quick_check({_QUOTED})")
            or _fault_of_schema(connection, path)
            or _fault_of_rows(connection, path)
            or _fault_of_pages(connection, path, f"integrity_check({_QUOTED})")
        )


def _fault_of_header(path: Path) -> str:
    start = read_part(path, 0, len(_MAGIC))
    if start and start != _MAGIC:
        return (
            f"{path} is not a database, or its header is damaged: it begins with {start[:8]!r}. "
            "Restore a copy of the file, or name another file in KSQLDB_URL."
        )
    return ""


def _fault_of_kind(connection: sqlite3.Connection, path: Path) -> str:
    """Return the fault of a file that is not the database of a factory, or of a later version, or an empty text."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID and _application_without_wal(path) == APPLICATION_ID:
        return _wal_of_another(path)
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return f"{path} is empty. Restore a copy of the file, or start an app, which begins an empty factory in it."
    if fault := fault_of_kind(connection, path):
        return fault
    if connection.execute("PRAGMA user_version").fetchone()[0] < 1:
        return f"{path} is damaged: its header has lost the version of its schema. {_RESTORE}"
    return ""


def _fault_of_pages(connection: sqlite3.Connection, path: Path, check: str) -> str:
    found = [row[0] for row in connection.execute(f"PRAGMA {check}")]
    if found == ["ok"]:
        return ""
    lines = [line for text in found for line in text.splitlines() if not line.startswith("***")][:_QUOTED]
    text = "; ".join(lines).removesuffix(".")
    if all(_OF_INDEX.match(line) for line in lines):
        return f"An index of {path} is damaged: {text}. Stop all apps, then rebuild it: sqlite3 {path} REINDEX."
    return f"{path} is damaged: {text}. {_RESTORE}"


def _fault_of_schema(connection: sqlite3.Connection, path: Path) -> str:
    """Return which tables, indexes, triggers and columns of a database of this version are missing."""
    if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        return ""  # the next app that opens it brings it up to date
    with MemoryDatabase().reading() as model, closing(model):
        missing = sorted(_schema_of(model) - _schema_of(connection))
    if not missing:
        return ""
    return f"{path} lacks {', '.join(missing)}. {_RESTORE}"


def _schema_of(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the parts of a schema: `table log`, `column log.value`."""
    parts = connection.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    columns = {
        f"column {name}.{column}"
        for kind, name in parts
        if kind in ("table", "view")
        for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (name,))
    }
    return columns | {f"{kind} {name}" for kind, name in parts}


def _fault_of_rows(connection: sqlite3.Connection, path: Path) -> str:
    """Return which rows contradict each other."""
    count, example = connection.execute(_WITHOUT_EVENT).fetchone()
    if count:
        return f"{path} is damaged: the last event of {count} attributes is missing, such as {example}. {_RESTORE}"
    is_present = connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    for table in _OF_ONE_ROW if is_present else _OF_ONE_ROW[:1]:
        if connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] != 1:  # noqa: S608 - our own names
            return f"{path} is damaged: its table {table} does not have one row. {_RESTORE}"
    return ""


def _fault_of_commits(connection: sqlite3.Connection, path: Path) -> str:
    """Return whether commits in the WAL are lost, or whether the WAL is that of another database."""
    if lost := lost_frames(path):
        return f"{path}-wal is damaged: {lost} pages of commits in it cannot be read any more. {RESTORE_WITH_WAL}"
    for pause in (0, _PAUSE_SECONDS):  # the file is read while an app may be writing to it
        time.sleep(pause)
        newest = _newest_without_wal(path)
        if newest is None or connection.execute(_IS_IN_LOG, newest).fetchone() is not None:
            return ""
    return _wal_of_another(path)


def _wal_of_another(path: Path) -> str:
    return (
        f"{path}-wal belongs to another database or to another copy of this one, and hides events of the file. "
        "Stop all apps, then put a file and its -wal side by side that were copied together."
    )


def _application_without_wal(path: Path) -> int:
    return int.from_bytes(read_part(path, _APPLICATION_PLACE, 4), "big")


def _newest_without_wal(path: Path) -> dict[str, object] | None:
    """Return the newest row of the log as the file alone has it, or None if the file alone cannot be read."""
    with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        try:
            row = connection.execute("SELECT * FROM log ORDER BY id DESC LIMIT 1").fetchone()
        except sqlite3.DatabaseError:  # a part of the WAL is in the file, which is as it should be
            return None
        return None if row is None else dict(row)
