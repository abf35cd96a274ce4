"""A file takes another's place in one step: whoever reads it gets the old content or the new, never a part.

The new content is written beside the target under a name of its own, is on the disk before it takes the target's name,
and the folder is on the disk too before it is said to be done. A crash leaves the old file, and at most a file that
`is_unfinished` knows.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress

from openfactory.storage.errors import naming

__all__ = ["is_unfinished", "lstat", "replace_file", "sync_folder_of"]

_UNFINISHED = re.compile(r"\.ofa-[0-9a-f]{16}\.tmp")

_BINARY = getattr(os, "O_BINARY", 0)

# What a file system says that keeps the names of its folders safe in a way of its own, or whose folder may not be read.
_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def is_unfinished(name: str) -> bool:
    """Whether a file was on its way to its name."""
    return _UNFINISHED.fullmatch(name) is not None


def lstat(name: str, folder: int | None, path: str) -> os.stat_result | None:
    """What is known of a file, of a link itself; None where there is none."""
    try:
        with naming(path):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def replace_file(name: str, folder: int | None, chunks: Iterable[bytes], path: str) -> None:
    """Make the content of a file in one step.

    Owner and permissions of a file that is there are kept. A link is replaced itself.

    Args:
        name: of the file in its folder; a whole path where there is no descriptor.
        folder: a descriptor of its folder.
        chunks: the content; what fails while it is fetched leaves the old file.
        path: what errors call the file.
    """
    # Beside the target, because only within a file system a name is exchanged in one step.
    unfinished = os.path.join(os.path.dirname(name), f".ofa-{secrets.token_hex(8)}.tmp")
    try:
        _write_through(unfinished, folder, chunks, path, lstat(name, folder, path))
        with naming(path):
            os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):  # it was not made, or what keeps it from being written keeps it from being removed
            os.unlink(unfinished, dir_fd=folder)
        raise
    with naming(path):
        sync_folder_of(name, folder)


def sync_folder_of(name: str, folder: int | None) -> None:
    """Have a new name on the disk too."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(os.path.dirname(name) or ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise


def _write_through(
    name: str, folder: int | None, chunks: Iterable[bytes], path: str, replaced: os.stat_result | None
) -> None:
    """Write a new file and come back when it is on the disk."""
    if replaced is not None and not stat.S_ISREG(replaced.st_mode):
        replaced = None  # a link has no permissions that say anything
    mode = 0o666 if replaced is None else stat.S_IMODE(replaced.st_mode)
    with naming(path):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode, dir_fd=folder)
    try:
        if replaced is not None:
            _take_over(descriptor, replaced)
        for chunk in chunks:  # what its source says stays as it is
            with naming(path):
                _write(descriptor, chunk)
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, chunk: bytes) -> None:
    left = memoryview(chunk).cast("B")
    while left:
        left = left[os.write(descriptor, left) :]


def _take_over(descriptor: int, replaced: os.stat_result) -> None:
    """Give a new file the owner and the permissions of the one that it replaces, as far as one may."""
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (replaced.st_uid, replaced.st_gid):
        with suppress(PermissionError):
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
    mode = stat.S_IMODE(replaced.st_mode)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:  # the umask took something
        with suppress(PermissionError):  # some file systems have one mode for all
            os.fchmod(descriptor, mode)
