"""Nothing outside of a folder is reached, also while somebody swaps the links in it.

The kernel resolves each path beneath the folder (openat2 with RESOLVE_BENEATH, Linux 5.6 and later, see openat2(2)), so
that no moment lies between a check and its use. Where there is no such call, links are followed before and the result
is checked: that guards against mistakes, not against one who swaps a link in just that moment.

The folder itself is opened for each use, so one that was mounted again is found again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from openfactory.storage.errors import PathOutsideStorageError, StorageUnavailableError, naming

__all__ = ["Confinement"]

_OPENAT2 = 437  # the same on every architecture
_RESOLVE_BENEATH = 0x08
_RESOLVE_NO_MAGICLINKS = 0x02

# What a system or a sandbox without the call says.
_NOT_THERE = (errno.ENOSYS, errno.EPERM)

# What says something of this process, and nothing of the folder.
_OF_THIS_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Confinement:
    """Opens what lies beneath a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, flags: int, mode: int = 0o666, *, asked_for: str | None = None) -> int:
        """A descriptor of a file or folder; links inside are followed.

        Args:
            asked_for: the path that errors name, if it is another one.

        Raises:
            PathOutsideStorageError: the path leads out through a link.
            StorageUnavailableError: the folder is not there.
            OSError: as `os.open` does.
        """
        asked_for = asked_for or path or "."
        flags |= getattr(os, "O_CLOEXEC", 0)
        if not _kernel_confines():
            real = self._followed(path, flags, asked_for)
            with naming(asked_for):
                return os.open(real, flags, mode)
        folder = self._opened_root(asked_for)
        try:
            try:
                return _openat2(folder, path or ".", flags, mode, asked_for)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            # It leads out, or back in by a link that names its target in full: only where it ends tells which.
            inside = os.path.relpath(self._followed(path, flags, asked_for), os.path.realpath(self._root))
            return _openat2(folder, inside, flags, mode, asked_for)
        except OSError as error:
            if error.errno == errno.EXDEV:  # a link was swapped meanwhile
                raise self._outside(asked_for) from error
            raise
        finally:
            os.close(folder)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[str, int | None]]:
        """The name of a file, and a descriptor of its folder: for calls that take `dir_fd`."""
        folder, _, name = path.rpartition("/")
        if not _kernel_confines():
            real = self._followed(folder, 0, path)
            if not os.path.isdir(real):
                number = errno.ENOTDIR if os.path.lexists(real) else errno.ENOENT
                raise OSError(number, os.strerror(number), path)
            yield os.path.join(real, name), None
            return
        descriptor = self.open(folder, os.O_PATH | os.O_DIRECTORY, asked_for=path)
        try:
            yield name, descriptor
        finally:
            os.close(descriptor)

    def _opened_root(self, asked_for: str) -> int:
        try:
            return os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _OF_THIS_PROCESS:
                raise
            raise self._unavailable(os.strerror(error.errno or 0), asked_for) from error

    def _followed(self, path: str, flags: int, asked_for: str) -> str:
        """Where a path ends when its links are followed, but for a last one that `O_EXCL` would not follow either."""
        root = os.path.realpath(self._root)
        if not os.path.isdir(root):
            raise self._unavailable("There is no such folder", asked_for)
        whole = os.path.join(root, path)
        folder, name = os.path.split(whole)
        try:
            real = os.path.join(os.path.realpath(folder), name) if flags & os.O_EXCL else os.path.realpath(whole)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise self._outside(asked_for) from error  # what was a link is none any more
        if os.path.commonpath([real, root]) != root:
            raise self._outside(asked_for)
        return real

    def _unavailable(self, reason: str, path: str) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"{path!r} cannot be reached, since the folder {str(self._root)!r} of the storage cannot: {reason}. "
            "See whether it is mounted; the next use tries again.",
            path=path,
        )

    def _outside(self, path: str) -> PathOutsideStorageError:
        return PathOutsideStorageError(
            f"{path!r} leads out of the storage at {str(self._root)!r} through a symbolic link. "
            "Let links stay inside; they may not lead out of it.",
            path=path,
        )


@cache
def _kernel_confines() -> bool:
    if sys.platform != "linux":
        return False
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(_openat2(folder, ".", os.O_PATH | os.O_CLOEXEC, 0, "/"))
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise
    finally:
        os.close(folder)
    return True


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(folder: int, path: str, flags: int, mode: int, asked_for: str) -> int:
    mode = mode if flags & os.O_CREAT else 0  # the call refuses one that is of no use
    how = struct.pack("=QQQ", flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    while True:
        descriptor: int = _libc().syscall(_OPENAT2, folder, os.fsencode(path), how, len(how))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # a folder was moved meanwhile, or a signal came
            raise OSError(number, os.strerror(number), asked_for)
