"""What every storage promises, and what follows from it."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

from fsspec import AbstractFileSystem
from fsspec.utils import glob_translate

from openfactory.storage.atomic_replace import replace_file
from openfactory.storage.errors import ReadOnlyStorageError
from openfactory.storage.paths import StoragePath, relative

__all__ = ["FileBackend", "FileInfo", "OnProgress"]

#: Called while a file is carried: how many bytes are through, of how many (0 where nobody knows).
OnProgress = Callable[[int, int], object]

_CHUNK = 1024 * 1024
_WILD = re.compile(r"[*?[]")


class FileInfo(NamedTuple):
    """What is known of a file or a folder.

    Attributes:
        path: from the root of the storage, with `/` between folders.
        size: of a file, in bytes; 0 for a folder.
        modified: when its content was last written, UTC; None where the storage does not know.
        is_folder: whether it is a folder.
    """

    path: str
    size: int
    modified: datetime | None
    is_folder: bool


class FileBackend(ABC):
    """A place for an app's files.

    Paths are relative to the root of the storage, with `/` between folders. An absolute path is accepted where it lies
    inside the root, and no path leads out of it. Folders on the way to a file that is written are made.

    A kind of storage defines the methods that begin with an underscore, on paths that are checked; the empty path is
    the root.

    Attributes:
        config: the settings that the backend was made from.
        read_only: whether writing is refused.
    """

    config: Any
    read_only = False

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> FileBackend:
        """Make a backend from its settings, as they stand in `STORAGE`.

        Raises:
            StorageConfigurationError: they can't be used.
        """

    @property
    @abstractmethod
    def root(self) -> PurePath:
        """The folder that all paths are relative to."""

    @property
    @abstractmethod
    def fs(self) -> AbstractFileSystem:
        """The fsspec filesystem underneath, at the root: for what is missing here. It holds nobody to the root."""

    def get_mount_spec(self) -> dict[str, Any] | None:
        """What a container needs to see this storage, in the words of the Docker API; None for nothing."""
        return None

    def compatible_with_swarm(self) -> bool:
        """Whether the storage is the same on every node of a Docker Swarm."""
        return True

    # One file

    def open(
        self, path: StoragePath, mode: str = "r", *, encoding: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open a file as the builtin `open` does.

        Args:
            path: the file.
            mode: as for the builtin `open`, text unless it has a `b`.
            encoding: of a text file, UTF-8 unless given: the same file reads the same on every machine.
            newline: as for the builtin `open`.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as the builtin `open` does.
            io.UnsupportedOperation: reading and writing at once (`+`), which only folders can.
        """
        if "b" in mode and (encoding is not None or newline is not None):
            raise ValueError(f"mode is {mode!r}, and bytes have no encoding or newline. Leave these out, or the 'b'.")
        checked = self._writable(path) if _writes(mode) else self._inside(path)
        as_text = {} if "b" in mode else {"encoding": encoding or "utf-8", "newline": newline}
        return self._open(checked, mode, **as_text)

    def read_bytes(self, path: StoragePath) -> bytes:
        """All of a file."""
        with self.open(path, "rb") as file:
            content: bytes = file.read()
        return content

    def read_text(self, path: StoragePath, *, encoding: str = "utf-8") -> str:
        """All of a text file."""
        with self.open(path, encoding=encoding) as file:
            content: str = file.read()
        return content

    def write_bytes(self, path: StoragePath, content: bytes) -> None:
        """Make the content of a file; `write_atomic` does it so that nobody sees a part of it."""
        with self.open(path, "wb") as file:
            file.write(content)

    def write_text(self, path: StoragePath, content: str, *, encoding: str = "utf-8") -> None:
        """Make the content of a text file; `write_atomic` does it so that nobody sees a part of it."""
        with self.open(path, "w", encoding=encoding) as file:
            file.write(content)

    def write_atomic(self, path: StoragePath, content: bytes | str, *, encoding: str = "utf-8") -> None:
        """Make the content of a file in one step: whoever reads it gets the old content or the new, whatever happens.

        That holds for other processes, for a full disk and for a power cut; the new content is on the disk when it
        returns.
        """
        data = content.encode(encoding) if isinstance(content, str) else content
        self._replace(self._writable(path), [data])

    def info(self, path: StoragePath = ".") -> FileInfo:
        """Size and time of a file or folder.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._info(self._inside(path))

    def exists(self, path: StoragePath) -> bool:
        """Whether there is a file or a folder."""
        return self._exists(self._inside(path))

    def delete(self, path: StoragePath) -> None:
        """Remove a file. A symbolic link is removed itself, not what it leads to.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a folder.
        """
        self._delete(self._writable(path))

    def copy(self, source: StoragePath, target: StoragePath) -> None:
        """Copy a file, in the place of one that is there; nobody sees a part of it."""
        self._copy(self._inside(source), self._writable(target))

    def move(self, source: StoragePath, target: StoragePath) -> None:
        """Give a file or folder another path; a file that is there is replaced.

        Raises:
            FileNotFoundError: there is no source.
            FileExistsError: a folder should take the place of something.
        """
        self._move(self._writable(source), self._writable(target))

    def put(self, local_file: StoragePath, path: StoragePath, on_progress: OnProgress | None = None) -> None:
        """Copy a file of this machine into the storage; nobody sees a part of it."""
        self._put(Path(local_file), self._writable(path), on_progress)

    def get(self, path: StoragePath, local_file: StoragePath, on_progress: OnProgress | None = None) -> None:
        """Copy a file of the storage to this machine; when that fails, a file that was there stays as it was."""
        total = self.info(path).size
        target = os.path.realpath(local_file)
        with self.open(path, "rb") as file:
            chunks = _chunks(file, on_progress, total)
            if os.path.isfile(target) or not os.path.lexists(target):
                replace_file(target, None, chunks, os.fspath(local_file))
            else:  # a device, which nothing is to take the place of
                with open(target, "wb") as copy:
                    copy.writelines(chunks)

    # Folders

    def mkdir(self, path: StoragePath) -> None:
        """Make a folder and those on the way to it; nothing happens if it is there.

        A store of objects has no folders: there one is when something is in it.

        Raises:
            FileExistsError: there is a file of that name.
        """
        self._mkdir(self._writable(path))

    def listdir(self, path: StoragePath = ".") -> list[str]:
        """The names in a folder, sorted.

        Raises:
            FileNotFoundError: there is no such folder.
            NotADirectoryError: it is a file.
        """
        return sorted(entry.path.rpartition("/")[2] for entry in self._list(self._inside(path)))

    def walk(self, path: StoragePath = ".") -> Iterator[FileInfo]:
        """Each file and folder below a folder, one after the other; links to folders are not followed.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        yield from self._below(self._inside(path))

    def glob(self, pattern: str) -> list[str]:
        """The paths that match a pattern, sorted: `*` within a name, `**` for any folders, `?`, `[abc]`.

        A name that begins with a dot is matched like any other. `[*]` is the character itself.
        """
        segments = pattern.split("/")
        wild = next((number for number, segment in enumerate(segments) if _WILD.search(segment)), len(segments))
        folder = self._inside("/".join(segments[:wild]) or (pattern[:1] if pattern.startswith("/") else "."))
        if wild == len(segments):
            return [folder] if self._exists(folder) else []
        rest = segments[wild:]
        matches = re.compile(glob_translate("/".join(rest))).fullmatch
        try:
            below = list(self._below(folder, 0 if "**" in rest else len(rest)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        start = len(folder) + 1 if folder else 0
        return sorted(entry.path for entry in below if matches(entry.path[start:]))

    def _below(self, folder: str, levels: int = 0) -> Iterator[FileInfo]:
        """Each file and folder, so many levels deep, or all; what vanishes meanwhile is left out."""
        for entry in sorted(self._list(folder), key=lambda entry: entry.path):
            yield entry
            if entry.is_folder and levels != 1:
                with suppress(FileNotFoundError, NotADirectoryError):
                    yield from self._below(entry.path, levels - 1)

    # What a kind of storage defines

    @abstractmethod
    def _open(self, path: str, mode: str, **as_text: Any) -> IO[Any]: ...

    @abstractmethod
    def _replace(self, path: str, chunks: Iterable[bytes]) -> None:
        """Make the content of a file in one step."""

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
                f"{checked!r} was not written: {self!r} is read-only. Write to another store, or take read_only (or "
                "the mount option ro) out of STORAGE.",
                path=checked,
            )
        return checked


@cache
def _writes(mode: str) -> bool:
    """Whether a mode, one of those there are, lets a file be written."""
    letters = set(mode)
    if (
        len(letters) < len(mode)
        or not letters <= set("rwaxbt+")
        or len(letters & set("rwax")) != 1
        or letters >= {"b", "t"}
    ):
        raise ValueError(f"mode is {mode!r}. Write one of r, w, a and x, and 'b' after it for a file that is no text.")
    return not letters.isdisjoint("wax+")


def _chunks(file: IO[bytes], on_progress: OnProgress | None = None, total: int = 0) -> Iterator[bytes]:
    through = 0
    while chunk := file.read(_CHUNK):
        yield chunk
        through += len(chunk)
        if on_progress is not None:
            on_progress(through, total)
