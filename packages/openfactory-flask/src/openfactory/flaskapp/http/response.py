"""The response to a request: its head, and its body with a length, in chunks, or until the connection ends."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from types import TracebackType
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from openfactory.flaskapp.http.connection import Connection
    from openfactory.flaskapp.http.request_body import RequestBody
    from openfactory.flaskapp.http.request_head import RequestHead

__all__ = ["FileWrapper", "Response", "error_response"]

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

# A part of this size is sent without a copy that joins it with the head.
_LARGE_BYTES = 65_536

_STATUS = re.compile(r"[1-9][0-9]{2}( [^\x00-\x08\x0a-\x1f\x7f]*)?")
_LINE_BREAK = re.compile(r"[\r\n\x00]")

_date: tuple[int, str] = (0, "")


class FileWrapper:
    """A file as the body of a response (`wsgi.file_wrapper`), which the system sends by itself if it can."""

    def __init__(self, file: IO[bytes], block_size: int = _LARGE_BYTES) -> None:
        self.file = file
        self._block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data = self.file.read(self._block_size)
        if not data:
            raise StopIteration
        return data


class Response:
    """The response to a request, which a WSGI application starts and writes.

    Args:
        connection: connection of the request.
        head: head of the request.
        body: body of the request.
        may_keep_alive: whether the connection may stay open after the response.

    Attributes:
        begun: whether a part of the response is sent.
        keep_alive: whether the client may send another request on the connection.
        error: what is wrong with the length of the body, empty if it is right.
    """

    def __init__(
        self,
        connection: Connection,
        head: RequestHead,
        body: RequestBody,
        *,
        may_keep_alive: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._request = head
        self._request_body = body
        self._may_keep_alive = may_keep_alive
        self._status = ""
        self._headers: list[tuple[str, str]] = []
        self._rest: int | None = None  # of the body, if it has a length
        self._chunked = False
        self._has_body = True
        self.begun = False
        self.keep_alive = False
        self.error = ""

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExceptionInfo | None = None, /
    ) -> Callable[[bytes], object]:
        """Set the status and the headers: `start_response` of PEP 3333."""
        if exc_info is not None and self.begun and exc_info[1] is not None:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._status and exc_info is None:
            raise RuntimeError("start_response was called twice. Call it once, or pass exc_info.")
        if not _STATUS.fullmatch(status):
            raise ValueError(f"The status {status!r} is not valid. Pass a number and a phrase, such as '200 OK'.")
        for name, value in headers:
            if _LINE_BREAK.search(value) or _LINE_BREAK.search(name):
                raise ValueError(f"The header {name!r} has a line break: {value!r}. Remove it.")
        self._status, self._headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body, with the head before the first part."""
        if self._connection.taken:
            return
        head = b"" if self.begun else self._begin(None)
        size = len(data)
        if not self._has_body:
            size, data = 0, b""
        elif self._rest is not None:
            if size > self._rest:
                self.error = "is longer than its Content-Length"
                size, data = self._rest, data[: self._rest]
            self._rest -= size
        elif self._chunked and size:
            head, data = b"%s%x\r\n" % (head, size), b"%s\r\n" % data
        if head and size < _LARGE_BYTES:
            head, data = b"", head + data
        if head:
            self._connection.send(head)
        if data:
            self._connection.send(data)

    def write_all(self, parts: Iterable[bytes]) -> None:
        """Send the body that an application has returned, to its end."""
        if isinstance(parts, FileWrapper) and self._send_file(parts):
            return
        if isinstance(parts, list | tuple) and len(parts) == 1 and not self.begun:
            self._send_whole(parts[0])
            return
        for part in parts:
            if part:
                self.write(part)
                if self.error or self._connection.taken or not self._has_body:
                    break  # the others, which may have no end, would not be sent
        self.finish()

    def finish(self) -> None:
        """Send the head if nothing is sent yet, and the end of the body."""
        if not self.begun:
            self.write(b"")
        if self._connection.taken:
            return
        if self._chunked:
            self._connection.send(b"0\r\n\r\n")
        elif self._rest:
            self.error = "is shorter than its Content-Length"

    # Internals

    def _send_whole(self, body: bytes) -> None:
        if not self._connection.taken:
            head = self._begin(len(body))
            if self._rest == len(body) < _LARGE_BYTES and self._has_body:
                self._rest = 0
                self._connection.send(head + body)
                return
            self._connection.send(head)
            self.write(body)
        self.finish()

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a file by the system, and return whether that is possible."""
        file = wrapper.file
        if self.begun or self._connection.taken or not isinstance(getattr(file, "raw", file), io.FileIO):
            return False  # the descriptor of a compressed file, for example, has other content
        try:
            file.tell()
        except OSError:  # a pipe
            return False
        head = self._begin(None)
        self._connection.send(head)
        if self._rest is None or not self._has_body:
            return False
        self._rest -= self._connection.send_file(file, self._rest) if self._rest else 0
        self.finish()
        return True

    def _begin(self, size: int | None) -> bytes:
        """Return the head of the response, and decide where its body ends.

        Args:
            size: length of the whole body, if it is known.
        """
        if not self._status:
            raise RuntimeError("The application has sent a body without start_response. Call start_response first.")
        code = int(self._status[:3])
        self._has_body = not (self._request.method == "HEAD" or code in (204, 304) or code < 200)
        lines = [f"{self._request.version} {self._status}\r\n"]
        length: int | None = None
        closes = has_date = False
        for name, value in self._headers:
            match name.lower():
                case "content-length":
                    length = int(value)
                    if code == 204 or code < 200:
                        continue
                case "connection":
                    closes = closes or "close" in value.lower()
                    continue
                case "transfer-encoding" | "keep-alive":
                    continue  # between this server and the client
                case "date":
                    has_date = True
            lines.append(f"{name}: {value}\r\n")
        if length is None and size is not None and self._has_body:
            length = size
            lines.append(f"Content-Length: {size}\r\n")
        if not has_date:
            lines.append(_date_line())
        if self._has_body:
            self._rest = length
            if length is None and self._request.version == "HTTP/1.1":
                self._chunked = True
                lines.append("Transfer-Encoding: chunked\r\n")
        has_end = self._chunked or length is not None or not self._has_body
        self.keep_alive = has_end and not closes and self._request.keep_alive and self._may_keep_alive()
        if self.keep_alive:
            self.keep_alive = self._request_body.has_arrived()  # the route may still read it
        if not self.keep_alive:
            lines.append("Connection: close\r\n")
        elif self._request.version == "HTTP/1.0":
            lines.append("Connection: keep-alive\r\n")
        lines.append("\r\n")
        encoded = "".join(lines).encode("latin-1")
        self.begun = True
        return encoded


def error_response(status: HTTPStatus, sentence: str, retry_after: int | None = None) -> bytes:
    """Return the whole response of a server that answers by itself, after which the connection is closed."""
    body = f"{sentence}\n".encode()
    retry = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n{_date_line()}{retry}Connection: close\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


def _date_line() -> str:
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = now, f"Date: {formatdate(now, usegmt=True)}\r\n"
    return _date[1]
