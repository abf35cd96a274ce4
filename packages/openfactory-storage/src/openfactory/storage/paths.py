"""Checks of the paths within a storage, for all types of storage."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import PurePath, PurePosixPath

from openfactory.storage.errors import PathOutsideStorageError

__all__ = ["StoragePath", "checked_text", "relative"]

StoragePath = str | os.PathLike[str]


def relative(path: StoragePath, roots: Collection[PurePath] = ()) -> str:
    """Return a path relative to the root, with `/` between its segments. The root itself is the empty string.

    >>> relative("sub/../a.txt"), relative("./sub//b.txt"), relative("/srv/data/c.txt", [PurePosixPath("/srv/data")])
    ('a.txt', 'sub/b.txt', 'c.txt')

    Args:
        path: a path relative to the root, or an absolute path inside the root.
        roots: the paths with which an absolute path may begin.

    Raises:
        PathOutsideStorageError: the path leads out of the root, or contains a backslash or NUL character, which could
            lead out of it on another system.
    """
    text = checked_text(path)
    with_slashes = text if os.sep == "/" else PurePath(text).as_posix()
    is_absolute = with_slashes.startswith("/") or bool(os.path.splitdrive(text)[0])
    segments: list[str] = []
    for segment in with_slashes.split("/"):
        if segment in ("", "."):
            continue
        if segment != "..":
            segments.append(segment)
        elif segments:
            segments.pop()
        elif not is_absolute:
            raise PathOutsideStorageError(
                f"{text!r} leads out of the storage. Use a path that stays inside it.", path=text
            )
    if is_absolute:
        segments = _below_root(text, PurePosixPath("/" if with_slashes.startswith("/") else "", *segments), roots)
    return "/".join(segments)


def checked_text(path: StoragePath) -> str:
    """Return a path as a string.

    Raises:
        PathOutsideStorageError: the path contains a backslash or NUL character, which could lead out of the root on
            another system.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise PathOutsideStorageError(f"{text!r} contains a NUL character. Remove it.", path=text)
    if os.sep == "/" and "\\" in text:
        raise PathOutsideStorageError(f"{text!r} contains a backslash. Write '/' between folders.", path=text)
    return text


def _below_root(text: str, whole: PurePosixPath, roots: Collection[PurePath]) -> list[str]:
    for root in roots:
        if whole.is_relative_to(root.as_posix()):
            return list(whole.relative_to(root.as_posix()).parts)
    alternative = f", or an absolute path inside {str(next(iter(roots)))!r}" if roots else ""
    raise PathOutsideStorageError(
        f"{text!r} is an absolute path outside of the storage. Use a path relative to it{alternative}.", path=text
    )
