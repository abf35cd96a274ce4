"""The kinds of protocols: servers with folders, object stores, and memory. Each writes and moves files in its own way.

The methods receive the filesystem of fsspec and paths in that filesystem (`full`). A `path` is the path in the storage,
for error messages. The caller holds the lock of the session.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback

from openfactory.storage.atomic_replace import is_unfinished, unfinished_name
from openfactory.storage.remote import keys, sftp
from openfactory.storage.remote.file import RemoteFile, Upload, UploadOnClose
from openfactory.storage.remote.folders import make_folder, refuse_folder
from openfactory.storage.remote.forks import ProcessLock, keep_forever

__all__ = ["Memory", "ObjectStore", "Protocol", "Smb", "WebDav"]

# The context in which an open file works, see `StorageSession.using`.
Using = Callable[[], AbstractContextManager[object]]

Below = Iterable[tuple[str, bool]]

Entry = Mapping[str, Any]

# The memory of a process is one store.
_MEMORY_LOCK = ProcessLock()

# Bytes that are read ahead. SFTP has blocks of this size.
_READ_AHEAD = 32_768


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A protocol whose server has folders and renames files in one step; base class of the other kinds.

    Attributes:
        refusal: reason why this type of storage does not support the protocol; empty if it does.
        read_only: whether fsspec can only read files.
        login_in_options: whether fsspec receives the login as options, because a password may contain characters with
            a meaning in a URL.
        options: default options of the filesystem.
        appends: whether the mode `a` of fsspec works. Otherwise it overwrites the file (ftp, gcs) or raises an error
            (webdav, abfs), and the whole file is written again.
        exclusive_mode: mode of fsspec in which the server creates a file only if it does not exist; `w` without such
            a mode.
        version_mark: text in a name after which fsspec reads a version of the file; empty if there is no such text.
        any_segment: whether a file may have a name with empty segments, `.`, `..` or backslashes, see `keys`. Only
            where the client takes them literally: some clients put a name into a URL, in which `..` leads out of the
            root.
        longest_key: number of bytes that a key may have, without its bucket; None if the server tells it.
        has_folders: whether a folder exists without a file in it. Otherwise the server copies files by itself.
    """

    refusal: str = ""
    read_only: bool = False
    login_in_options: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    appends: bool = False
    exclusive_mode: str = "w"
    version_mark: str = ""
    any_segment: bool = False
    longest_key: int | None = None
    has_folders: ClassVar[bool] = True

    def lock(self) -> AbstractContextManager[Any]:
        """Return the lock of a new session."""
        return ProcessLock()

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, the connections of the parent that the client keeps outside of its filesystem."""

    def key_of(self, path: str) -> str:
        """Return the path in the filesystem for a path in the storage."""
        return keys.key_of(path) if self.any_segment else path

    def root_exists(self, fs: AbstractFileSystem, root: str) -> bool:
        """Return whether the root exists and is a folder."""
        return not root or fs.info(root)["type"] == "directory"

    def info(self, fs: AbstractFileSystem, full: str, path: str) -> Entry:  # noqa: ARG002
        """Return fsspec's information of a file or folder."""
        entry: Entry = fs.info(full)
        return entry

    def entries(self, fs: AbstractFileSystem, full: str, path: str) -> Iterator[tuple[str, Entry]]:
        """Yield the name of each file and folder in a folder, with fsspec's information."""
        own = full.strip("/")
        listed = self._listed(fs, full, path)
        if [entry["name"].lstrip("/") for entry in listed if entry["type"] != "directory"] == [own]:
            raise NotADirectoryError(errno.ENOTDIR, "It is a file; list its folder", path)
        for entry in listed:
            segment = self._segment(entry, full)
            if segment is not None and not is_unfinished(segment):
                yield keys.name_of(segment) if self.any_segment else segment, entry

    def _segment(self, entry: Entry, full: str) -> str | None:
        """Return the last segment of an entry of a folder; None if the entry is the folder itself or one above it."""
        entry_path = entry["name"].strip("/")
        segment = str(entry_path.rpartition("/")[2])
        if entry_path == full.strip("/") or not segment or (segment in (".", "..") and not self.any_segment):
            return None
        return segment

    def _listed(self, fs: AbstractFileSystem, full: str, path: str) -> list[Entry]:
        try:
            return list(fs.ls(full, detail=True))
        except FileNotFoundError:
            if fs.isfile(full):
                raise NotADirectoryError(errno.ENOTDIR, "It is a file; list its folder", path) from None
            raise

    def make_folder(self, fs: AbstractFileSystem, folder: str) -> None:
        """Create a folder and its missing parent folders."""
        make_folder(fs, folder)

    def open(self, fs: AbstractFileSystem, full: str, path: str, mode: str, using: Using) -> Any:
        """Open a binary file in one of the modes `r`, `w`, `a` and `x`."""
        if mode == "r" and self.has_folders:
            refuse_folder(fs, full, path)
        try:
            options = sftp.read_options(fs) if mode == "r" else {}
            file = fs.open(full, mode.replace("x", self.exclusive_mode) + "b", **options)
        except OSError as error:
            if mode == "x" and not isinstance(error, FileExistsError) and fs.exists(full):
                raise FileExistsError(errno.EEXIST, "The file exists already; choose another name", path) from error
            if not isinstance(error, IsADirectoryError):
                refuse_folder(fs, full, path)
            raise
        if mode == "r" and (getattr(file, "details", None) or {}).get("type") == "directory":
            raise IsADirectoryError(errno.EISDIR, "It is a folder; name a file in it", path)
        opened = RemoteFile(file, using, path)
        if mode == "r":
            return io.BufferedReader(opened, _READ_AHEAD)
        if opened.seekable():
            return opened
        return io.BufferedWriter(Upload(opened, opened.tell() if mode == "a" else None))

    def upload(self, fs: AbstractFileSystem, source: Path | bytes, full: str, progress: Callback) -> None:
        """Replace a file in one step: upload a temporary file beside it and rename that.

        Args:
            source: a file of this machine, or the new content.
        """
        unfinished = unfinished_name(full)
        try:
            _send(fs, source, unfinished, progress)
            self._rename(fs, unfinished, full)
        except BaseException:
            with suppress(Exception):  # the file may not be removable for the same reason
                fs.rm_file(unfinished)
            raise

    def move(self, fs: AbstractFileSystem, old: str, new: str, below: Below | None) -> None:  # noqa: ARG002
        """Move a file or folder. A file replaces an existing file.

        Args:
            below: the paths below a folder, each with whether it is a folder; None for a file.
        """
        self._rename(fs, old, new)

    def _rename(self, fs: AbstractFileSystem, old: str, new: str) -> None:
        fs.mv(old, new)


class Smb(Protocol):
    """SMB, where fsspec's `mv` fails if the target exists, and whose client keeps its connections for the process."""

    def leave_to_parent(self) -> None:
        connections = import_module("smbclient._pool")._SMB_CONNECTIONS
        keep_forever(dict(connections))
        connections.clear()

    def _rename(self, fs: AbstractFileSystem, old: str, new: str) -> None:
        old, new = (f"\\\\{fs.host}{path}".replace("/", "\\") for path in (old, new))
        import_module("smbclient").replace(old, new, port=fs._port)


class WebDav(Protocol):
    """WebDAV, where fsspec's `mv` copies and deletes, and cannot replace a file or move a folder."""

    def _rename(self, fs: AbstractFileSystem, old: str, new: str) -> None:
        fs.client.move(old, new, overwrite=True)


@dataclass(frozen=True, kw_only=True)
class ObjectStore(Protocol):
    """A protocol without folders: a file appears when its upload is complete, and a name with `/` needs no folder."""

    has_folders: ClassVar[bool] = False

    def root_exists(self, fs: AbstractFileSystem, root: str) -> bool:
        """Return whether the bucket exists. The folder in it exists once it contains a file."""
        return super().root_exists(fs, root.strip("/").partition("/")[0])

    def info(self, fs: AbstractFileSystem, full: str, path: str) -> Entry:
        return super().info(fs, full, path) if path else {"type": "directory"}

    def entries(self, fs: AbstractFileSystem, full: str, path: str) -> Iterator[tuple[str, Entry]]:
        if self.any_segment and ("//" in f"{full}/" or (self.version_mark and self.version_mark in full)):
            return self._found(fs, full)
        return super().entries(fs, full, path)

    def _segment(self, entry: Entry, full: str) -> str | None:
        # An empty object with the name of the folder is a file.
        is_empty_segment = self.any_segment and entry["type"] == "directory" and entry["name"] == f"{full}/"
        return "" if is_empty_segment else super()._segment(entry, full)

    def _found(self, fs: AbstractFileSystem, full: str) -> Iterator[tuple[str, Entry]]:
        """Yield the entries of a folder that fsspec cannot list, because it does not keep the name of the folder."""
        prefix = f"{full}/"
        odd = min(prefix.find(text) for text in ("//", self.version_mark) if text and text in prefix)
        segments: dict[str, Entry] = {}
        for name, entry in fs.find(prefix[: odd + 1].rpartition("/")[0], detail=True).items():
            if name.startswith(prefix):
                segment, slash, _ = name[len(prefix) :].partition("/")
                segments[segment] = {"type": "directory"} if slash else entry
        if not segments:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), full)
        for segment, entry in segments.items():
            if segment or entry["type"] == "directory":
                yield keys.name_of(segment), entry

    def _listed(self, fs: AbstractFileSystem, full: str, path: str) -> list[Entry]:
        try:
            return list(fs.ls(full, detail=True))
        except FileNotFoundError:
            if path:
                raise
            return []

    def make_folder(self, fs: AbstractFileSystem, folder: str) -> None:
        pass

    def upload(self, fs: AbstractFileSystem, source: Path | bytes, full: str, progress: Callback) -> None:
        """Upload the file, which appears when the upload is complete."""
        _send(fs, source, full, progress)

    def move(self, fs: AbstractFileSystem, old: str, new: str, below: Below | None) -> None:
        """Copy all files, then delete the old ones. The `mv` of fsspec would read `*` in a name as a pattern."""
        files = [old] if below is None else [file for file, is_folder in below if not is_folder]
        for file in files:
            fs.cp_file(file, new + file[len(old) :])
        for file in files:
            fs.rm_file(file)


@dataclass(frozen=True, kw_only=True)
class Memory(ObjectStore):
    """The memory of this process: an object store that also has empty folders."""

    appends: bool = True
    any_segment: bool = True

    def lock(self) -> AbstractContextManager[Any]:
        return _MEMORY_LOCK

    def root_exists(self, fs: AbstractFileSystem, root: str) -> bool:
        """Create the root."""
        make_folder(fs, root)
        return True

    def make_folder(self, fs: AbstractFileSystem, folder: str) -> None:
        make_folder(fs, folder)

    def open(self, fs: AbstractFileSystem, full: str, path: str, mode: str, using: Using) -> Any:
        """Open a file whose content is written when it is closed. fsspec's own file is shared between its readers."""
        if mode == "r":
            refuse_folder(fs, full, path)
            return io.BufferedReader(RemoteFile(io.BytesIO(fs.cat_file(full)), nullcontext, path))
        if mode == "x":
            fs.pipe_file(full, b"")

        def content() -> bytes:
            return fs.cat_file(full) if mode == "a" and fs.exists(full) else b""

        def store(written: bytes) -> None:
            with using():
                fs.pipe_file(full, content() + written)

        return io.BufferedWriter(Upload(UploadOnClose(store, path), len(content()) if mode == "a" else None))

    def upload(self, fs: AbstractFileSystem, source: Path | bytes, full: str, progress: Callback) -> None:  # noqa: ARG002
        fs.pipe_file(full, source if isinstance(source, bytes) else source.read_bytes())

    def move(self, fs: AbstractFileSystem, old: str, new: str, below: Below | None) -> None:
        if below is None:
            super().move(fs, old, new, None)
            return
        entries = [(old, True), *below]
        for folder in (path for path, is_folder in entries if is_folder):
            make_folder(fs, new + folder[len(old) :])
        super().move(fs, old, new, entries)
        fs.rm(old, recursive=True)


def _send(fs: AbstractFileSystem, source: Path | bytes, full: str, progress: Callback) -> None:
    if isinstance(source, bytes):
        sftp.write(fs, full, source)
    else:
        fs.put_file(str(source), full, callback=progress)
