"""Checks of the settings of a storage in a folder: the paths, and the folder that is the root."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from openfactory.storage.errors import StorageConfigurationError

__all__ = ["checked_local_path", "checked_mount_point", "first_folder"]

_MOUNT_POINT = re.compile(r"/[A-Za-z0-9._/-]*")
_LONGEST_MOUNT_POINT = 255


def _normalized(path: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes.

    Two leading slashes, to which POSIX may give another meaning, become one.
    """
    return "/" + os.path.normpath(path).lstrip("/")


def checked_mount_point(mount_point: str) -> str:
    """Return the normalized path at which a container mounts a storage.

    Raises:
        ValueError: Docker does not accept the path as a mount point.
    """
    stripped = mount_point.strip()
    if (
        not _MOUNT_POINT.fullmatch(stripped)
        or ".." in stripped
        or len(stripped) > _LONGEST_MOUNT_POINT
        or _normalized(stripped) == "/"
    ):
        raise ValueError(
            f"mount_point is {stripped!r}. Write an absolute path of letters, digits and . _ - / that "
            f"is not '/', has no '..' and at most {_LONGEST_MOUNT_POINT} characters, such as '/mnt/data'"
        )
    return _normalized(stripped)


def checked_local_path(local_path: str) -> str:
    """Return the normalized path of a folder of this machine.

    Raises:
        ValueError: the path is not absolute.
    """
    stripped = local_path.strip()
    if not stripped.startswith("/"):
        raise ValueError(
            f"local_path is {stripped!r}, which is not absolute. "
            f"Write the full path, such as {os.path.abspath(stripped)!r}"
        )
    return _normalized(stripped)


def first_folder(kind: str, fields: Mapping[str, str | None], remedy: str) -> Path:
    """Return the first folder that exists.

    Args:
        kind: name of the storage in error messages.
        fields: the folders by the names of their fields in the settings; None is skipped.
        remedy: end of the error message if no folder exists.

    Raises:
        StorageConfigurationError: no folder exists, or the first one cannot be read.
    """
    absent = []
    for field, folder in fields.items():
        if folder is None:
            continue
        try:
            status = os.stat(folder)
        except OSError as error:
            absent.append(f"{field} {folder!r} ({error.strerror})")
            continue
        if stat.S_ISDIR(status.st_mode):
            _check_readable(kind, field, folder)
            return Path(folder)
        absent.append(f"{field} {folder!r} (Not a directory)")
    raise StorageConfigurationError(f"{kind} finds no folder at its {' or its '.join(absent)}. {remedy}")


def _check_readable(kind: str, field: str, folder: str) -> None:
    """Raise an error if the folder cannot be listed or entered, which are two permissions."""
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
