"""The files that a deployment keeps for itself in `.openfactory`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from openfactory.storage.atomic_replace import is_unfinished, replace_file

__all__ = ["remove_unfinished", "write_own_file"]

_PRIVATE, _SHARED = 0o600, 0o644


def write_own_file(path: Path, content: bytes, *, private: bool = True) -> None:
    """Replace a file in one step: a reader, also one after a power cut, finds the old content or the new one.

    Args:
        path: the file, in a folder that exists.
        content: its new content.
        private: whether its owner alone can read it.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    replace_file(str(path), None, (content,), str(path), mode=_PRIVATE if private else _SHARED)


def remove_unfinished(folder: Path) -> None:
    """Remove the parts that a process has left which was killed while it wrote a file of a folder."""
    with suppress(OSError):
        for path in folder.iterdir():
            if is_unfinished(path.name):
                path.unlink(missing_ok=True)
