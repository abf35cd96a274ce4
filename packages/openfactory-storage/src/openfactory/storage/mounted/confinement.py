"""Open files beneath a folder, and never a file outside of it, even while another process replaces links in the folder.

On Linux 5.6 and later the kernel resolves each path beneath the folder (`openat2` with `RESOLVE_BENEATH`, see
openat2(2)), so no time passes between the check and the use of a path. On other systems, links are resolved first and
the result is checked. That prevents mistakes, but not an attack that replaces a link between the check and the use.

The folder itself is opened for each operation, so a folder that is mounted again is found again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from openfactory.storage.errors import PathOutsideStorageError, StorageUnavailableError, errors_naming

__all__ = ["Confinement"]

_OPENAT2 = 437  # the same on every architecture
_RESOLVE_BENEATH = 0x08
_RESOLVE_NO_MAGICLINKS = 0x02

# Errors of a system or a sandbox without openat2.
_NO_OPENAT2 = (errno.ENOSYS, errno.EPERM)

# Errors whose cause is this process and not the folder.
_PROCESS_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Confinement:
    """Opens files and folders beneath a root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, path: str, flags: int, mode: int = 0o666, *, error_path: str | None = None) -> int:
        """Return a descriptor of a file or folder. Links that stay beneath the root are followed.

        Args:
            path: path relative to the root; the empty path is the root.
            flags: flags of `os.open`.
            mode: permissions of a new file.
            error_path: path in error messages; `path` by default.

        Raises:
            PathOutsideStorageError: the path leads out of the root through a link.
            StorageUnavailableError: the root cannot be opened.
            OSError: as for `os.open`.
        """
        error_path = error_path or path or "."
        flags |= getattr(os, "O_CLOEXEC", 0)
        if not _kernel_confines():
            real = self._resolve(path, flags, error_path)
            with errors_naming(error_path):
                return os.open(real, flags, mode)
        folder = self._open_root(error_path)
        try:
            try:
                return _openat2(folder, path or ".", flags, mode, error_path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            # The path leads out of the root, or a link on the way has an absolute target. Only the resolved path shows
            # whether it ends beneath the root.
            inside = os.path.relpath(self._resolve(path, flags, error_path), os.path.realpath(self._root))
            return _openat2(folder, inside, flags, mode, error_path)
        except OSError as error:
            if error.errno == errno.EXDEV:  # a link was replaced meanwhile
                raise self._outside(error_path) from error
            raise
        finally:
            os.close(folder)

    @contextmanager
    def parent(self, path: str) -> Generator[tuple[str, int | None]]:
        """Open the folder of a file, for system calls with a parameter `dir_fd`.

        Yields:
            The name of the file in its folder and a descriptor of the folder, or the full path of the file and None.
        """
        folder, _, name = path.rpartition("/")
        if not _kernel_confines():
            real = self._resolve(folder, 0, path)
            if not os.path.isdir(real):
                number = errno.ENOTDIR if os.path.lexists(real) else errno.ENOENT
                raise OSError(number, os.strerror(number), path)
            yield os.path.join(real, name), None
            return
        descriptor = self.open(folder, os.O_PATH | os.O_DIRECTORY, error_path=path)
        try:
            yield name, descriptor
        finally:
            os.close(descriptor)

    def _open_root(self, error_path: str) -> int:
        try:
            return os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _PROCESS_ERRORS:
                raise
            raise self._unavailable(os.strerror(error.errno or 0), error_path) from error

    def _resolve(self, path: str, flags: int, error_path: str) -> str:
        """Return the full path of a file after its links are resolved.

        With `O_EXCL` in `flags`, a link in the last segment is not resolved, because `os.open` would not follow it.
        """
        root = os.path.realpath(self._root)
        if not os.path.isdir(root):
            raise self._unavailable("No such folder", error_path)
        whole = os.path.join(root, path)
        folder, name = os.path.split(whole)
        try:
            real = os.path.join(os.path.realpath(folder), name) if flags & os.O_EXCL else os.path.realpath(whole)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise self._outside(error_path) from error  # a link was replaced by a file meanwhile
        if os.path.commonpath([real, root]) != root:
            raise self._outside(error_path)
        return real

    def _unavailable(self, reason: str, path: str) -> StorageUnavailableError:
        return StorageUnavailableError(
            f"{path!r} cannot be reached, because the folder {str(self._root)!r} of the storage cannot be opened: "
            f"{reason}. Check that it is mounted; the next use tries again.",
            path=path,
        )

    def _outside(self, path: str) -> PathOutsideStorageError:
        return PathOutsideStorageError(
            f"{path!r} leads out of the storage at {str(self._root)!r} through a symbolic link. "
            "Use another path, or a link that stays inside the storage.",
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
        if error.errno in _NO_OPENAT2:
            return False
        raise
    finally:
        os.close(folder)
    return True


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(folder: int, path: str, flags: int, mode: int, error_path: str) -> int:
    mode = mode if flags & os.O_CREAT else 0  # openat2 refuses a mode that it does not need
    how = struct.pack("=QQQ", flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    while True:
        descriptor: int = _libc().syscall(_OPENAT2, folder, os.fsencode(path), how, len(how))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # a folder was moved meanwhile, or a signal arrived
            raise OSError(number, os.strerror(number), error_path)
