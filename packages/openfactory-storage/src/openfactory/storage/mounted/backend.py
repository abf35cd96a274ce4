"""Storage in a folder of this machine or container: the base class of the types `local` and `nfs`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from openfactory.storage.atomic_replace import is_unfinished, lstat, replace_file, sync_folder_of
from openfactory.storage.backend import FileBackend
from openfactory.storage.errors import errors_naming
from openfactory.storage.file_info import FileInfo, utc_time
from openfactory.storage.mounted.confinement import Confinement
from openfactory.storage.mounted.volumes import Place, move_to_other_volume
from openfactory.storage.paths import StoragePath, relative

__all__ = ["MountedBackend"]


class MountedBackend(FileBackend):
    """Base class of storages in a folder. Files outside of the folder cannot be reached, see `confinement`.

    `write_atomic`, `put` and `copy` write a temporary file in the folder of the target and rename it. If the target is
    a symbolic link, they replace the link. `delete` deletes the link and not its target.

    Args:
        config: the settings of the storage.
        root: the folder to which all paths are relative.
    """

    def __init__(self, config: Any, root: Path) -> None:
        super().__init__(config)
        self._root = root
        self._confinement = Confinement(root)

    @property
    def root(self) -> Path:
        """The folder of this machine to which all paths are relative."""
        return self._root

    @property
    def fs(self) -> AbstractFileSystem:
        return DirFileSystem(path=str(self._root), fs=LocalFileSystem())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._root)!r})"

    # One file

    def _open(self, path: str, mode: str, **text_options: Any) -> IO[Any]:
        def opener(_: str, flags: int) -> int:
            try:
                return self._confinement.open(path, flags)
            except FileNotFoundError:
                if not flags & os.O_CREAT or "/" not in path:
                    raise
            self._mkdir(path.rpartition("/")[0])
            return self._confinement.open(path, flags)

        return open(path or ".", mode, opener=opener, **text_options)

    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        with self._ensured_parent(path) as (name, folder):
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
        return True

    def _delete(self, path: str) -> None:
        with self._confinement.parent(path) as (name, folder):
            _refuse_folder(path, name, folder)
            with errors_naming(path):
                os.unlink(name, dir_fd=folder)

    def _move(self, source: str, target: str) -> None:
        if not source:
            raise IsADirectoryError(errno.EISDIR, "It is the root of the storage; move the files in it", ".")
        with self._confinement.parent(source) as (old, folder):
            status = lstat(old, folder, source)
            if status is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
            with self._ensured_parent(target) as (new, other):
                if not stat.S_ISDIR(status.st_mode):
                    _refuse_folder(target, new, other)
                elif not new or lstat(new, other, target) is not None:
                    raise FileExistsError(
                        errno.EEXIST, "The path exists, and a folder cannot replace it; delete it first", target
                    )
                with errors_naming(source, target):
                    try:
                        os.replace(old, new, src_dir_fd=folder, dst_dir_fd=other)
                    except OSError as error:
                        if error.errno != errno.EXDEV:
                            raise
                        move_to_other_volume(Place(old, folder), Place(new, other))

    # Folders

    def _mkdir(self, path: str) -> None:
        try:
            if self._info(path).is_folder:
                return
            raise FileExistsError(errno.EEXIST, "It is a file; choose another name", path)
        except FileNotFoundError:
            self._mkdir(path.rpartition("/")[0])
        with self._confinement.parent(path) as (name, folder):
            try:
                with errors_naming(path):
                    os.mkdir(name, dir_fd=folder)
            except FileExistsError:  # another thread or process was faster
                if not self._is_folder(path):
                    raise
            else:
                with errors_naming(path):
                    sync_folder_of(name, folder)

    def _is_folder(self, path: str) -> bool:
        try:
            return self._info(path).is_folder
        except FileNotFoundError:  # a link whose target does not exist
            return False

    @contextmanager
    def _ensured_parent(self, path: str) -> Generator[tuple[str, int | None]]:
        """Open the folder of a file as `Confinement.parent` does, and create the folder if it does not exist."""
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
                    with suppress(FileNotFoundError):  # it was deleted meanwhile
                        yield _info_of_entry(f"{path}/{entry.name}" if path else entry.name, entry)
        finally:
            os.close(descriptor)

    def _inside(self, path: StoragePath) -> str:
        if not os.path.isabs(path):
            return relative(path)
        # The root may be a symbolic link, so an absolute path may begin with its name or with its target.
        return relative(path, (self._root, Path(os.path.realpath(self._root))))


def _info_of(path: str, status: os.stat_result) -> FileInfo:
    is_folder = stat.S_ISDIR(status.st_mode)
    return FileInfo(path, 0 if is_folder else status.st_size, utc_time(status.st_mtime), is_folder)


def _info_of_entry(path: str, entry: os.DirEntry[str]) -> FileInfo:
    try:
        return _info_of(path, entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        raise
    except OSError:  # a damaged file, or a folder that may be listed and not entered; the others are listed
        return FileInfo(path, 0, None, entry.is_dir(follow_symlinks=False))


def _refuse_folder(path: str, name: str, folder: int | None) -> None:
    status = lstat(name, folder, path) if name else None
    if not name or (status is not None and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(errno.EISDIR, "It is a folder; name a file in it", path or ".")
