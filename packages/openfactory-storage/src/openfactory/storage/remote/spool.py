"""The new content of a file, whole before it is sent: in memory, and in a temporary file if it is large."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from openfactory.storage.errors import StorageError

__all__ = ["spooled"]

# A larger content needs a temporary file.
_IN_MEMORY = 16 * 1024 * 1024


@contextmanager
def spooled(chunks: Iterable[bytes], storage: str) -> Iterator[Path | bytes]:
    """Read the content of a file, and yield it as bytes, or as the path of a temporary file if it is large.

    A content that is one chunk is in memory already, so it stays there.

    Args:
        chunks: the content.
        storage: name of the storage in error messages.

    Raises:
        StorageError: the content is large, and this machine has no room for a temporary file.
    """
    unread = iter(chunks)
    first = next(unread, b"")
    held = [first]
    size = len(first)
    for chunk in unread:
        held.append(chunk)
        size += len(chunk)
        if size > _IN_MEMORY:
            break
    else:
        yield first if len(held) == 1 and isinstance(first, bytes) else b"".join(held)
        return
    with _temporary_file(storage) as file:
        for chunk in chain(held, unread):
            _write(file, chunk, storage)
        yield Path(file.name)


def _temporary_file(storage: str) -> IO[bytes]:
    try:
        return tempfile.NamedTemporaryFile(prefix="ofa-", buffering=0)
    except OSError as error:
        raise _no_room(storage, error) from error


def _write(file: IO[bytes], chunk: bytes, storage: str) -> None:
    rest = memoryview(chunk).cast("B")
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _no_room(storage, error) from error


def _no_room(storage: str, error: OSError) -> StorageError:
    return StorageError(
        f"{storage} needs a temporary file of this machine for a content of more than 16 MiB: {error.strerror}. "
        "Set TMPDIR to a folder that this process may write, with room for the content."
    )
