"""Files that are open on a server."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fsspec import AbstractFileSystem

from openfactory.storage.session import StorageSession

__all__ = ["RemoteFile", "to_read", "to_write"]


class RemoteFile(io.BufferedIOBase):
    """A file of fsspec whose failures are errors of this distribution, also those in the midst of it.

    Args:
        file: the file of fsspec, binary.
        connection: the way to the server.
        fs: the filesystem that opened it.
        path: what errors name.
    """

    def __init__(self, file: Any, connection: StorageSession, fs: AbstractFileSystem, path: str) -> None:
        self._file = file
        self._connection = connection
        self._fs = fs
        self._over = False
        self.name = path

    @property
    def closed(self) -> bool:
        return self._over

    def readable(self) -> bool:
        return bool(self._file.readable())

    def writable(self) -> bool:
        return bool(self._file.writable())

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def read(self, size: int | None = -1, /) -> bytes:
        self._check(self.readable(), "reading")
        return bytes(self._ask(self._file.read, -1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)

    def readline(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        self._check(self.readable(), "reading")
        return bytes(self._ask(self._file.readline))

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check(self.seekable(), "seeking")
        if whence == os.SEEK_SET and offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._ask(self._file.seek, offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._ask(self._file.tell))

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        content = data if isinstance(data, bytes) else bytes(memoryview(data))
        self._check(self.writable(), "writing")
        self._ask(self._file.write, content)
        return len(content)

    def flush(self) -> None:
        if not self._over and self.writable():
            self._ask(self._file.flush)

    def close(self) -> None:
        if self._over:
            return
        self._over = True
        with self._connection.asking(self.name, self._fs):
            try:
                self._file.close()
            finally:
                with suppress(AttributeError):
                    self._file.closed = True  # else it would try again when it is thrown away

    def _check(self, can: bool, what: str) -> None:
        """Say what the caller got wrong, of which the server knows nothing."""
        if not (self._over or can):
            raise io.UnsupportedOperation(f"{self.name!r} is not open for {what}. Open it in another mode.")

    def _ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        if self._over:
            raise ValueError(f"{self.name!r} is closed. Open it again.")
        with self._connection.asking(self.name, self._fs):
            return method(*arguments)


def to_read(content: bytes) -> io.BufferedReader:
    """A file in memory; fsspec's own has one position for all who open it."""
    return io.BufferedReader(io.BytesIO(content))


def to_write(keep: Callable[[bytes], None]) -> io.BufferedWriter:
    """A file in memory that is kept when it is closed."""
    return io.BufferedWriter(_Kept(keep))


class _Kept(io.BytesIO):
    def __init__(self, keep: Callable[[bytes], None]) -> None:
        super().__init__()
        self._keep = keep

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._keep(content)
