"""Short paths for Unix sockets, whose paths the system limits to about a hundred characters."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["short_path"]

# Least limit of the supported systems, that of macOS.
_LIMIT = 103


@contextmanager
def short_path(path: Path) -> Generator[str]:
    """Give a path by which a socket in a deep folder can be bound or connected.

    Raises:
        OSError: the path is too long, and this system has no short one.
    """
    text = os.fspath(path)
    if len(os.fsencode(text)) <= _LIMIT:
        yield text
        return
    if sys.platform != "linux":
        raise OSError(f"the path {text} is too long for a socket, at most {_LIMIT} bytes: use a shorter folder")
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
