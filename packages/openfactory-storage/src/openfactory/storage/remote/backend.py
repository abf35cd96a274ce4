"""The storage type `fsspec`: a server or an object store, through a protocol of fsspec."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from openfactory.storage.backend import FileBackend, OnProgress
from openfactory.storage.conversion import converted
from openfactory.storage.errors import StorageConfigurationError, StorageUnavailableError
from openfactory.storage.file_info import FileInfo
from openfactory.storage.paths import StoragePath, relative
from openfactory.storage.remote import sftp
from openfactory.storage.remote.configuration import RemoteConfiguration
from openfactory.storage.remote.file import Upload, UploadOnClose
from openfactory.storage.remote.filesystems import Address
from openfactory.storage.remote.folders import refuse_folder, retry_replaced
from openfactory.storage.remote.info import info_of
from openfactory.storage.remote.progress import Progress
from openfactory.storage.remote.session import StorageSession
from openfactory.storage.remote.spool import spooled

__all__ = ["RemoteBackend", "RemoteConfiguration"]


class RemoteBackend(FileBackend):
    """A storage on an object store or a server, through fsspec.

    The protocol determines how durable a file is. `write_atomic`, `put` and `copy` are one upload to an object store,
    which shows the file when the upload is complete. On a server with folders they write a temporary file in the folder
    of the target and rename it. Symbolic links of an SFTP server are resolved before a path is used; a link that leads
    out of the root raises `PathOutsideStorageError`.

    Args:
        config: the settings of the storage.

    Raises:
        StorageConfigurationError: the URL or an option cannot be used, or the bucket or folder does not exist.
        StorageUnavailableError: the server cannot be reached or refuses access.
    """

    config: RemoteConfiguration

    def __init__(self, config: RemoteConfiguration) -> None:
        super().__init__(config)
        self._address = Address.of(config.url, config.options)
        self._protocol = self._address.protocol
        self.read_only = config.read_only or self._protocol.read_only
        self._session = StorageSession(self._address)
        self._check_root()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RemoteBackend:
        """Create the storage from `{"type": "fsspec", "url": …, "options": {…}}`.

        Raises:
            StorageConfigurationError: the settings cannot be used.
            StorageUnavailableError: the server cannot be reached or refuses access.
        """
        return cls(cls.checked_config(config))

    @classmethod
    def mount_spec_from_config(cls, config: Mapping[str, Any]) -> None:
        """Return None: a container needs only the network. The server is not asked."""
        cls.checked_config(config)

    @classmethod
    def checked_config(cls, config: Mapping[str, Any]) -> RemoteConfiguration:
        """Return the settings of a storage after a check that opens nothing.

        Raises:
            StorageConfigurationError: the settings cannot be used.
        """
        return converted(
            config,
            RemoteConfiguration,
            "an fsspec storage",
            '{"type": "fsspec", "url": "s3://bucket/folder", "options": {"secret": "${S3_SECRET}"}}, '
            'and optionally "read_only" and "description"',
        )

    @property
    def root(self) -> PurePosixPath:
        """The path of the root in fsspec's filesystem. It is not a folder of this machine."""
        return PurePosixPath(self._session.root)

    @property
    def fs(self) -> AbstractFileSystem:
        fs = self._session.filesystem()
        root = self._session.root.rstrip("/")
        return DirFileSystem(path=root, fs=fs, skip_instance_cache=True) if root else fs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._address)!r})"

    def __reduce__(self) -> tuple[type[RemoteBackend], tuple[RemoteConfiguration]]:
        """Pickle the settings: the other process connects for itself."""
        return type(self), (self.config,)

    # One file

    def read_bytes(self, path: StoragePath) -> bytes:
        read = super().read_bytes
        return retry_replaced(lambda: read(path))

    def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
        read = super().read_text
        return retry_replaced(lambda: read(path, encoding=encoding))

    def _open(self, path: str, mode: str, **text_options: Any) -> IO[Any]:
        if "+" in mode:
            raise io.UnsupportedOperation(
                f"{path!r} cannot be opened for reading and writing at once in {self!r}. Read the file, then write it "
                "again."
            )
        file = self._open_binary(path, mode.replace("b", "").replace("t", ""))
        return file if "b" in mode else io.TextIOWrapper(file, **text_options)

    def _open_binary(self, path: str, mode: str) -> Any:
        """Open a binary file. The mode is one of `r`, `w`, `a` and `x`."""
        with self._session.using(path) as fs:
            full = self._full(fs, path)
            if mode != "r":
                refuse_folder(fs, full, path)
                if mode == "x" and fs.exists(full):
                    raise FileExistsError(errno.EEXIST, "The file exists already; choose another name", path)
                self._protocol.make_folder(fs, full.rpartition("/")[0])
            if mode == "a" and not self._protocol.appends:
                size = self._info(path).size if fs.exists(full) else 0
                return io.BufferedWriter(Upload(UploadOnClose(partial(self._append, path), path), size))
            return self._protocol.open(fs, full, path, mode, partial(self._session.using, path, fs))

    def _append(self, path: str, content: bytes) -> None:
        """Write the whole file again, with the content at its end."""
        with self._session.using(path):
            before = self.read_bytes(path) if self._exists(path) else b""
            self._replace(path, [before + content])

    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        with spooled(chunks, repr(self)) as source:
            self._upload(source, path)

    def _put(self, local_file: Path, path: str, on_progress: OnProgress | None) -> None:
        with local_file.open("rb"):  # raise the errors of the local file before the server is asked
            self._upload(local_file, path, on_progress)

    def _upload(self, source: Path | bytes, path: str, on_progress: OnProgress | None = None) -> None:
        progress = Progress(on_progress)
        try:
            self._transfer(source, path, progress)
        except StorageUnavailableError:
            if progress.callback_error is not None:  # on_progress failed, and not the server
                raise progress.callback_error from None
            raise
        progress.finish(len(source) if isinstance(source, bytes) else source.stat().st_size)

    def _transfer(self, source: Path | bytes, path: str, progress: Progress) -> None:
        with self._session.using(path) as fs:
            full = self._full(fs, path)
            refuse_folder(fs, full, path)
            self._protocol.make_folder(fs, full.rpartition("/")[0])
            self._protocol.upload(fs, source, full, progress)

    def _copy(self, source: str, target: str) -> None:
        if self._protocol.has_folders:
            super()._copy(source, target)
            return
        if self._info(source).is_folder:
            raise IsADirectoryError(errno.EISDIR, "It is a folder; copy the files in it", source)
        with self._session.using(target) as fs:
            refuse_folder(fs, self._session.full(target), target)
        if source != target:
            with self._session.using(source) as fs:
                fs.cp_file(self._session.full(source), self._session.full(target))

    def _info(self, path: str) -> FileInfo:
        with self._session.using(path) as fs:
            return info_of(path, self._protocol.info(fs, self._full(fs, path), path))

    def _exists(self, path: str) -> bool:
        try:
            self._info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _delete(self, path: str) -> None:
        with self._session.using(path) as fs:
            full = self._full_of_link(fs, path)
            if sftp.type_of(fs, full) == "directory":
                raise IsADirectoryError(errno.EISDIR, "It is a folder; delete the files in it", path)
            sftp.delete(fs, full)

    def _move(self, source: str, target: str) -> None:
        if not source:
            raise IsADirectoryError(errno.EISDIR, "It is the root of the storage; move the files in it", ".")
        with self._session.using(source) as fs:
            is_folder = sftp.type_of(fs, self._full_of_link(fs, source)) == "directory"
        with self._session.using(target) as fs:
            new = self._full(fs, target)
            if is_folder and fs.exists(new):
                raise FileExistsError(
                    errno.EEXIST, "The path exists, and a folder cannot replace it; delete it first", target
                )
            refuse_folder(fs, new, target)
            self._protocol.make_folder(fs, new.rpartition("/")[0])
        if is_folder and f"{target}/".startswith(f"{source}/"):
            raise OSError(errno.EINVAL, "A folder cannot be moved into itself; choose another path", source)
        if source == target:
            return
        try:
            with self._session.using(source) as fs:
                self._protocol.move(
                    fs, self._session.full(source), new, self._files_below(source) if is_folder else None
                )
        except StorageUnavailableError:
            if not self._protocol.has_folders:
                raise
            # A server does not tell that it cannot rename a file to another of its volumes.
            self._move_by_copy(source, target, is_folder)

    def _files_below(self, folder: str) -> Iterator[tuple[str, bool]]:
        for entry in self._below(folder):
            yield self._session.full(self._inside(entry.path)), entry.is_folder

    def _move_by_copy(self, source: str, target: str, is_folder: bool) -> None:
        # An error here: the server cannot be reached, or the file was moved before the connection was lost.
        before = self._info(source)
        if is_folder:
            raise OSError(
                errno.EXDEV,
                "The server cannot move the folder, as to another volume; copy its files",
                source,
                None,
                target,
            )
        self._copy(source, target)
        with suppress(FileNotFoundError):  # another program has deleted it
            if self._info(source) != before:
                raise OSError(
                    errno.EBUSY, "It was changed while it was copied to another volume; move it again", source
                )
            self._delete(source)

    # Folders

    def _mkdir(self, path: str) -> None:
        with self._session.using(path) as fs:
            full = self._full(fs, path)
            if fs.isfile(full):
                raise FileExistsError(errno.EEXIST, "It is a file; choose another name", path)
            self._protocol.make_folder(fs, full)

    def _list(self, path: str) -> Iterable[FileInfo]:
        with self._session.using(path) as fs:
            full = self._full(fs, path)
            return [
                info_of(f"{path}/{name}" if path else name, entry)
                for name, entry in self._protocol.entries(fs, full, path)
            ]

    # The connection to the server

    def _inside(self, path: StoragePath) -> str:
        inside = relative(path, (self.root,) if self._session.root.startswith("/") else ())
        if (mark := self._protocol.version_mark) and mark in inside:
            raise OSError(errno.EINVAL, f"S3 reads {mark!r} in a name as a version; choose another name", inside)
        key = self._session.full(inside).partition("/")[2].encode("utf-8", "surrogatepass")
        if self._protocol.longest_key is not None and len(key) > self._protocol.longest_key:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), inside)
        return inside

    def _check_root(self) -> None:
        """Raise an error if the root does not exist or cannot be reached."""
        try:
            with self._session.using("") as fs:
                exists = self._protocol.root_exists(fs, self._session.root)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._missing_root() from error
        except PermissionError as error:
            raise StorageUnavailableError(
                f"{self._address} refuses access: {error.strerror}. Check the login and its permissions.",
                path="",
            ) from error
        except StorageUnavailableError as error:
            if isinstance(error.__cause__, (TypeError, ValueError)):  # some filesystems check their options only now
                raise StorageConfigurationError(f"{error} Check the options.") from error
            raise
        if not exists:
            raise self._missing_root()

    def _missing_root(self) -> StorageConfigurationError:
        kind = "folder" if self._protocol.has_folders else "bucket"
        return StorageConfigurationError(
            f"The {kind} of {self._address} does not exist. Create the {kind}, or change the url to an existing {kind}."
        )

    def _full(self, fs: AbstractFileSystem, path: str) -> str:
        """Return the path in the filesystem, after a check that no symbolic link leads out of the root."""
        full = self._session.full(path)
        sftp.check_links(fs, self._session.root, full, path)
        return full

    def _full_of_link(self, fs: AbstractFileSystem, path: str) -> str:
        """Return the path in the filesystem for an operation on a link itself, which may lead out of the root."""
        self._full(fs, path.rpartition("/")[0])
        return self._session.full(path)
