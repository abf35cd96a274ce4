"""One connection: its request is read with patience but not for ever, and its answer reaches who still sends."""

from __future__ import annotations

import io
import socket
import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from werkzeug.serving import WSGIRequestHandler

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

    from openfactory.flaskapp.server import HttpServer

__all__ = ["RequestHandler"]

# Who still sends when the answer is out gets so long in all, and may pause for so long, in seconds.
_LINGER_SECONDS = 60.0
_PAUSE_SECONDS = 5.0

_PIECE = 65_536

_LAST_CHUNK = b"0\r\n\r\n"


class RequestHandler(WSGIRequestHandler):
    """A connection with its one request; what it has to say goes to the app's logger."""

    server: HttpServer
    disable_nagle_algorithm = True
    default_request_version = "HTTP/1.1"  # so that a refusal has a status line, whatever has come

    # What a refusal finds where no request has come
    command = requestline = ""
    request_version = default_request_version

    def setup(self) -> None:
        self.request.settimeout(self.server.silence_timeout)
        super().setup()
        self.wfile = _Answer(self.connection)
        self._arriving = _Arriving(cast("io.BufferedReader", self.rfile).detach(), self.server.silence_timeout)
        self._stream = self.rfile = _Incoming(self._arriving)
        self._may_send_on = False

    def handle(self) -> None:
        try:
            first = self._stream.peek(1)[:1]
            if first in b"\r\n" or b" " <= first <= b"~":
                self.handle_one_request()
            else:
                self.send_error(HTTPStatus.BAD_REQUEST, "Not HTTP", "This port speaks HTTP: use http://, not https://.")
        except OSError as error:
            self.connection_dropped(error)

    # The request

    def parse_request(self) -> bool:
        """Read the head; what is none, or only a part of one, is answered here and reaches no route."""
        if 0 < len(self.raw_requestline.split()) < 3:  # as of HTTP/0.9, or a part of a line
            self.send_error(HTTPStatus.BAD_REQUEST, "Bad request line", "It is METHOD, PATH and HTTP/1.1.")
            return False
        lines = _Lines(self._stream)
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
            self.send_error(HTTPStatus.BAD_REQUEST, "Folded header", "A header is one line.")
            return False
        if self.request_version == "HTTP/1.0":
            self.protocol_version = "HTTP/1.0"  # it knows no chunks: werkzeug sends none then
        return True

    def handle_expect_100(self) -> bool:
        return True  # werkzeug sends the "100 Continue"

    def run_wsgi(self) -> None:
        self.server.request_begins(self.connection)
        super().run_wsgi()

    def make_environ(self) -> WSGIEnvironment:
        self._arriving.until = None  # the head is here; a body may take its time
        self.wfile.flush()  # "100 Continue", for which the client waits
        environ = super().make_environ()
        self._may_send_on = environ.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in environ
        # werkzeug reads on after the answer until it has all of the body, which may never come: here it finds the end,
        # and `finish` reads on, with a bound.
        self.rfile = io.BytesIO()
        return environ

    # The end

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._may_send_on = True
        super().send_error(code, message, explain)

    def finish(self) -> None:
        super().finish()
        self._stream.close()
        self.server.request_ends(self.connection)
        if self._may_send_on:
            self._linger()

    def _linger(self) -> None:
        """Take what still comes: a connection that is closed over unread bytes is reset, and its answer may be lost."""
        end = time.monotonic() + _LINGER_SECONDS
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(min(_PAUSE_SECONDS, self.server.silence_timeout))
            while time.monotonic() < end and self.connection.recv(_PIECE):
                pass

    # What is said of it

    def connection_dropped(self, error: BaseException, environ: WSGIEnvironment | None = None) -> None:
        if environ is None or isinstance(error, _PeerGone):
            self.log("debug", "has left: %s", error)
        else:  # an error of a route's own that only looks like one of this connection
            self.server.handle_error(self.connection, self.client_address)

    def address_string(self) -> str:
        """Who asks, as one line: behind ProxyFix it is what a header says."""
        return super().address_string().encode("unicode_escape").decode("ascii")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self.server.log_requests and "environ" in vars(self):
            # Escaped: a request line holds what a stranger has sent.
            request = self.requestline.encode("unicode_escape").decode("ascii")
            self.server.log("info", '%s "%s" %s %s', self.address_string(), request, code, size)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ARG002 - a bad request is no error of the app
        self.server.log("debug", "%s %s", self.address_string(), message % args if args else message)


class _PeerGone(ConnectionError):
    """The other side has left, or takes nothing any more."""


class _Lines:
    """The lines of a head, and which was the last."""

    last = b""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def readline(self, limit: int) -> bytes:
        self.last = self._stream.readline(limit)
        return self.last


class _Arriving(io.RawIOBase):
    """What the client sends; a head that trickles in, and is never silent for long, has to end in time too."""

    def __init__(self, raw: io.RawIOBase, seconds: float) -> None:
        self._raw = raw
        self.until: float | None = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self.until is not None and time.monotonic() > self.until:
            raise TimeoutError("Its request did not come in time.")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Incoming(io.BufferedReader):
    """What the client sends: a body that breaks off is an error, never taken for the whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise _PeerGone("It broke off in the middle of its request.")
        return data


class _Answer(io.BufferedIOBase):
    """Sends an answer, its head and the first of its body in one packet; a slow reader has time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        if size >= _PIECE:
            self.flush()
            self._send(data)
        else:
            self._held += data
            if len(self._held) >= _PIECE or data == _LAST_CHUNK:  # werkzeug flushes the others
                self.flush()
        return size

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, bytearray()
            self._send(held)

    def _send(self, data: Any) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._connection.send(left) :]  # with a bound for each, where `sendall` has one for all
        except OSError as error:
            raise _PeerGone(str(error)) from error
