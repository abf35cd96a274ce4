"""Replace a file in one step, so that a reader gets the old content or the new content, never a part.

The new content is written to a temporary file in the folder of the target and flushed to disk. Then the temporary file
is renamed to the target, and the folder is flushed to disk. A crash leaves the old file, and at most one temporary file
that `is_unfinished` recognizes.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress

from openfactory.storage.errors import errors_naming

__all__ = [
    "copy_ownership",
    "is_unfinished",
    "lstat",
    "replace_file",
    "sync_folder",
    "sync_folder_of",
    "unfinished_name",
]

_UNFINISHED = re.compile(r"\.ofa-[0-9a-f]{16}\.tmp")

_BINARY = getattr(os, "O_BINARY", 0)

# Errors that mean that the file system does not sync folders, or not for this process.
_FOLDER_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def is_unfinished(name: str) -> bool:
    """Return whether a name is that of a temporary file of this module."""
    return _UNFINISHED.fullmatch(name) is not None


def unfinished_name(name: str) -> str:
    """Return a name for a temporary file beside a file, because a rename is atomic only within one file system."""
    return os.path.join(os.path.dirname(name), f".ofa-{secrets.token_hex(8)}.tmp")


def lstat(name: str, folder: int | None, path: str) -> os.stat_result | None:
    """Return the status of a file, or None if the file does not exist. Symbolic links are not followed."""
    try:
        with errors_naming(path):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def replace_file(name: str, folder: int | None, chunks: Iterable[bytes], path: str, *, mode: int | None = None) -> None:
    """Replace the content of a file in one step, or create the file.

    An existing file keeps its owner and permissions, unless `mode` is given. A symbolic link is replaced; its target
    stays as it is.

    Args:
        name: name of the file in `folder`, or its full path if `folder` is None.
        folder: descriptor of the folder of the file.
        chunks: the new content. If the iterable raises an error, the old file stays as it is.
        path: path of the file in error messages.
        mode: permissions of the file, less those that the umask removes. The temporary file has them from the start.
    """
    unfinished = unfinished_name(name)
    try:
        replaced = lstat(name, folder, path) if mode is None else None
        _write_synced(unfinished, folder, chunks, path, replaced, 0o666 if mode is None else mode)
        with errors_naming(path):
            os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):  # the file was not created, or it cannot be removed for the same reason
            os.unlink(unfinished, dir_fd=folder)
        raise
    with errors_naming(path):
        sync_folder_of(name, folder)


def sync_folder_of(name: str, folder: int | None) -> None:
    """Flush the folder of a file to disk, so that a new name survives a power cut."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        descriptor = os.open(os.path.dirname(name) or ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    except PermissionError:  # this process may write to the folder, and not read it
        return
    try:
        sync_folder(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(descriptor: int) -> None:
    """Flush a folder to disk, if its file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_NOT_SYNCED:
            raise


def _write_synced(
    name: str, folder: int | None, chunks: Iterable[bytes], path: str, replaced: os.stat_result | None, mode: int
) -> None:
    """Write a new file and flush it to disk."""
    if replaced is not None and not stat.S_ISREG(replaced.st_mode):
        replaced = None  # the permissions of a symbolic link mean nothing
    if replaced is not None:
        mode = stat.S_IMODE(replaced.st_mode)
    with errors_naming(path):
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode, dir_fd=folder)
    try:
        if replaced is not None:
            copy_ownership(descriptor, replaced)
        for chunk in chunks:  # outside of errors_naming: an error of the source names the source
            with errors_naming(path):
                _write_all(descriptor, chunk)
        with errors_naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def copy_ownership(descriptor: int, replaced: os.stat_result) -> None:
    """Give a new file the owner and permissions of the file that it replaces, as far as the process may.

    A file of another owner is not setuid or setgid: it would run with the rights of the wrong user.
    """
    mode = stat.S_IMODE(replaced.st_mode)
    if not _has_owner_of(descriptor, replaced):
        with suppress(PermissionError):
            os.fchown(descriptor, replaced.st_uid, replaced.st_gid)
        if not _has_owner_of(descriptor, replaced):
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:  # the umask removed permissions
        with suppress(PermissionError):  # some file systems have one mode for all files
            os.fchmod(descriptor, mode)


def _has_owner_of(descriptor: int, replaced: os.stat_result) -> bool:
    status = os.fstat(descriptor)
    return (status.st_uid, status.st_gid) == (replaced.st_uid, replaced.st_gid)
