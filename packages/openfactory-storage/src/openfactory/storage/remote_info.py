"""What fsspec says of a file, in our words."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from openfactory.storage.backend import FileInfo

__all__ = ["info_of"]

# Under which names the protocols say when a file was written.
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")


def info_of(path: str, found: Mapping[str, Any]) -> FileInfo:
    """What is known of a file or a folder.

    Args:
        path: from the root of the storage.
        found: what fsspec says.
    """
    is_folder = found["type"] == "directory"
    return FileInfo(path, 0 if is_folder else found.get("size") or 0, _time_of(found), is_folder)


def _time_of(found: Mapping[str, Any]) -> datetime | None:
    time = next((found[name] for name in _TIMES if found.get(name) is not None), None)
    if isinstance(time, (int, float)):
        return datetime.fromtimestamp(time, UTC)
    if isinstance(time, str):
        with suppress(ValueError):
            time = datetime.fromisoformat(time)
    if not isinstance(time, datetime):
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
