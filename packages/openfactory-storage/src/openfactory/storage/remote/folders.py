"""Operations on a server that are repeated, because other processes write there too."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TypeVar

from fsspec import AbstractFileSystem

__all__ = ["make_folder", "refuse_folder", "retry_replaced"]

_Content = TypeVar("_Content", bytes, str)

# Number of attempts of an operation that another process can disturb.
_ATTEMPTS = 20


def refuse_folder(fs: AbstractFileSystem, full: str, path: str) -> None:
    """Raise an error if a path is a folder, because most protocols do not raise it.

    Args:
        fs: the filesystem.
        full: path in the filesystem.
        path: path in the storage, for the error message; the empty path is the root.

    Raises:
        IsADirectoryError: the path is a folder or the root.
    """
    if not path or full.endswith("/") or fs.isdir(full):
        raise IsADirectoryError(errno.EISDIR, "It is a folder; name a file in it", path)


def make_folder(fs: AbstractFileSystem, folder: str) -> None:
    """Create a folder and its missing parent folders, also while other processes create some of them.

    The empty path is the root, which exists.

    Raises:
        NotADirectoryError: one of the folders is a file.
    """
    if not folder or fs.isdir(folder):
        return
    for path in map(str, (PurePosixPath(folder), *PurePosixPath(folder).parents)):
        if fs.isfile(path):
            raise NotADirectoryError(errno.ENOTDIR, "One of its folders is a file; choose another path", folder)
    for attempt in range(_ATTEMPTS):
        try:
            fs.makedirs(folder, exist_ok=True)
        except Exception:
            if attempt == _ATTEMPTS - 1:
                raise
        if fs.isdir(folder):
            return


def retry_replaced(read: Callable[[], _Content]) -> _Content:
    """Read a file, and read it again if it was replaced meanwhile.

    An object store raises EBUSY then, because it does not have the rest of the old file.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
    return read()
