"""Files in a folder that this machine, or the container, has: what `local` and `nfs` share."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from openfactory.storage.atomic_replace import is_unfinished, lstat, replace_file, sync_folder_of
from openfactory.storage.backend import FileBackend, FileInfo
from openfactory.storage.confinement import Confinement
from openfactory.storage.errors import StorageConfigurationError, naming
from openfactory.storage.paths import StoragePath, relative

__all__ = ["MountedBackend", "checked_mount_point", "first_folder", "normal"]

_MOUNT_POINT = re.compile(r"/[A-Za-z0-9._/-]*")
_LONGEST_MOUNT_POINT = 255


def normal(path: str) -> str:
    """An absolute path without detours; two leading slashes, which POSIX lets mean something else, become one."""
    return "/" + os.path.normpath(path).lstrip("/")


def checked_mount_point(mount_point: str) -> str:
    """The folder at which a container sees a storage, as Docker takes it.

    Raises:
        ValueError: it cannot be one.
    """
    stripped = mount_point.strip()
    if (
        not _MOUNT_POINT.fullmatch(stripped)
        or ".." in stripped
        or len(stripped) > _LONGEST_MOUNT_POINT
        or normal(stripped) == "/"
    ):
        raise ValueError(
            f"mount_point is {stripped!r}. Write an absolute path of letters, digits and . _ - / that "
            f"is not '/', has no '..' and at most {_LONGEST_MOUNT_POINT} characters, such as '/mnt/data'"
        )
    return normal(stripped)


def first_folder(kind: str, fields: Mapping[str, str | None], remedy: str) -> Path:
    """The first of the folders that is there.

    Args:
        kind: what errors call the storage.
        fields: the folders, under the names of their fields.
        remedy: what to do when none is there.

    Raises:
        StorageConfigurationError: none is there, or it cannot be read.
    """
    absent = []
    for field, folder in fields.items():
        if folder is None:
            continue
        try:
            found = os.stat(folder)
        except OSError as error:
            absent.append(f"{field} {folder!r} ({error.strerror})")
            continue
        if stat.S_ISDIR(found.st_mode):
            _check_readable(kind, field, folder)
            return Path(folder)
        absent.append(f"{field} {folder!r} (Not a directory)")
    raise StorageConfigurationError(f"{kind} finds no folder at its {' or its '.join(absent)}. {remedy}")


def _check_readable(kind: str, field: str, folder: str) -> None:
    """Say at the start what would fail later: listing needs one permission, and opening what is listed another."""
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
        os.stat(os.path.join(folder, "."))
    except OSError as error:
        user = f"the app's user (uid {os.geteuid()})" if hasattr(os, "geteuid") else "the app's user"
        raise StorageConfigurationError(
            f"{kind} cannot read its {field} {folder!r}: {error.strerror}. Let {user} list and enter that folder "
            f"(chmod, chown), or change {field}."
        ) from error


class MountedBackend(FileBackend):
    """Files in a folder; nothing outside of it is reached, see `confinement`.

    `write_atomic`, `put` and `copy` write beside the target and exchange the names. A symbolic link in the place of the
    target is replaced itself, as `delete` removes it itself.

    Args:
        config: the settings of the storage.
        root: the folder.
    """

    def __init__(self, config: Any, root: Path) -> None:
        super().__init__(config)
        self._root = root
        self._confinement = Confinement(root)

    @property
    def root(self) -> Path:
        """The folder on this machine that all paths are relative to."""
        return self._root

    @property
    def fs(self) -> AbstractFileSystem:
        return DirFileSystem(path=str(self._root), fs=LocalFileSystem())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._root)!r})"

    # On one file

    def _open(self, path: str, mode: str, **as_text: Any) -> IO[Any]:
        def opened(_: str, flags: int) -> int:
            try:
                return self._confinement.open(path, flags)
            except FileNotFoundError:
                if not flags & os.O_CREAT or "/" not in path:
                    raise
            self._mkdir(path.rpartition("/")[0])
            return self._confinement.open(path, flags)

        return open(path or ".", mode, opener=opened, **as_text)

    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        with self._made_parent(path) as (name, folder):
            _refuse_folder(path, name, folder)
            replace_file(name, folder, chunks, path)

    def _info(self, path: str) -> FileInfo:
        descriptor = self._confinement.open(path, getattr(os, "O_PATH", os.O_RDONLY))
        try:
            return _info_of(path, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _exists(self, path: str) -> bool:
        try:
            self._info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return False  # links that lead to each other lead to nothing
        return True

    def _delete(self, path: str) -> None:
        with self._confinement.parent(path) as (name, folder):
            _refuse_folder(path, name, folder)
            with naming(path):
                os.unlink(name, dir_fd=folder)

    def _move(self, source: str, target: str) -> None:
        if not source:
            raise IsADirectoryError(errno.EISDIR, "It is the storage itself; move what is in it", ".")
        with self._confinement.parent(source) as (old, folder):
            found = lstat(old, folder, source)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
            with self._made_parent(target) as (new, other):
                if not stat.S_ISDIR(found.st_mode):
                    _refuse_folder(target, new, other)
                elif not new or lstat(new, other, target) is not None:
                    raise FileExistsError(errno.EEXIST, "A folder takes no other's place; delete that first", target)
                with naming(source, target):
                    os.replace(old, new, src_dir_fd=folder, dst_dir_fd=other)

    # On folders

    def _mkdir(self, path: str) -> None:
        try:
            if self._info(path).is_folder:
                return
            raise FileExistsError(errno.EEXIST, "There is a file of that name", path)
        except FileNotFoundError:
            self._mkdir(path.rpartition("/")[0])
        with self._confinement.parent(path) as (name, folder):
            try:
                with naming(path):
                    os.mkdir(name, dir_fd=folder)
            except FileExistsError:  # another was quicker
                if not self._is_folder(path):
                    raise
            else:
                with naming(path):
                    sync_folder_of(name, folder)

    def _is_folder(self, path: str) -> bool:
        try:
            return self._info(path).is_folder
        except FileNotFoundError:  # a link that leads nowhere
            return False

    @contextmanager
    def _made_parent(self, path: str) -> Iterator[tuple[str, int | None]]:
        with ExitStack() as stack:
            try:
                parent = stack.enter_context(self._confinement.parent(path))
            except FileNotFoundError:
                self._mkdir(path.rpartition("/")[0])
                parent = stack.enter_context(self._confinement.parent(path))
            yield parent

    def _list(self, path: str) -> Iterable[FileInfo]:
        descriptor = self._confinement.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    if is_unfinished(entry.name):
                        continue
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # it is gone since
                        continue
                    yield _info_of(f"{path}/{entry.name}" if path else entry.name, found)
        finally:
            os.close(descriptor)

    def _inside(self, path: StoragePath) -> str:
        if not os.path.isabs(path):
            return relative(path)
        # The root may be a link itself, and people know it by both names.
        return relative(path, (self._root, Path(os.path.realpath(self._root))))


def _info_of(path: str, found: os.stat_result) -> FileInfo:
    is_folder = stat.S_ISDIR(found.st_mode)
    return FileInfo(path, 0 if is_folder else found.st_size, datetime.fromtimestamp(found.st_mtime, UTC), is_folder)


def _refuse_folder(path: str, name: str, folder: int | None) -> None:
    found = lstat(name, folder, path) if name else None
    if not name or (found is not None and stat.S_ISDIR(found.st_mode)):
        raise IsADirectoryError(errno.EISDIR, "It is a folder; name a file in it", path or ".")
