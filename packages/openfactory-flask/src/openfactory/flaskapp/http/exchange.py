"""A request and its response: call a WSGI application, and report its errors."""

from __future__ import annotations

import logging
import re
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from openfactory.flaskapp.http.connection import Connection, ConnectionLost
from openfactory.flaskapp.http.request_body import BodyMemory, RequestBody
from openfactory.flaskapp.http.request_head import RequestHead
from openfactory.flaskapp.http.response import FileWrapper, Response, error_response
from openfactory.logs.escaping import escaped

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication, WSGIEnvironment

__all__ = ["Application", "is_taken"]

# Environment keys of headers, by the names of headers that clients have sent; others are not kept above this number.
_keys: dict[bytes, str] = {}
_MAX_KEYS = 1_000
_MAX_NAME_BYTES = 64

_WITHOUT_PREFIX = frozenset({"CONTENT_TYPE", "CONTENT_LENGTH"})


class Application:
    """A WSGI application, which answers requests.

    Args:
        wsgi_app: function that returns the application.
        logger: logger for errors.
        memory: the memory of all bodies.
        address: address of the port.
        may_keep_alive: whether connections may stay open after a response.
    """

    def __init__(
        self,
        wsgi_app: Callable[[], WSGIApplication],
        logger: logging.Logger,
        memory: BodyMemory,
        address: tuple[str, int],
        *,
        may_keep_alive: Callable[[], bool],
    ) -> None:
        self._wsgi_app = wsgi_app
        self._logger = logger
        self._memory = memory
        self._may_keep_alive = may_keep_alive
        self._environ: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": FileWrapper,
            "SERVER_SOFTWARE": "openfactory",
            "SERVER_NAME": address[0],
            "SERVER_PORT": str(address[1]),
            "SCRIPT_NAME": "",
        }

    def answer(self, connection: Connection, head: RequestHead) -> bool:
        """Answer a request.

        Returns:
            Whether the client may send another request on the connection.

        Raises:
            ConnectionLost: the client does not read the response.
        """
        with RequestBody(connection, head, self._memory) as body:
            connection.sends_on = not body.complete
            environ = self._environ_of(connection, head, body)
            response = Response(
                connection,
                head,
                body,
                may_keep_alive=self._may_keep_alive,
            )
            try:
                self._run(environ, response)
                connection.sends_on = not (connection.taken or body.skip())
            except ConnectionLost as error:
                self._logger.debug("%s connection lost: %s", escaped(connection.host), error)
                return False
            except Exception as error:  # noqa: BLE001 - every error of the application is reported
                if not (connection.taken and isinstance(error, ConnectionError)):  # so libraries for WebSocket end
                    self._report(connection, response, error)
                    return False
            if connection.taken:
                return False
            if response.error:
                self._logger.error('The response to "%s" %s.', escaped(head.request_line), response.error)
                return False
            return response.keep_alive and not connection.sends_on

    def _run(self, environ: WSGIEnvironment, response: Response) -> None:
        parts = self._wsgi_app()(environ, response.start)
        with ExitStack() as stack:
            if hasattr(parts, "close"):
                stack.callback(parts.close)
            response.write_all(parts)

    def _report(self, connection: Connection, response: Response, error: Exception) -> None:
        """Log the error of an application, and tell the client if the response has not begun."""
        self._logger.error("A request from %s failed.", escaped(connection.host), exc_info=error)
        if not (response.begun or connection.taken):
            connection.send(error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "The app failed; its log has the error."))

    def _environ_of(self, connection: Connection, head: RequestHead, body: RequestBody) -> dict[str, Any]:
        environ = self._environ | {
            "wsgi.input": body,
            "wsgi.errors": sys.stderr,
            "werkzeug.socket": _RouteSocket(connection),
            "REQUEST_METHOD": head.method,
            "PATH_INFO": head.path,
            "QUERY_STRING": head.query,
            "REQUEST_URI": head.target,
            "RAW_URI": head.target,
            "REMOTE_ADDR": connection.host,
            "REMOTE_PORT": connection.port,
            "SERVER_PROTOCOL": head.version,
        }
        for name, value in head.headers:
            key = _keys.get(name) or _key(name)
            if key in environ:
                separator = "; " if key == "HTTP_COOKIE" else ","
                environ[key] += separator + value.decode("latin-1")
            elif key:
                environ[key] = value.decode("latin-1")
        if head.host is not None:
            environ["HTTP_HOST"] = head.host  # also if it is in the target
        return environ


def is_taken(environ: WSGIEnvironment) -> bool:
    """Return whether the connection of a request belongs to its route, which answers on the socket itself."""
    route_socket = environ.get("werkzeug.socket")
    return isinstance(route_socket, _RouteSocket) and route_socket.is_taken()


def _key(name: bytes) -> str:
    """Return the key of a header, empty if its name could be taken for another: `X_Forwarded_For`."""
    if b"_" in name:
        return ""
    key = name.decode("ascii").upper().replace("-", "_")
    key = key if key in _WITHOUT_PREFIX else f"HTTP_{key}"
    if len(_keys) < _MAX_KEYS and len(name) <= _MAX_NAME_BYTES:
        _keys[name] = key
    return key


class _RouteSocket:
    """The socket of a connection, which belongs to the route as soon as it uses the socket (`werkzeug.socket`)."""

    _TALKS = re.compile(r"close|detach|dup|makefile|recv.+|send.*|setblocking|settimeout|shutdown")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def is_taken(self) -> bool:
        """Return whether the route has used the socket."""
        return self._connection.taken

    def __getattr__(self, name: str) -> Any:
        connection = self._connection
        return getattr(connection.take() if self._TALKS.fullmatch(name) else connection.socket, name)

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive bytes. A look at them (`MSG_PEEK`) does not take the connection."""
        connection = self._connection
        return (connection.socket if flags & socket.MSG_PEEK else connection.take()).recv(size, flags)
