"""The body of a request, as a route reads it, and the memory that all bodies may use."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import Any

from werkzeug.exceptions import BadRequest, ClientDisconnected, ServiceUnavailable

from openfactory.flaskapp.http.connection import Connection, ConnectionLost
from openfactory.flaskapp.http.request_head import TOKEN, RequestHead

__all__ = ["BodyMemory", "RequestBody"]

# A part of a body up to this size is read without a file, and not counted.
_SMALL_BYTES = 65_536

# How long a route waits for the memory of others, in seconds.
_WAIT_SECONDS = 30.0

_MAX_LINE_BYTES = 8_192
_MAX_TRAILER_BYTES = 65_536

# A size in hexadecimal digits, and extensions, which are ignored
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?\r\n")
_TRAILER = re.compile(TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*\r\n")


class BodyMemory:
    """The memory for large parts of bodies that routes have read, which has a limit in all.

    Args:
        size: number of bytes. One larger part is allowed if there is no other.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = threading.Condition()

    def reserve(self, size: int, own: int) -> None:
        """Wait until there is memory, and reserve it.

        Args:
            size: number of bytes.
            own: number of bytes that the same request has reserved before.

        Raises:
            ServiceUnavailable: other requests use the memory.
        """
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._used + size <= self._size or self._used == own, timeout=_WAIT_SECONDS
            ):
                raise ServiceUnavailable(
                    "Too many large requests run at the same time. Send the request again later.", retry_after=5
                )
            self._used += size

    def release(self, size: int) -> None:
        """Release reserved memory."""
        with self._changed:
            self._used -= size
            self._changed.notify_all()


class RequestBody(io.BufferedIOBase):
    """The body of a request, which ends by itself: `wsgi.input_terminated`.

    A route that reads in small parts gets them as they arrive. A large part arrives in a file first, and gets memory
    when it is complete: clients that send slowly use none.

    Args:
        connection: connection of the request.
        head: head of the request.
        memory: the memory of all bodies.

    Attributes:
        complete: whether the last byte is read.
    """

    def __init__(self, connection: Connection, head: RequestHead, memory: BodyMemory) -> None:
        self._connection = connection
        self._memory = memory
        self._reserved = 0
        self._chunked = head.content_length is None
        self._rest = head.content_length or 0  # of the body, or of the chunk
        self._must_ask = head.expects_continue
        self._error: BadRequest | None = None
        self.complete = head.content_length == 0

    def has_arrived(self) -> bool:
        """Return whether the rest of the body is here, without waiting for it."""
        return self.complete or (not (self._chunked or self._must_ask) and self._connection.has_received(self._rest))

    def skip(self) -> bool:
        """Skip the rest of the body if it has arrived, and return whether it is complete."""
        if not self.complete and self.has_arrived():
            self._connection.skip(self._rest)
            self.complete = True
        return self.complete

    def readable(self) -> bool:
        return True

    def read1(self, size: int | None = -1, /) -> bytes:
        """Read the bytes that arrive first."""
        return b"" if size == 0 else self._next(min(_SMALL_BYTES, _limit(size)))

    def readinto(self, buffer: Any, /) -> int:
        filled = 0
        for data in self._parts(len(buffer)):
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        return filled

    def peek(self, size: int = 0, /) -> bytes:  # noqa: ARG002 - as a buffered reader has it
        """Return bytes that come next, which `readline` looks for the end of the line in."""
        if self._chunked or not self._rest or not self._connection.unread:
            return b""
        return bytes(self._connection.unread[: self._rest])

    def read(self, size: int | None = -1, /) -> bytes:
        limit = _limit(size)
        if limit <= _SMALL_BYTES or (not self._chunked and self._rest <= _SMALL_BYTES):
            return b"".join(self._parts(limit))
        return self._read_large(limit)

    def close(self) -> None:
        """Release the memory, at the end of the request."""
        if self._reserved:
            self._memory.release(self._reserved)
            self._reserved = 0
        super().close()

    # Internals

    def _parts(self, limit: int) -> Iterator[bytes]:
        while limit and (data := self._next(min(limit, _SMALL_BYTES))):
            limit -= len(data)
            yield data

    def _read_large(self, limit: int) -> bytes:
        with SpooledTemporaryFile(_SMALL_BYTES) as file:
            try:
                for data in self._parts(limit):
                    file.write(data)
                size = file.tell()
                file.seek(0)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"A body of more than {_SMALL_BYTES} bytes cannot be kept in a temporary file: {error}. "
                    "Set TMPDIR to a folder that the app can write, with enough space.",
                ) from error
            if size > _SMALL_BYTES:
                self._memory.reserve(size, self._reserved)
                self._reserved += size
            return file.read()

    def _next(self, most: int) -> bytes:
        """Return bytes of the body, or no bytes at its end."""
        if self._error is not None:
            raise self._error
        if self.complete:
            return b""
        try:
            if self._must_ask:
                self._must_ask = False
                if not self._connection.unread:
                    self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self._chunked and not self._rest and not self._begin_chunk():
                self.complete = True
                return b""
            data = self._connection.read(min(most, self._rest))
            self._rest -= len(data)
            if not self._rest:
                if self._chunked:
                    self._end_chunk()
                else:
                    self.complete = True
        except ConnectionLost as error:
            self._error = ClientDisconnected()
            raise self._error from error
        return data

    def _begin_chunk(self) -> int:
        """Read the size of the next chunk, and the trailer after the last chunk."""
        line = _CHUNK_LINE.fullmatch(self._connection.read_line(_MAX_LINE_BYTES))
        if line is None:
            raise self._invalid("The size of a chunk is not valid")
        self._rest = int(line[1], 16)
        left = _MAX_TRAILER_BYTES
        while not self._rest and (trailer := self._connection.read_line(_MAX_LINE_BYTES)) != b"\r\n":
            left -= len(trailer)
            if left < 0 or not _TRAILER.fullmatch(trailer):
                raise self._invalid("The trailer is not valid")
        return self._rest

    def _end_chunk(self) -> None:
        if self._connection.read_line(2) != b"\r\n":
            raise self._invalid("A chunk is longer than its size")

    def _invalid(self, sentence: str) -> BadRequest:
        self._error = BadRequest(f"{sentence}. Send the body as RFC 9112 says.")
        return self._error


def _limit(size: int | None) -> int:
    return sys.maxsize if size is None or size < 0 else size
