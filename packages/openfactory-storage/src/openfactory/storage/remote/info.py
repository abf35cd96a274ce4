"""Conversion of fsspec's file information to `FileInfo`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from openfactory.storage.file_info import FileInfo, utc_time

__all__ = ["info_of"]

# The keys under which the protocols give the time of the last write.
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")


def info_of(path: str, entry: Mapping[str, Any]) -> FileInfo:
    """Return path, size and modification time of a file or folder.

    Args:
        path: path relative to the root of the storage.
        entry: the file information of fsspec.
    """
    is_folder = entry["type"] == "directory"
    return FileInfo(path, 0 if is_folder else entry.get("size") or 0, _time_of(entry), is_folder)


def _time_of(entry: Mapping[str, Any]) -> datetime | None:
    time = next((entry[name] for name in _TIMES if entry.get(name) is not None), None)
    if isinstance(time, str):
        with suppress(ValueError):
            time = datetime.fromisoformat(time)
    return utc_time(time) if isinstance(time, (int, float, datetime)) else None
