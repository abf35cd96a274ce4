"""Open files of a server, with the positions of a file of this machine."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

from openfactory.storage.remote.forks import OpenedByProcess, keep_forever, opened_by_parent

__all__ = ["RemoteFile", "Sink", "Upload", "UploadOnClose"]

# Bytes of a new file that can be written in any order, before they are sent.
_HELD = 16 * 1024 * 1024


class RemoteFile(io.RawIOBase, OpenedByProcess):
    """An open binary file of fsspec. Its methods raise the errors of this distribution, and not those of fsspec.

    Args:
        file: the open file of fsspec.
        using: context for each use of the file, see `StorageSession.using`.
        path: path of the file in error messages.
    """

    def __init__(self, file: Any, using: Callable[[], AbstractContextManager[object]], path: str) -> None:
        OpenedByProcess.__init__(self)
        self._file = file
        self._using = using
        self._is_of_parent = False
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

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        content = self._read(len(view))
        view[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self._read(-1)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check(self.seekable(), "seeking")
        if whence == os.SEEK_END:
            before = self.tell()
            self._call(self._file.seek, 0, os.SEEK_END)
            start = self.tell()
            self._call(self._file.seek, before)
        else:
            start = self.tell() if whence == os.SEEK_CUR else 0
        position = checked_position(start + offset, whence, self.name)
        self._call(self._file.seek, position)
        return position

    def tell(self) -> int:
        return int(self._call(self._file.tell))

    def write(self, data: Any, /) -> int:
        content = data if isinstance(data, bytes) else bytes(memoryview(data))
        self._check(self.writable(), "writing")
        self._call(self._file.write, content)
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        self._check(self.writable(), "writing")
        length = self.tell() if size is None else size
        self._call(self._file.truncate, length)
        return length

    def flush(self) -> None:
        if not self._closed and self.writable() and not self._is_of_parent:
            self._call(self._file.flush)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._is_of_parent:
            return
        with self._using():
            try:
                self._file.close()
            finally:
                with suppress(AttributeError):
                    self._file.closed = True  # otherwise its destructor would try to close it again

    def leave_to_parent(self) -> None:
        self._is_of_parent = True
        keep_forever(self._file)

    def _read(self, size: int) -> bytes:
        self._check(self.readable(), "reading")
        return bytes(self._call(self._file.read, size))

    def _check(self, supported: bool, operation: str) -> None:
        if not (self._closed or supported):
            raise io.UnsupportedOperation(f"{self.name!r} is not open for {operation}. Open it in another mode.")

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        if self._closed:
            raise ValueError(f"{self.name!r} is closed. Open it again.")
        if self._is_of_parent:
            raise opened_by_parent(self.name)
        with self._using():
            return method(*arguments)


class Sink(Protocol):
    """A file that is written from its beginning to its end."""

    name: str

    def write(self, data: Any, /) -> int: ...
    def close(self) -> None: ...


class Upload(io.RawIOBase, OpenedByProcess):
    """A file that is sent to a server from its beginning to its end, with the positions of a file of this machine.

    The content of a new file is held in memory until a write ends at its end, beyond 16 MiB, so each part of it can be
    written again. After that, and if the file is opened for appending, the content is sent as it is written. As on this
    machine, a file that is open for appending is written at its end, at whatever position it is.

    Args:
        sink: the file of the server.
        before: size of the file if it is open for appending; None for a new file.
    """

    def __init__(self, sink: Sink, before: int | None) -> None:
        OpenedByProcess.__init__(self)
        self.name = sink.name
        self._sink = sink
        self._is_of_parent = False
        self._held = io.BytesIO() if before is None else None
        self._appends = before is not None
        self._end = self._position = before or 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_CUR: self._position, os.SEEK_END: self._end}.get(whence, 0)
        position = checked_position(start + offset, whence, self.name)
        if self._held is None and not self._appends and position != self._end:
            raise self._is_sent()
        self._position = position
        return position

    def write(self, data: Any, /) -> int:
        if self._is_of_parent:
            raise opened_by_parent(self.name)
        content = memoryview(data).cast("B")
        if self._held is None:
            self._sink.write(content)
            self._position = self._end = self._end + len(content)
            return len(content)
        self._held.seek(self._position)
        self._position += self._held.write(content)
        self._end = max(self._end, self._position)
        if self._end > _HELD and self._position == self._end:  # what follows is written at the end
            self._send()
        return len(content)

    def truncate(self, size: int | None = None, /) -> int:
        size = self._position if size is None else size
        if self._held is None:
            raise self._is_sent()
        self._held.truncate(size)
        self._held.seek(0, os.SEEK_END)
        self._held.write(bytes(size - self._held.tell()))
        self._end = size
        return size

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._is_of_parent:
            return
        try:
            self._send()
        finally:
            self._sink.close()

    def leave_to_parent(self) -> None:
        self._is_of_parent = True

    def _send(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            if content := held.getvalue():
                self._sink.write(content)

    def _is_sent(self) -> io.UnsupportedOperation:
        return io.UnsupportedOperation(
            f"The content of {self.name!r} is on its way to the server, and cannot be changed there. Write the file "
            "from its beginning to its end, or write it on this machine and use put."
        )


class UploadOnClose(io.BytesIO, OpenedByProcess):
    """A file in memory that passes its content to `store` when it is closed."""

    def __init__(self, store: Callable[[bytes], None], path: str) -> None:
        OpenedByProcess.__init__(self)
        self._store = store
        self.name = path

    def close(self) -> None:
        if not self.closed:
            content = self.getvalue()
            super().close()
            self._store(content)

    def leave_to_parent(self) -> None:
        self._store = lambda _: None


def checked_position(position: int, whence: int, path: str) -> int:
    """Return a position in a file.

    Raises:
        ValueError: `whence` is none of the values of the module `os`.
        OSError: the position is before the beginning of the file.
    """
    if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
        raise ValueError(f"{whence!r} is not a value of whence. Use os.SEEK_SET, os.SEEK_CUR or os.SEEK_END.")
    if position < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    return position
