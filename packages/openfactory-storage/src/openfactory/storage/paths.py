"""The rules of paths: what a path within a storage is, whoever holds the files."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import PurePath, PurePosixPath

from openfactory.storage.errors import PathOutsideStorageError

__all__ = ["StoragePath", "checked_text", "relative"]

StoragePath = str | os.PathLike[str]


def relative(path: StoragePath, roots: Collection[PurePath] = ()) -> str:
    """A path as its segments from the root, with `/` between them; the root itself is the empty text.

    >>> relative("sub/../a.txt"), relative("./sub//b.txt"), relative("/srv/data/c.txt", [PurePosixPath("/srv/data")])
    ('a.txt', 'sub/b.txt', 'c.txt')

    Args:
        path: relative to the root, or absolute and inside of it.
        roots: what an absolute path may begin with.

    Raises:
        PathOutsideStorageError: it leads out, or holds what another system would take for a way out.
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
                f"{text!r} leads out of the storage. Use a path relative to it; '..' may not lead out of it.", path=text
            )
    if is_absolute:
        segments = _from_root(text, PurePosixPath("/" if with_slashes.startswith("/") else "", *segments), roots)
    return "/".join(segments)


def checked_text(path: StoragePath) -> str:
    """The text of a path, without what another system would take for a way out.

    Raises:
        PathOutsideStorageError: it holds such a character.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise PathOutsideStorageError(f"{text!r} holds a NUL character. Remove it.", path=text)
    if os.sep == "/" and "\\" in text:
        raise PathOutsideStorageError(f"{text!r} holds a backslash. Write '/' between folders.", path=text)
    return text


def _from_root(text: str, whole: PurePosixPath, roots: Collection[PurePath]) -> list[str]:
    for root in roots:
        if whole.is_relative_to(root.as_posix()):
            return list(whole.relative_to(root.as_posix()).parts)
    inside = f", or one inside {str(next(iter(roots)))!r}" if roots else ""
    raise PathOutsideStorageError(
        f"{text!r} is an absolute path outside of the storage. Use a path relative to it{inside}.", path=text
    )
