"""The interface that every storage implements, with the methods that all storages share."""

from __future__ import annotations

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePath
from typing import IO, Any

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from openfactory.storage.atomic_replace import replace_file
from openfactory.storage.errors import ReadOnlyStorageError
from openfactory.storage.file_info import FileInfo
from openfactory.storage.paths import StoragePath, relative

__all__ = ["FileBackend", "FileInfo", "OnProgress"]

#: Called during a transfer with the bytes transferred so far and the total number of bytes (0 if it is unknown).
OnProgress = Callable[[int, int], object]

_CHUNK = 1024 * 1024
_WILD = re.compile(r"[*?[]")

# Errors for a path that no file can have, or for links that lead to each other.
_IMPOSSIBLE_PATH = (errno.EINVAL, errno.ELOOP, errno.ENAMETOOLONG)


class FileBackend(ABC):
    """Base class of all storages: reads and writes the files of an app.

    Paths are relative to the root of the storage, with `/` between folders. An absolute path is accepted if it is
    inside the root. A path that leads out of the root raises `PathOutsideStorageError`. A method that writes a file
    creates the missing folders of its path.

    A subclass implements the abstract methods whose names begin with an underscore. They receive checked paths; the
    empty path is the root. They raise the errors of the public method that calls them. `_list` yields the direct
    entries of a folder, with their full paths. If `read_only` is True, the methods that write are never called.

    Attributes:
        config: the settings of the storage.
        read_only: whether methods that write raise `ReadOnlyStorageError`.
    """

    config: Any
    read_only = False

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> FileBackend:
        """Create a storage from its settings, in the form that `STORAGE` has.

        Raises:
            StorageConfigurationError: the settings cannot be used.
        """

    @classmethod
    def mount_spec_from_config(cls, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the mount that a container needs for a storage of these settings, as `get_mount_spec` does.

        The types `local`, `nfs` and `fsspec` answer from the settings alone, without opening the storage. Another type
        opens it, unless it overrides this method.

        Raises:
            StorageConfigurationError: the settings cannot be used.
        """
        return cls.from_config(config).get_mount_spec()

    @property
    @abstractmethod
    def root(self) -> PurePath:
        """The folder to which all paths are relative."""

    @property
    @abstractmethod
    def fs(self) -> AbstractFileSystem:
        """The fsspec filesystem of the storage, for operations that this class does not have.

        Its paths are relative to the root. It does not check whether a path leads out of the root.
        """

    def get_mount_spec(self) -> dict[str, Any] | None:
        """Return the mount that a container needs, in the form of the Docker API; None if it needs no mount."""
        return None

    def compatible_with_swarm(self) -> bool:
        """Return whether every node of a Docker Swarm has the same files in this storage."""
        return True

    # One file

    def open(
        self, path: StoragePath, mode: str = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open a file, as the builtin `open` does.

        Args:
            path: path of the file.
            mode: as for the builtin `open`; text unless it contains a `b`.
            encoding: encoding of a text file; UTF-8 by default, on every machine.
            newline: as for the builtin `open`.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as for the builtin `open`.
            io.UnsupportedOperation: the mode contains `+`, which only the types `local` and `nfs` support.
        """
        if "b" in mode and (encoding is not None or newline is not None):
            raise ValueError(f"The mode {mode!r} is binary and takes no encoding or newline. Omit them, or the 'b'.")
        checked = self._writable(path) if _is_for_writing(mode) else self._inside(path)
        text_options = {} if "b" in mode else {"encoding": encoding or "utf-8", "newline": newline}
        return self._open(checked, mode, **text_options)

    def read_bytes(self, path: StoragePath) -> bytes:
        """Return the content of a file as bytes."""
        with self.open(path, "rb") as file:
            content: bytes = file.read()
        return content

    def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
        """Return the content of a text file."""
        with self.open(path, encoding=encoding) as file:
            content: str = file.read()
        return content

    def write_bytes(self, path: StoragePath, content: bytes) -> None:
        """Write bytes to a file and replace its content.

        A reader may see a part of the content. `write_atomic` prevents that.
        """
        with self.open(path, "wb") as file:
            file.write(content)

    def write_text(self, path: StoragePath, content: str, *, encoding: str = "utf-8") -> None:
        """Write text to a file and replace its content.

        A reader may see a part of the content. `write_atomic` prevents that.
        """
        with self.open(path, "w", encoding=encoding) as file:
            file.write(content)

    def write_atomic(self, path: StoragePath, content: bytes | str, *, encoding: str = "utf-8") -> None:
        """Replace the content of a file in one step: a reader gets the old content or the new content, never a part.

        That is also true for other processes, on a full disk and after a power cut. When this method returns, the new
        content is on the disk.
        """
        data = content.encode(encoding) if isinstance(content, str) else content
        self._replace(self._writable(path), [data])

    def info(self, path: StoragePath = ".") -> FileInfo:
        """Return size and modification time of a file or folder.

        Raises:
            FileNotFoundError: the path does not exist.
        """
        return self._info(self._inside(path))

    def exists(self, path: StoragePath) -> bool:
        """Return whether a file or folder exists; False for a name that no file can have."""
        if "\0" in os.fspath(path):
            return False
        try:
            return self._exists(self._inside(path))
        except UnicodeError:  # the name has no encoding on this system or server
            return False
        except OSError as error:
            if not _is_missing(error):
                raise
            return False

    def delete(self, path: StoragePath) -> None:
        """Delete a file. For a symbolic link, delete the link and not its target.

        Raises:
            FileNotFoundError: the file does not exist.
            IsADirectoryError: the path is a folder.
        """
        self._delete(self._writable(path))

    def copy(self, source: StoragePath, target: StoragePath) -> None:
        """Copy a file in one step, as `write_atomic` does. An existing target is replaced."""
        self._copy(self._inside(source), self._writable(target))

    def move(self, source: StoragePath, target: StoragePath) -> None:
        """Move a file or folder to another path. A file replaces an existing file.

        To another volume, the source is copied, and deleted when the copy is complete.

        Raises:
            FileNotFoundError: the source does not exist.
            FileExistsError: the source is a folder and the target exists.
            OSError: the source was changed while it was copied (EBUSY), or cannot be moved to that volume (EXDEV).
        """
        self._move(self._writable(source), self._writable(target))

    def put(self, local_file: StoragePath, path: StoragePath, on_progress: OnProgress | None = None) -> None:
        """Copy a file of this machine into the storage in one step, as `write_atomic` does."""
        self._put(Path(local_file), self._writable(path), on_progress)

    def get(self, path: StoragePath, local_file: StoragePath, on_progress: OnProgress | None = None) -> None:
        """Copy a file of the storage to this machine. If that fails, an existing local file stays as it is."""
        total = self.info(path).size
        target = os.path.realpath(local_file)
        with self.open(path, "rb") as file:
            chunks = _chunks(file, on_progress, total)
            if os.path.isfile(target) or not os.path.lexists(target):
                replace_file(target, None, chunks, os.fspath(local_file))
            else:  # a device, which must not be replaced by a file
                with open(target, "wb") as copy:
                    copy.writelines(chunks)

    # Folders

    def mkdir(self, path: StoragePath) -> None:
        """Create a folder and its missing parent folders. An existing folder stays as it is.

        On an object store this method creates nothing: a folder exists there as long as it contains a file.

        Raises:
            FileExistsError: the path is a file.
        """
        self._mkdir(self._writable(path))

    def listdir(self, path: StoragePath = ".") -> list[str]:
        """Return the sorted names of the files and folders in a folder.

        Raises:
            FileNotFoundError: the folder does not exist.
            NotADirectoryError: the path is a file.
        """
        return sorted(entry.path.rpartition("/")[2] for entry in self._list(self._inside(path)))

    def walk(self, path: StoragePath = ".") -> Iterator[FileInfo]:
        """Yield each file and folder below a folder. Links to folders are not followed.

        Raises:
            FileNotFoundError: the folder does not exist.
        """
        yield from self._below(self._inside(path))

    def glob(self, pattern: str) -> list[str]:
        """Return the sorted paths that match a pattern.

        `*` and `?` match within a name, `**` matches any number of folders, and `[abc]` matches one of these
        characters. Write `[*]` for the character `*` itself. Names that begin with a dot are matched like all others.
        """
        segments = pattern.split("/")
        wild = next((number for number, segment in enumerate(segments) if _WILD.search(segment)), len(segments))
        folder = self._inside("/".join(segments[:wild]) or (pattern[:1] if pattern.startswith("/") else "."))
        rest = segments[wild:]
        try:
            if not rest:
                return [folder] if self._exists(folder) else []
            below = list(self._below(folder, 0 if "**" in rest else len(rest)))
        except UnicodeError:
            return []
        except OSError as error:
            if not _is_missing(error):
                raise
            return []
        matches = re.compile(glob_translate("/".join(rest))).fullmatch
        start = len(folder) + 1 if folder else 0
        return sorted(entry.path for entry in below if matches(entry.path[start:]))

    def _below(self, folder: str, levels: int = 0) -> Iterator[FileInfo]:
        """Yield each file and folder below a folder, up to a number of levels; 0 means all levels.

        A subfolder that is deleted meanwhile is skipped.
        """
        for entry in sorted(self._list(folder), key=lambda entry: entry.path):
            yield entry
            if entry.is_folder and levels != 1:
                with suppress(FileNotFoundError, NotADirectoryError):
                    yield from self._below(entry.path, levels - 1)

    # Implemented by each type of storage

    @abstractmethod
    def _open(self, path: str, mode: str, **text_options: Any) -> IO[Any]: ...

    @abstractmethod
    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        """Replace the content of a file in one step, or create the file."""

    def _copy(self, source: str, target: str) -> None:
        with self._open(source, "rb") as file:
            self._replace(target, _chunks(file))

    def _put(self, local_file: Path, path: str, on_progress: OnProgress | None) -> None:
        with local_file.open("rb") as file:
            self._replace(path, _chunks(file, on_progress, local_file.stat().st_size))

    @abstractmethod
    def _info(self, path: str) -> FileInfo: ...

    @abstractmethod
    def _exists(self, path: str) -> bool: ...

    @abstractmethod
    def _delete(self, path: str) -> None: ...

    @abstractmethod
    def _move(self, source: str, target: str) -> None: ...

    @abstractmethod
    def _mkdir(self, path: str) -> None: ...

    @abstractmethod
    def _list(self, path: str) -> Iterable[FileInfo]: ...

    def _inside(self, path: StoragePath) -> str:
        return relative(path)

    def _writable(self, path: StoragePath) -> str:
        checked = self._inside(path)
        if self.read_only:
            raise ReadOnlyStorageError(
                f"{checked!r} was not written: {self!r} is read-only. Write to another store. If STORAGE sets "
                "read_only or the mount option ro, remove it.",
                path=checked,
            )
        return checked


def _is_missing(error: OSError) -> bool:
    return isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno in _IMPOSSIBLE_PATH


@cache
def _is_for_writing(mode: str) -> bool:
    """Return whether a mode of `open` allows writing; raise ValueError if the mode is invalid."""
    letters = set(mode)
    if (
        len(letters) < len(mode)
        or not letters <= set("rwaxbt+")
        or len(letters & set("rwax")) != 1
        or letters >= {"b", "t"}
    ):
        raise ValueError(f"{mode!r} is not a mode of open. Write r, w, a or x, followed by 'b' for a binary file.")
    return not letters.isdisjoint("wax+")


def _chunks(file: IO[bytes], on_progress: OnProgress | None = None, total: int = 0) -> Iterator[bytes]:
    transferred = 0
    while chunk := file.read(_CHUNK):
        yield chunk
        transferred += len(chunk)
        if on_progress is not None:
            on_progress(transferred, total)
