"""What every storage promises."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

__all__ = ["FileBackend"]

StoragePath = str | os.PathLike[str]


class FileBackend(ABC):
    """A place for an app's files.

    Paths are relative to the root of the storage. An absolute path is accepted where it lies inside the
    root, and no path leads out of it.

    Attributes:
        config: the settings that the backend was made from.
    """

    config: Any

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
    def root(self) -> Path:
        """The folder on this machine that all paths are relative to."""

    @abstractmethod
    def open(
        self,
        path: StoragePath,
        mode: str = "r",
        *,
        encoding: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the builtin `open` does, and make the folders on the way to one that is written.

        Args:
            path: the file.
            mode: as for the builtin `open`, text unless it has a `b`.
            encoding: of a text file, UTF-8 unless given: the same file reads the same on every machine.
            newline: as for the builtin `open`.
        """

    @abstractmethod
    def exists(self, path: StoragePath) -> bool:
        """Whether there is a file or a folder."""

    @abstractmethod
    def delete(self, path: StoragePath) -> None:
        """Remove a file. A symbolic link is removed itself, not what it leads to.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a folder.
        """

    @abstractmethod
    def listdir(self, path: StoragePath = ".") -> list[str]:
        """The names in a folder, sorted.

        Raises:
            FileNotFoundError: there is no such folder.
            NotADirectoryError: it is a file.
        """

    @abstractmethod
    def get_mount_spec(self) -> dict[str, Any] | None:
        """What a container needs to see this storage, in the words of the Docker API; None for nothing."""

    def compatible_with_swarm(self) -> bool:
        """Whether the storage is the same on every node of a Docker Swarm."""
        return True
