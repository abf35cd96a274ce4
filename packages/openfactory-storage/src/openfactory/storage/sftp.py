"""What only SFTP has: symbolic links, which the server is asked about, and a client with habits of its own."""

from __future__ import annotations

import socket
import stat
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from openfactory.storage.errors import PathOutsideStorageError

__all__ = ["check_links", "delete", "prepare", "read_ahead", "type_of"]

# The most that SFTP sends at once; its client would ask for a quarter of it.
_BLOCK = 32_768


def prepare(fs: AbstractFileSystem, patience: float) -> None:
    """Let its client give up on a silent server, and send each piece at once, as it waits for the answer."""
    fs.ftp.get_channel().settimeout(patience)
    with suppress(AttributeError, OSError):  # behind a command that stands for a socket
        fs.client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def check_links(fs: AbstractFileSystem, root: str, full: str, path: str) -> None:
    """Follow the links on the way to a file; no other protocol here has any.

    Args:
        fs: a filesystem of any protocol.
        root: the root of the storage, as the filesystem calls it.
        full: the file, as the filesystem calls it.
        path: what errors name.

    Raises:
        PathOutsideStorageError: a link leads out.
    """
    if (client := _client(fs)) is None:
        return
    inside = real = client.normalize(root or ".")
    for place in (PurePosixPath(full), *PurePosixPath(full).parents):
        with suppress(FileNotFoundError):  # it is not there yet, so its folder is looked at
            real = client.normalize(str(place))
            break
    if not PurePosixPath(real).is_relative_to(inside):
        raise PathOutsideStorageError(
            f"{path!r} leads to {real!r}, outside the storage at {inside!r}. "
            "Use a path relative to the storage; symbolic links may not lead out of it.",
            path=path,
        )


def type_of(fs: AbstractFileSystem, full: str) -> str:
    """Of the thing itself, so a link is no folder."""
    if (client := _client(fs)) is not None:
        return "directory" if stat.S_ISDIR(client.lstat(full).st_mode or 0) else "file"
    return str(fs.info(full)["type"])


def delete(fs: AbstractFileSystem, full: str) -> None:
    """Remove a file, or a link itself."""
    if (client := _client(fs)) is not None:
        client.remove(full)
    else:
        fs.rm_file(full)


def read_ahead(fs: AbstractFileSystem) -> dict[str, Any]:
    """How a file is opened so that it comes in large pieces."""
    return {} if _client(fs) is None else {"block_size": _BLOCK}


def _client(fs: AbstractFileSystem) -> Any:
    client = getattr(fs, "ftp", None)
    return client if hasattr(client, "normalize") else None
