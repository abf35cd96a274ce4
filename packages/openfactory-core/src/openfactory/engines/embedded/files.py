"""The files of a database and beside it: their names, and their sizes in a text."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "FOLDERS",
    "files_of",
    "lock_of",
    "owners_folder_of",
    "size_text",
    "wake_folder_of",
    "wal_index_of",
    "wal_of",
]

_WAL, _WAL_INDEX, _LOCK, _WAKE_FOLDER, _OWNERS_FOLDER = "-wal", "-shm", ".lock", ".wake", ".owners"

#: Ends of the names of the folders.
FOLDERS = (_WAKE_FOLDER, _OWNERS_FOLDER)


def files_of(path: Path) -> list[Path]:
    """Return a database, its WAL, the index of the WAL, the lock file, and the folders of wake-ups and of owners."""
    return [_beside(path, suffix) for suffix in ("", _WAL, _WAL_INDEX, _LOCK, *FOLDERS)]


def wal_of(path: Path) -> Path:
    """Return the WAL of a database."""
    return _beside(path, _WAL)


def wal_index_of(path: Path) -> Path:
    """Return the index of the WAL, on whose bytes the users of a database hold locks."""
    return _beside(path, _WAL_INDEX)


def lock_of(path: Path) -> Path:
    """Return the lock file of a database."""
    return _beside(path, _LOCK)


def wake_folder_of(path: Path) -> Path:
    """Return the folder of the wake-ups of a database."""
    return _beside(path, _WAKE_FOLDER)


def owners_folder_of(path: Path) -> Path:
    """Return the folder of the processes that own assets of a database."""
    return _beside(path, _OWNERS_FOLDER)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def size_text(size: float) -> str:
    """Return a number of bytes for a text.

    >>> size_text(2_400_000_000), size_text(1_250_000), size_text(36_864)
    ('2.4 GB', '1.2 MB', '37 kB')
    """
    if size < 1e6:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
