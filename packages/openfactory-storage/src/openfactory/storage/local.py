"""A folder of this machine, or of the container that the app runs in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import fsspec
import msgspec

from openfactory.storage.backend import FileBackend, StoragePath
from openfactory.storage.errors import PathOutsideStorageError, StorageConfigurationError

__all__ = ["LocalBackend", "LocalConfiguration"]

_MOUNT_POINT = re.compile(r"/[A-Za-z0-9._/-]*")
_LONGEST_MOUNT_POINT = 255


class LocalConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="local"):
    """The settings of a `local` storage.

    Attributes:
        local_path: the folder on the machine that has the files.
        mount_point: where a container of the app sees that folder.
        description: for people.
    """

    local_path: str
    mount_point: str
    description: str | None = None

    def __post_init__(self) -> None:
        local_path = self.local_path.strip()
        if not local_path.startswith("/"):
            raise ValueError(
                f"local_path is {local_path!r}, which is not absolute. "
                f"Write the whole path, such as {os.path.abspath(local_path)!r}"
            )
        mount_point = self.mount_point.strip()
        if (
            not _MOUNT_POINT.fullmatch(mount_point)
            or ".." in mount_point
            or len(mount_point) > _LONGEST_MOUNT_POINT
            or _normal(mount_point) == "/"
        ):
            raise ValueError(
                f"mount_point is {mount_point!r}. Write an absolute path of letters, digits and . _ - / that "
                f"is not '/', has no '..' and at most {_LONGEST_MOUNT_POINT} characters, such as '/mnt/data'"
            )
        # Frozen for everybody else; here the object is still being made.
        msgspec.structs.force_setattr(self, "local_path", _normal(local_path))
        msgspec.structs.force_setattr(self, "mount_point", _normal(mount_point))


def _normal(path: str) -> str:
    # normpath keeps two leading slashes, which POSIX allows to mean something else and Docker does not.
    return "/" + os.path.normpath(path).lstrip("/")


class LocalBackend(FileBackend):
    """Files in a folder of this machine.

    In a container the folder is seen at `mount_point`, on a developer's machine it is `local_path`: the root
    is the first of these that exists. A path is refused when it leads out of the root once `..` and symbolic
    links are followed. That is a guard against mistakes and against names that come from elsewhere, not
    against a process that swaps links in the folder while a file is being opened.
    """

    config: LocalConfiguration

    def __init__(self, config: LocalConfiguration) -> None:
        super().__init__(config)
        for folder in (config.mount_point, config.local_path):
            if os.path.isdir(folder):
                self._root = Path(folder)
                break
        else:
            raise StorageConfigurationError(
                f"A local storage finds neither its mount_point {config.mount_point!r} nor its local_path "
                f"{config.local_path!r} as a folder. Make the folder (mkdir -p {config.local_path}), or "
                f"change local_path to one that exists."
            )
        # Followed once, so that a root which is a symbolic link itself does not look like an escape.
        self._real_root = os.path.realpath(self._root)
        self._files = fsspec.filesystem("file")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LocalBackend:
        """Make it from `{"type": "local", "local_path": …, "mount_point": …}`."""
        try:
            return cls(msgspec.convert(dict(config), LocalConfiguration))
        except msgspec.ValidationError as error:
            raise StorageConfigurationError(
                f"The settings of a local storage can't be used: {error}. "
                'They are {"type": "local", "local_path": "/srv/data", "mount_point": "/mnt/data"}, '
                'and may have a "description".'
            ) from error

    @property
    def root(self) -> Path:
        """The folder on this machine that all paths are relative to."""
        return self._root

    def open(
        self,
        path: StoragePath,
        mode: str = "r",
        *,
        encoding: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the builtin `open` does, and make the folders on the way to one that is written."""
        inside = self._inside(path)
        if set(mode) & set("wax"):
            self._files.makedirs(os.path.dirname(inside), exist_ok=True)
        as_text = {} if "b" in mode else {"encoding": encoding or "utf-8", "newline": newline}
        opened: IO[Any] = self._files.open(inside, mode, **as_text)
        return opened

    def exists(self, path: StoragePath) -> bool:
        """Whether there is a file or a folder."""
        return bool(self._files.exists(self._inside(path)))

    def delete(self, path: StoragePath) -> None:
        """Remove a file. A symbolic link is removed itself, not what it leads to."""
        inside = self._inside(path, follow_last=False)
        if os.path.isdir(inside) and not os.path.islink(inside):
            raise IsADirectoryError(f"{os.fspath(path)!r} is a folder. Delete the files in it one by one.")
        self._files.rm_file(inside)

    def listdir(self, path: StoragePath = ".") -> list[str]:
        """The names in a folder, sorted."""
        inside = self._inside(path)
        if self._files.isfile(inside):
            raise NotADirectoryError(f"{os.fspath(path)!r} is a file. List the folder it is in, or open it.")
        return sorted(os.path.basename(entry) for entry in self._files.ls(inside, detail=False))

    def get_mount_spec(self) -> dict[str, Any]:
        """A bind mount of `local_path` at `mount_point`."""
        return {
            "Type": "bind",
            "Source": self.config.local_path,
            "Target": self.config.mount_point,
            "ReadOnly": False,
        }

    def compatible_with_swarm(self) -> bool:
        """No: a folder of one machine is not there on the next node."""
        return False

    def _inside(self, path: StoragePath, *, follow_last: bool = True) -> str:
        """The path with `..` and links followed, if that still is inside the root."""
        text = os.fspath(path)
        if "\0" in text:
            raise PathOutsideStorageError(f"{text!r} holds a NUL character. Remove it.", path=text)
        joined = os.path.join(self._root, text)
        folder, name = os.path.split(joined)
        if follow_last or name in ("", ".", ".."):
            real = os.path.realpath(joined)
        else:
            real = os.path.join(os.path.realpath(folder), name)
        if os.path.commonpath([real, self._real_root]) != self._real_root:
            raise PathOutsideStorageError(
                f"{text!r} leads to {real!r}, outside the storage at {str(self._root)!r}. "
                f"Use a path relative to the storage; '..' and symbolic links may not lead out of it.",
                path=text,
            )
        return real
