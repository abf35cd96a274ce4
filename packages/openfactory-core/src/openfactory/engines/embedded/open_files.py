"""The files of an open database, which must stay in their places: the data, the WAL, its index and the lock."""

from __future__ import annotations

import os
import time
from pathlib import Path

from openfactory.engines.embedded.files import wal_index_of, wal_of

__all__ = ["OpenFiles"]

# A folder's time stamp has a resolution of some milliseconds, so two changes may have the same within this time.
_SETTLED_NS = 100_000_000

# The first bytes of a WAL, whose checksums are little-endian or big-endian.
_WAL_MARKS = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")


class OpenFiles:
    """The files of a database, as they were when it was opened.

    SQLite does not notice that a file loses its name: it writes on into a file that no other process can open.

    Args:
        path: the database, which is open.
        lock: its lock file.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._path = path
        self._folder = os.fspath(path.parent)
        self._wal = wal_of(path)
        self._inodes = {file: _inode(file) for file in (path, self._wal, wal_index_of(path), lock)}
        self._wal_descriptor = os.open(self._wal, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._checked_ns = -1

    def problem(self) -> str:
        """Return the error text if a file was removed, replaced or truncated, or an empty string.

        The names are looked up only if the folder has changed, because a writer calls this at each commit.
        """
        mark = os.pread(self._wal_descriptor, 4, 0)
        if mark and mark not in _WAL_MARKS:  # SQLite writes on at the old place, after a hole
            return self._text(self._wal)
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns
        except OSError:
            return self._text(self._path)
        if changed_ns == self._checked_ns:
            return ""
        for file, inode in self._inodes.items():
            if _inode(file) != inode:
                return self._text(file)
        settled = time.time_ns() - changed_ns > _SETTLED_NS
        self._checked_ns = changed_ns if settled else -1
        return ""

    def close(self) -> None:
        """Stop looking at the files."""
        os.close(self._wal_descriptor)

    def _text(self, file: Path) -> str:
        part = "" if file == self._path else f", a part of {self._path.name},"
        return (
            f"{file}{part} was removed or replaced while it was open. "
            "Stop every app that uses it, then start them again."
        )


def _inode(file: Path) -> int | None:
    try:
        return os.stat(file).st_ino
    except OSError:
        return None
