"""Handle a connection: limit the time of its request, and deliver the response even if the client still sends."""

from __future__ import annotations

import io
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler

from openfactory.flaskapp.http.connections import Connections

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

__all__ = ["RequestHandler"]

# After the response, data that the client still sends is read for this long in all, and between two parts, in seconds.
_DRAIN_SECONDS = 60.0
_PAUSE_SECONDS = 5.0

_BUFFER_BYTES = 65_536

_LAST_CHUNK = b"0\r\n\r\n"


class RequestHandler(WSGIRequestHandler):
    """Handler of the single request of a connection, which logs by its server's `log`.

    Args:
        connection: the connection.
        client_address: address of the client.
        server: the server that has accepted the connection.
        connections: records when the request begins and ends.
        silence_timeout: seconds after which a client that neither sends nor reads is disconnected.
        log_requests: whether the request is logged.
    """

    disable_nagle_algorithm = True
    default_request_version = "HTTP/1.1"  # so that each error response has a status line

    # Values for an error response before a request has arrived
    command = requestline = ""
    request_version = default_request_version

    def __init__(
        self,
        connection: socket.socket,
        client_address: Any,
        server: BaseWSGIServer,
        *,
        connections: Connections,
        silence_timeout: float,
        log_requests: bool,
    ) -> None:
        self._connections = connections
        self._silence_timeout = silence_timeout
        self._log_requests = log_requests
        super().__init__(connection, client_address, server)  # which handles the request

    def setup(self) -> None:
        self.request.settimeout(self._silence_timeout)
        super().setup()
        self.wfile = _ResponseWriter(self.connection)
        self._socket_reader = _SocketReader(cast("io.BufferedReader", self.rfile).detach(), self._silence_timeout)
        self._stream = self.rfile = _RequestReader(self._socket_reader)
        self._may_have_unread_data = False

    def handle(self) -> None:
        try:
            first = self._stream.peek(1)[:1]
            if first in b"\r\n" or b" " <= first <= b"~":
                self.handle_one_request()
            else:
                self.send_error(HTTPStatus.BAD_REQUEST, "Not HTTP", "This port serves HTTP. Use http://, not https://.")
        except OSError as error:
            self.connection_dropped(error)

    # The request

    def parse_request(self) -> bool:
        """Read the request line and the headers. If they are invalid or incomplete, send an error response."""
        if 0 < len(self.raw_requestline.split()) < 3:  # a request of HTTP/0.9, or a part of a line
            self.send_error(HTTPStatus.BAD_REQUEST, "Bad request line", "Send a method, a path and HTTP/1.1.")
            return False
        lines = _LineReader(self._stream)
        self.rfile = lines  # type: ignore[assignment]
        try:
            if not super().parse_request():
                return False
        finally:
            self.rfile = self._stream
        try:
            urlsplit(self.path)
        except ValueError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, "Bad path", str(error))
            return False
        if lines.last not in (b"\r\n", b"\n"):
            self.send_error(HTTPStatus.BAD_REQUEST, "Incomplete head")
            return False
        if any("\n" in value or "\r" in value for value in self.headers.values()):
            self.send_error(HTTPStatus.BAD_REQUEST, "Folded header", "Send each header in one line.")
            return False
        if self.request_version == "HTTP/1.0":
            self.protocol_version = "HTTP/1.0"  # which has no chunks, so werkzeug does not send any
        return True

    def handle_expect_100(self) -> bool:
        return True  # werkzeug sends the "100 Continue"

    def run_wsgi(self) -> None:
        self._connections.request_begins(self.connection)
        super().run_wsgi()

    def make_environ(self) -> WSGIEnvironment:
        self._socket_reader.deadline = None  # only for the headers: a body may take longer while the client sends
        self.wfile.flush()  # "100 Continue", for which the client waits
        environ = super().make_environ()
        self._may_have_unread_data = environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ
        # After the response, werkzeug would read the rest of the body, which may never arrive. It finds the end in this
        # empty stream instead, and `finish` reads the rest within a bounded time.
        self.rfile = io.BytesIO()
        return environ

    # The response

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._may_have_unread_data = True
        super().send_error(code, message, explain)

    def finish(self) -> None:
        super().finish()
        self._stream.close()
        self._connections.request_ends(self.connection)
        if self._may_have_unread_data:
            self._drain()

    def _drain(self) -> None:
        """Read the rest of the request: closing the connection earlier could reset it and lose the response."""
        end = time.monotonic() + _DRAIN_SECONDS
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(min(_PAUSE_SECONDS, self._silence_timeout))
            while time.monotonic() < end and self.connection.recv(_BUFFER_BYTES):
                pass

    # The log

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        if environ is None or isinstance(error, _ConnectionLost):
            self.log("debug", "connection lost: %s", error)
        else:  # an error of the route, which is not about this connection
            self.server.handle_error(self.connection, self.client_address)

    def address_string(self) -> str:
        """Return the client's address, with escapes: behind ProxyFix, it comes from a header."""
        return super().address_string().encode("unicode_escape").decode("ascii")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self._log_requests and "environ" in vars(self):
            # Escaped, as the request line comes from the client.
            request = self.requestline.encode("unicode_escape").decode("ascii")
            self.server.log("info", '%s "%s" %s %s', self.address_string(), request, code, size)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ARG002 - a bad request is not an error of the app
        self.server.log("debug", "%s %s", self.address_string(), message % args if args else message)


class _ConnectionLost(ConnectionError):
    """The client has disconnected, or does not read or send any more."""


class _LineReader:
    """Reader of the lines of a stream, which keeps the last line."""

    last = b""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def readline(self, limit: int) -> bytes:
        self.last = self._stream.readline(limit)
        return self.last


class _SocketReader(io.RawIOBase):
    """Reader of a client's data, with a deadline for headers that arrive slowly but without a long pause."""

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        self._raw = raw
        self.deadline: float | None = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError("the request did not arrive in time")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _RequestReader(io.BufferedReader):
    """Reader of a request, which raises an error if the client disconnects before the end of the body."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise _ConnectionLost("the client disconnected in the middle of its request")
        return data


class _ResponseWriter(io.BufferedIOBase):
    """Writer of a response, which sends its headers and the start of the body in one packet.

    The timeout applies to each part that is sent, so a client may read slowly.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        if size >= _BUFFER_BYTES:
            self.flush()
            self._send(data)
        else:
            self._buffer += data
            if len(self._buffer) >= _BUFFER_BYTES or data == _LAST_CHUNK:  # werkzeug flushes after the other chunks
                self.flush()
        return size

    def flush(self) -> None:
        if self._buffer:
            data, self._buffer = self._buffer, bytearray()
            self._send(data)

    def _send(self, data: Any) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._connection.send(rest) :]  # the timeout is for each part; `sendall` has one for all
        except OSError as error:
            raise _ConnectionLost(str(error)) from error
