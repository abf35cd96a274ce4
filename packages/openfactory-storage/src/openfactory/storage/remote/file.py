"""Open files of a server, and open files in memory."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

__all__ = ["RemoteFile", "memory_reader", "memory_writer"]


class RemoteFile(io.BufferedIOBase):
    """An open binary file of fsspec. Its methods raise the errors of this distribution, and not those of fsspec.

    Args:
        file: the open file of fsspec.
        using: context for each use of the file, see `StorageSession.using`.
        path: path of the file in error messages.
    """

    def __init__(self, file: Any, using: Callable[[], AbstractContextManager[object]], path: str) -> None:
        self._file = file
        self._using = using
        self._closed = False
        self.name = path

    @property
    def closed(self) -> bool:
        return self._closed

    def readable(self) -> bool:
        return bool(self._file.readable())

    def writable(self) -> bool:
        return bool(self._file.writable())

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def read(self, size: int | None = -1, /) -> bytes:
        self._check(self.readable(), "reading")
        return bytes(self._call(self._file.read, -1 if size is None else size))

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)

    def readline(self, size: int | None = -1, /) -> bytes:
        if size is not None and size >= 0:
            return super().readline(size)
        self._check(self.readable(), "reading")
        return bytes(self._call(self._file.readline))

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check(self.seekable(), "seeking")
        if whence == os.SEEK_SET and offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), self.name)
        self._call(self._file.seek, offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._call(self._file.tell))

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        content = data if isinstance(data, bytes) else bytes(memoryview(data))
        self._check(self.writable(), "writing")
        self._call(self._file.write, content)
        return len(content)

    def flush(self) -> None:
        if not self._closed and self.writable():
            self._call(self._file.flush)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._using():
            try:
                self._file.close()
            finally:
                with suppress(AttributeError):
                    self._file.closed = True  # otherwise its destructor would try to close it again

    def _check(self, supported: bool, operation: str) -> None:
        if not (self._closed or supported):
            raise io.UnsupportedOperation(f"{self.name!r} is not open for {operation}. Open it in another mode.")

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        if self._closed:
            raise ValueError(f"{self.name!r} is closed. Open it again.")
        with self._using():
            return method(*arguments)


def memory_reader(content: bytes) -> io.BufferedReader:
    """Return an open file in memory. fsspec's own file shares its position between all readers."""
    return io.BufferedReader(io.BytesIO(content))


def memory_writer(store: Callable[[bytes], None]) -> io.BufferedWriter:
    """Return an open file in memory that passes its content to `store` when it is closed."""
    return io.BufferedWriter(_StoredOnClose(store))


class _StoredOnClose(io.BytesIO):
    def __init__(self, store: Callable[[bytes], None]) -> None:
        super().__init__()
        self._store = store

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._store(content)
