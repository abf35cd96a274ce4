"""Files that are somewhere else: any protocol that fsspec knows, by its URL."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from openfactory.storage import sftp
from openfactory.storage.atomic_replace import is_unfinished
from openfactory.storage.backend import FileBackend, FileInfo, OnProgress
from openfactory.storage.errors import StorageConfigurationError, StorageUnavailableError
from openfactory.storage.filesystems import Address
from openfactory.storage.paths import StoragePath, relative
from openfactory.storage.remote_configuration import RemoteConfiguration
from openfactory.storage.remote_file import RemoteFile, to_read, to_write
from openfactory.storage.remote_folders import make_folder, refuse_folder, until_whole
from openfactory.storage.remote_info import info_of
from openfactory.storage.session import StorageSession
from openfactory.storage.uploading import Progress, exchange, rename

__all__ = ["RemoteBackend", "RemoteConfiguration"]

# How protocols are asked to make a file only where there is none, those that can themselves.
_EXCLUSIVE: Mapping[str, str] = {"s3": "x", "s3a": "x", "sftp": "wx", "ssh": "wx"}

# Whose own way to append keeps what is there; others write over it (ftp, gcs) or refuse (webdav, abfs).
_APPENDING = frozenset({"s3", "s3a", "sftp", "smb", "ssh"})

# What s3fs cuts off a name with all that follows.
_VERSION = "?versionId="


class RemoteBackend(FileBackend):
    """Files of an object store or a server, through fsspec.

    A file is as durable as its protocol makes it. `write_atomic`, `put` and `copy` are one upload to an object store,
    which shows it when it is whole; on a server with folders they write beside the target and exchange the names.
    Symbolic links of an SFTP server are followed before a path is used, and refused where they lead out.
    """

    config: RemoteConfiguration

    def __init__(self, config: RemoteConfiguration) -> None:
        super().__init__(config)
        self._address = Address.of(config.url, config.options)
        self.read_only = config.read_only or not self._address.can_be_written
        self._connection = StorageSession(self._address)
        self._check_root()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RemoteBackend:
        """Make it from `{"type": "fsspec", "url": …, "options": {…}}`."""
        try:
            return cls(msgspec.convert(dict(config), RemoteConfiguration))
        except msgspec.ValidationError as error:
            raise StorageConfigurationError(
                f"The settings of an fsspec storage can't be used: {error}. They are "
                '{"type": "fsspec", "url": "s3://bucket/folder", "options": {"secret": "${S3_SECRET}"}}, '
                'and may have "read_only" and a "description".'
            ) from error

    @property
    def root(self) -> PurePosixPath:
        """The folder within the filesystem, as `fs` of fsspec names it: no folder of this machine."""
        return PurePosixPath(self._connection.root)

    @property
    def fs(self) -> AbstractFileSystem:
        fs = self._connection.filesystem()
        root = self._connection.root.rstrip("/")
        return DirFileSystem(path=root, fs=fs, skip_instance_cache=True) if root else fs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._address)!r})"

    # On one file

    def read_bytes(self, path: StoragePath) -> bytes:
        read = super().read_bytes
        return until_whole(lambda: read(path))

    def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
        read = super().read_text
        return until_whole(lambda: read(path, encoding=encoding))

    def _open(self, path: str, mode: str, **as_text: Any) -> IO[Any]:
        if "+" in mode:
            raise io.UnsupportedOperation(
                f"{path!r} cannot be read and written at once in {self!r}. Read it, and write it anew."
            )
        file = self._opened(path, mode.replace("b", "").replace("t", ""))
        return file if "b" in mode else io.TextIOWrapper(file, **as_text)

    def _opened(self, path: str, how: str) -> Any:
        with self._connection.asking(path) as fs:
            full = self._found(fs, path)
            if how != "r":
                refuse_folder(fs, full, path)
                if how == "x" and fs.exists(full):
                    raise FileExistsError(errno.EEXIST, "The file is there already", path)
                self._make_folder(fs, full.rpartition("/")[0])
            if self._address.in_memory:
                return self._opened_in_memory(fs, full, path, how)
            if how == "a" and self._address.protocol not in _APPENDING:
                return to_write(lambda content: self._append(path, content))
            if how == "r" and not self._address.has_objects:
                refuse_folder(fs, full, path)
            itself = _EXCLUSIVE.get(self._address.protocol)
            try:
                file = fs.open(
                    full, how.replace("x", itself or "w") + "b", **(sftp.read_ahead(fs) if how == "r" else {})
                )
            except OSError as error:
                if how == "x" and not isinstance(error, FileExistsError) and fs.exists(full):
                    raise FileExistsError(errno.EEXIST, "The file is there already", path) from error
                if not isinstance(error, IsADirectoryError):
                    refuse_folder(fs, full, path)
                raise
            if how == "r" and (getattr(file, "details", None) or {}).get("type") == "directory":
                raise IsADirectoryError(errno.EISDIR, "It is a folder; name a file in it", path)
            return RemoteFile(file, self._connection, fs, path)

    def _opened_in_memory(self, fs: AbstractFileSystem, full: str, path: str, how: str) -> IO[bytes]:
        if how == "r":
            refuse_folder(fs, full, path)
            return to_read(fs.cat_file(full))
        if how == "x":
            fs.pipe_file(full, b"")

        def keep(content: bytes) -> None:
            with self._connection.asking(path):
                before = fs.cat_file(full) if how == "a" and fs.exists(full) else b""
                fs.pipe_file(full, before + content)

        return to_write(keep)

    def _append(self, path: str, content: bytes) -> None:
        """Write a file anew, with more at its end."""
        with self._connection.asking(path):
            before = self.read_bytes(path) if self._exists(path) else b""
            self._replace(path, [before, content])

    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        with tempfile.NamedTemporaryFile(prefix="ofa-") as whole:
            whole.writelines(chunks)
            whole.flush()
            self._upload(Path(whole.name), path)

    def _put(self, local_file: Path, path: str, on_progress: OnProgress | None) -> None:
        with local_file.open("rb"):  # what this machine has to say of it, before the server is asked
            self._upload(local_file, path, on_progress)

    def _upload(self, local_file: Path, path: str, on_progress: OnProgress | None = None) -> None:
        progress = Progress(on_progress)
        try:
            self._carry(local_file, path, progress)
        except StorageUnavailableError:
            if progress.refused is not None:  # not the server, but who was told of the progress
                raise progress.refused from None
            raise
        progress.end_at(local_file.stat().st_size)

    def _carry(self, local_file: Path, path: str, progress: Progress) -> None:
        with self._connection.asking(path) as fs:
            full = self._found(fs, path)
            refuse_folder(fs, full, path)
            self._make_folder(fs, full.rpartition("/")[0])
            if self._address.in_memory:
                fs.pipe_file(full, local_file.read_bytes())
            elif self._address.has_objects:
                fs.put_file(str(local_file), full, callback=progress)
            else:
                exchange(fs, str(local_file), full, progress)

    def _copy(self, source: str, target: str) -> None:
        if not self._address.has_objects:
            super()._copy(source, target)
            return
        if self._info(source).is_folder:
            raise IsADirectoryError(errno.EISDIR, "It is a folder; copy the files in it one by one", source)
        with self._connection.asking(target) as fs:
            refuse_folder(fs, self._connection.full(target), target)
        if source != target:
            with self._connection.asking(source) as fs:
                fs.cp_file(self._connection.full(source), self._connection.full(target))

    def _info(self, path: str) -> FileInfo:
        with self._connection.asking(path) as fs:
            if not path and self._address.has_objects:
                return FileInfo("", 0, None, True)
            return info_of(path, fs.info(self._found(fs, path)))

    def _exists(self, path: str) -> bool:
        try:
            self._info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _delete(self, path: str) -> None:
        with self._connection.asking(path) as fs:
            full = self._found_itself(fs, path)
            if sftp.type_of(fs, full) == "directory":
                raise IsADirectoryError(errno.EISDIR, "It is a folder; delete the files in it one by one", path)
            sftp.delete(fs, full)

    def _move(self, source: str, target: str) -> None:
        if not source:
            raise IsADirectoryError(errno.EISDIR, "It is the storage itself; move what is in it", ".")
        with self._connection.asking(source) as fs:
            is_folder = sftp.type_of(fs, self._found_itself(fs, source)) == "directory"
        with self._connection.asking(target) as fs:
            new = self._found(fs, target)
            if is_folder and fs.exists(new):
                raise FileExistsError(errno.EEXIST, "A folder takes no other's place; delete that first", target)
            refuse_folder(fs, new, target)
            self._make_folder(fs, new.rpartition("/")[0])
        if is_folder and f"{target}/".startswith(f"{source}/"):
            raise OSError(errno.EINVAL, "A folder cannot be moved into itself", source)
        if source == target:
            return
        with self._connection.asking(source) as fs:
            if self._address.has_objects:
                self._move_objects(fs, source, target, is_folder)
            else:
                rename(fs, self._connection.full(source), new)

    def _move_objects(self, fs: AbstractFileSystem, source: str, target: str, is_folder: bool) -> None:
        """Copy all, then delete all: fsspec's own would take a `*` in a name for a pattern."""
        entries = list(self._below(source)) if is_folder else [FileInfo(source, 0, None, False)]
        files = [self._connection.full(entry.path) for entry in entries if not entry.is_folder]
        start = len(self._connection.full(source))
        new = self._connection.full(target)
        self._make_folder(fs, new if is_folder else new.rpartition("/")[0])
        for entry in entries:
            if entry.is_folder:
                self._make_folder(fs, new + self._connection.full(entry.path)[start:])
        for file in files:
            fs.cp_file(file, new + file[start:])
        for file in files:
            fs.rm_file(file)
        if is_folder and self._address.in_memory:
            fs.rm(self._connection.full(source), recursive=True)

    # On folders

    def _mkdir(self, path: str) -> None:
        with self._connection.asking(path) as fs:
            full = self._found(fs, path)
            if fs.isfile(full):
                raise FileExistsError(errno.EEXIST, "There is a file of that name", path)
            self._make_folder(fs, full)

    def _list(self, path: str) -> Iterable[FileInfo]:
        with self._connection.asking(path) as fs:
            full = self._found(fs, path)
            try:
                found = fs.ls(full, detail=True)
            except FileNotFoundError:
                if not path and self._address.has_objects:
                    return []  # it has no root until something is in it
                if not self._address.has_objects and fs.isfile(full):
                    raise NotADirectoryError(errno.ENOTDIR, "It is a file; list the folder it is in", path) from None
                raise
        own = full.strip("/")
        if [entry["name"].lstrip("/") for entry in found if entry["type"] != "directory"] == [own]:
            raise NotADirectoryError(errno.ENOTDIR, "It is a file; list the folder it is in", path)
        listed = []
        for entry in found:
            place = entry["name"].strip("/")
            name = place.rpartition("/")[2]
            if place != own and name and not is_unfinished(name):  # an object store may hold a mark for the folder
                listed.append(info_of(f"{path}/{name}" if path else name, entry))
        return listed

    def _make_folder(self, fs: AbstractFileSystem, folder: str) -> None:
        if folder and (self._address.in_memory or not self._address.has_objects):
            make_folder(fs, folder)

    # The way to the server

    def _inside(self, path: StoragePath) -> str:
        inside = relative(path, (self.root,) if self._connection.root.startswith("/") else ())
        if _VERSION in inside and self._address.protocol in ("s3", "s3a"):
            raise OSError(errno.EINVAL, f"S3 names a version by {_VERSION!r}. Choose another name", inside)
        return inside

    def _check_root(self) -> None:
        """Say at the start what would fail later."""
        try:
            with self._connection.asking("") as fs:
                full = self._connection.root
                if self._address.in_memory:
                    self._make_folder(fs, full)
                place = full.strip("/").partition("/")[0] if self._address.has_objects else full
                is_folder = not place or fs.info(place)["type"] == "directory"
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._no_folder() from error
        except PermissionError as error:
            raise StorageUnavailableError(
                f"{self._address} lets nobody in: {error.strerror}. Check the login in the options, and its rights.",
                path="",
            ) from error
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, (TypeError, ValueError)):  # some look at their options only now
                raise StorageConfigurationError(f"{error} Look at the options.") from error
            raise
        if not is_folder:
            raise self._no_folder()

    def _no_folder(self) -> StorageConfigurationError:
        what = "bucket" if self._address.has_objects else "folder"
        return StorageConfigurationError(
            f"{self._address} has no such {what}. Make the {what}, or change the url to one that exists."
        )

    def _found(self, fs: AbstractFileSystem, path: str) -> str:
        """What the filesystem calls a path, which no link leads out of the root."""
        full = self._connection.full(path)
        sftp.check_links(fs, self._connection.root, full, path)
        return full

    def _found_itself(self, fs: AbstractFileSystem, path: str) -> str:
        """The same for what is done to a link itself, wherever that leads."""
        self._found(fs, path.rpartition("/")[0])
        return self._connection.full(path)
