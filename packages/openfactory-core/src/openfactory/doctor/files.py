"""Reads of the files of an open database."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["read_part"]

# Descriptors that stay open. A process that closes any descriptor of a file drops all its POSIX locks on the file, and
# so those of SQLite, which has locks on a database and on the index of its WAL as long as a connection is open.
_kept: list[int] = []
_keeping = threading.Lock()


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
