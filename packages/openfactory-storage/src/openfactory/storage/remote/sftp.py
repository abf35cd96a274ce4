"""Operations that only SFTP needs: checks of symbolic links, and settings of its client."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from openfactory.storage.errors import PathOutsideStorageError
from openfactory.storage.remote.sftp_client import with_any_names

__all__ = ["check_links", "decoded_stat", "delete", "prepare", "read_options", "type_of", "write"]

# Limits of most servers. The server does not tell that a path is too long.
_LONGEST_NAME = 255
_LONGEST_PATH = 4_095

# The largest block of SFTP. Its client would request a quarter of it.
_BLOCK = 32_768


def prepare(fs: AbstractFileSystem, timeout: float | None) -> None:
    """Set a timeout for the answers of the server, send small packets without delay, and list files of any kind.

    Args:
        fs: a filesystem of any protocol.
        timeout: seconds to wait for an answer; None leaves the client as it is.
    """
    if (client := _client(fs)) is None:
        return
    kind: Any = type(client)
    client.__class__ = with_any_names(kind)
    fs._decode_stat = partial(decoded_stat, fs._decode_stat)
    if timeout is None:
        return
    client.get_channel().settimeout(timeout)
    with suppress(AttributeError, OSError):  # a proxy command replaces the socket
        fs.client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def check_links(fs: AbstractFileSystem, root: str, full: str, path: str) -> None:
    """Check that no symbolic link of a path leads out of the root. Only SFTP has symbolic links.

    Args:
        fs: a filesystem of any protocol.
        root: path of the root in the filesystem.
        full: path of the file in the filesystem.
        path: path in the storage, for the error message.

    Raises:
        PathOutsideStorageError: a link leads out of the root.
    """
    if (client := _client(fs)) is None:
        return
    inside = real = client.normalize(root or ".")
    for existing in (PurePosixPath(full), *PurePosixPath(full).parents):
        with suppress(FileNotFoundError):  # a new file: its nearest existing folder is checked
            real = _normalized(client, str(existing), root, path)
            break
    if not PurePosixPath(real).is_relative_to(inside):
        raise PathOutsideStorageError(
            f"{path!r} leads to {real!r}, outside of the storage at {inside!r}, through a symbolic link. "
            "Use another path, or a link that stays inside the storage.",
            path=path,
        )


def _normalized(client: Any, full: str, root: str, path: str) -> str:
    """Return a path after its links are resolved. The server does not tell why it cannot resolve a path."""
    try:
        return str(client.normalize(full))
    except OSError as error:
        if error.errno is not None:
            raise
        client.normalize(root or ".")  # raises an error if the connection is lost
        is_long = len(full) > _LONGEST_PATH or max(map(len, full.split("/"))) > _LONGEST_NAME
        number = errno.ENAMETOOLONG if is_long else errno.ELOOP
        raise OSError(number, os.strerror(number), path) from error


def type_of(fs: AbstractFileSystem, full: str) -> str:
    """Return `directory` or `file`. A symbolic link is a `file`, even if its target is a folder."""
    if (client := _client(fs)) is not None:
        return "directory" if stat.S_ISDIR(client.lstat(full).st_mode or 0) else "file"
    return str(fs.info(full)["type"])


def delete(fs: AbstractFileSystem, full: str) -> None:
    """Delete a file, or a symbolic link and not its target."""
    if (client := _client(fs)) is not None:
        client.remove(full)
    else:
        fs.rm_file(full)


def write(fs: AbstractFileSystem, full: str, content: bytes) -> None:
    """Write a file. The client of SFTP sends the next block without waiting for the answer to the last one."""
    if (client := _client(fs)) is not None:
        client.putfo(io.BytesIO(content), full)
    else:
        fs.pipe_file(full, content)


def read_options(fs: AbstractFileSystem) -> dict[str, Any]:
    """Return the arguments of `fs.open` with which a file is read in large blocks."""
    return {} if _client(fs) is None else {"block_size": _BLOCK}


def decoded_stat(decode: Callable[..., dict[str, Any]], attributes: Any, folder: str | None = None) -> dict[str, Any]:
    """Return fsspec's information of a file, also if the server does not tell its kind or its time."""
    try:
        return decode(attributes, folder)
    except (TypeError, ValueError, OverflowError, OSError):
        mode, line = attributes.st_mode, str(getattr(attributes, "longname", ""))
        is_folder = line.startswith("d") if mode is None else stat.S_ISDIR(mode)
        name = f"{folder.rstrip('/')}/{attributes.filename}" if folder else ""
        return {"name": name, "type": "directory" if is_folder else "file", "size": attributes.st_size, "mtime": None}


def _client(fs: AbstractFileSystem) -> Any:
    client = getattr(fs, "ftp", None)
    return client if hasattr(client, "normalize") else None
