"""What is asked of a server more than once, because others write there too."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TypeVar

from fsspec import AbstractFileSystem

__all__ = ["make_folder", "refuse_folder", "until_whole"]

_Content = TypeVar("_Content", bytes, str)

# How often something is tried that others can spoil.
_TRIALS = 20


def refuse_folder(fs: AbstractFileSystem, full: str, path: str) -> None:
    """Say what most protocols do not: that a folder is no file.

    Raises:
        IsADirectoryError: there is a folder, or it is the root.
    """
    if not path or fs.isdir(full):
        raise IsADirectoryError(errno.EISDIR, "It is a folder; name a file in it", path)


def make_folder(fs: AbstractFileSystem, folder: str) -> None:
    """Make a folder and those on the way to it, also while others make some of them.

    Raises:
        NotADirectoryError: there is a file on the way.
    """
    if fs.isdir(folder):
        return
    for place in map(str, (PurePosixPath(folder), *PurePosixPath(folder).parents)):
        if fs.isfile(place):
            raise NotADirectoryError(errno.ENOTDIR, "A file is where a folder should be", folder)
    for trial in range(_TRIALS):
        try:
            fs.makedirs(folder, exist_ok=True)
        except Exception:
            if trial == _TRIALS - 1:
                raise
        if fs.isdir(folder):
            return


def until_whole(read: Callable[[], _Content]) -> _Content:
    """Read a file again that was replaced meanwhile: an object store refuses the rest of the old one."""
    for _ in range(_TRIALS - 1):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
    return read()
