"""The files of a database and beside it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["FOLDERS", "files_of", "read_part", "size_text", "wake_folder_of", "wal_index_of", "wal_of"]

#: Ends of the names of the folders.
FOLDERS = (".wake", ".owners")

# Descriptors that stay open. A process that closes any descriptor of a file drops all its POSIX locks on the file, and
# so those of SQLite, which has locks on a database and on the index of its WAL as long as a connection is open.
_kept: list[int] = []
_keeping = threading.Lock()


def files_of(path: Path) -> list[Path]:
    """Return a database, its WAL, the index of the WAL, the lock file, and the folders of wake-ups and of owners."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", ".lock", *FOLDERS)]


def wal_of(path: Path) -> Path:
    """Return the WAL of a database."""
    return files_of(path)[1]


def wal_index_of(path: Path) -> Path:
    """Return the index of the WAL, on whose bytes the users of a database hold locks."""
    return files_of(path)[2]


def wake_folder_of(path: Path) -> Path:
    """Return the folder of the wake-ups of a database."""
    return files_of(path)[4]


def read_part(file: Path, first: int, size: int) -> bytes:
    """Return some bytes of a database or of the index of its WAL, and leave the locks of this process on the file."""
    with _keeping:
        return os.pread(_descriptor_of(file), size, first)


def _descriptor_of(file: Path) -> int:
    for descriptor in [kept for kept in _kept if not os.fstat(kept).st_nlink]:  # nobody can open a removed file
        _kept.remove(descriptor)
        os.close(descriptor)
    status = file.stat()
    for descriptor in _kept:
        if os.path.samestat(os.fstat(descriptor), status):
            return descriptor
    _kept.append(os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0)))
    return _kept[-1]


def size_text(size: float) -> str:
    """Return a number of bytes for a report.

    >>> size_text(2_400_000_000), size_text(1_250_000), size_text(36_864)
    ('2.4 GB', '1.2 MB', '37 kB')
    """
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
