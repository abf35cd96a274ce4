"""Information about a file or folder of a storage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

__all__ = ["FileInfo", "utc_time"]


class FileInfo(NamedTuple):
    """Path, size and modification time of a file or folder.

    Attributes:
        path: path relative to the root of the storage, with `/` between folders.
        size: size of the file in bytes; 0 for a folder, and if the storage does not tell it.
        modified: time of the last write, in UTC; None if the storage does not record it, or `datetime` cannot hold it.
        is_folder: True for a folder, False for a file.
    """

    path: str
    size: int
    modified: datetime | None
    is_folder: bool


def utc_time(time: datetime | float) -> datetime | None:
    """Return a time in UTC; None if it is out of the range of `datetime`, as in a damaged file system.

    Args:
        time: seconds since 1970, or a time. A time without a time zone is in UTC.
    """
    try:
        if not isinstance(time, datetime):
            return datetime.fromtimestamp(time, UTC)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
