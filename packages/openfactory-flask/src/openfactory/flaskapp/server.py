"""The HTTP server of an app: werkzeug's, with a thread for each request, on a thread of its own."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from openfactory.exceptions import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["HttpServer"]

# So often the server looks whether it is to stop, in seconds.
_POLL_SECONDS = 0.1

# So long it waits when the machine is short of something, in seconds.
_SHORTAGE_SECONDS = 0.5

# Connections that the system keeps while the server is busy taking others.
_BACKLOG = 128

# The listening socket is gone: no connection will ever come again.
_FATAL = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})

# The machine is short of something: time for running requests to give it back.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _RequestHandler(WSGIRequestHandler):
    """One connection with its one request; what it has to say goes to the app's logger."""

    server: HttpServer

    def run_wsgi(self) -> None:
        self.server.request_begins(self.connection)
        super().run_wsgi()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self.server.log_requests:
            # Escaped: a request line holds what a stranger has sent.
            request = self.requestline.encode("unicode_escape").decode("ascii")
            self.server.log("info", '%s "%s" %s %s', self.address_string(), request, code, size)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: ARG002 - a bad request is no error of the app
        self.server.log("debug", "%s %s", self.address_string(), message % args if args else message)


class HttpServer(ThreadedWSGIServer):
    """Listens from the moment it is built, serves from `start` on, until `stop`.

    Args:
        host: address of this machine to listen on.
        port: port to listen on; 0 takes one that is free, `port` says which.
        wsgi_app: answers the requests.
        logger: gets a line for each request, and what goes wrong.
        log_requests: whether requests are logged.

    Raises:
        ConfigurationError: the port cannot be opened.
    """

    def __init__(
        self, host: str, port: int, wsgi_app: WSGIApplication, logger: logging.Logger, *, log_requests: bool
    ) -> None:
        self.log_requests = log_requests
        self._logger = logger
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._waiting: set[socket.socket] = set()  # connections whose request has not come yet
        self._running: set[socket.socket] = set()  # connections whose request is being answered
        # werkzeug would print and exit where it cannot bind, so it gets a socket that is bound.
        with _listening_socket(host, port) as listener:
            super().__init__(host, port, wsgi_app, _RequestHandler, fd=listener.fileno())

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def start(self, on_failure: Callable[[Exception], None]) -> None:
        """Answer requests.

        Args:
            on_failure: called, on the server's thread, when an error ends the server.
        """
        arguments = (on_failure,)
        self._thread = threading.Thread(target=self._serve, args=arguments, name="openfactory-http", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Take no more requests, let the running ones end within a bound in seconds, and cut off the rest.

        Doing it twice does nothing.
        """
        deadline = time.monotonic() + timeout
        self._stopping = True
        if self._thread is None:
            self.server_close()
            return
        self.shutdown()  # back when its loop has ended; it waits for ever where there never was one
        self._thread.join(timeout)
        with self._changed:
            _end(self._waiting, socket.SHUT_RD)  # a request that has arrived is still read
            self._changed.wait_for(lambda: not self._waiting | self._running, max(deadline - time.monotonic(), 0))
            left = self._waiting | self._running
            _end(left, socket.SHUT_RDWR)
        if left:
            self._logger.warning("%d HTTP requests did not end in time and were cut off.", len(left))

    def _serve(self, on_failure: Callable[[Exception], None]) -> None:
        failure: Exception | None = None
        try:
            self.serve_forever(_POLL_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed on
            failure = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit here would end this thread alone
            failure = RuntimeError(f"The web server was ended by {error!r}.")
            failure.__cause__ = error
        if not self._stopping:
            on_failure(failure or RuntimeError("The web server has ended by itself. Start the app again."))

    # Called by the server's loop and by the threads of requests

    def request_begins(self, connection: socket.socket) -> None:
        """The request of a connection has come."""
        with self._changed:
            self._waiting.discard(connection)
            self._running.add(connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _FATAL:
                raise RuntimeError(
                    f"The web server can take no more connections: {error}. Start the app again."
                ) from error
            if error.errno in _SHORTAGES:
                self._logger.error("A connection has to wait: %s.", error.strerror)
                time.sleep(_SHORTAGE_SECONDS)
            raise  # the server's loop goes on

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._waiting.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._waiting.discard(request)
            self._running.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class calls it so
        self._logger.error("A connection from %s failed.", client_address, exc_info=sys.exception())

    def log(self, type: str, message: str, *args: Any) -> None:
        self._logger.log(logging.getLevelNamesMapping()[type.upper()], message, *args)


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            said = f"Port {port} is taken by another program. Stop that program, or set PORT to a free port."
        elif error.errno == errno.EACCES:
            said = f"Port {port} may not be opened by this user. Set PORT to a number above 1023."
        else:
            said = (
                f"Port {port} of {host!r} cannot be opened: {error.strerror}. Pass host='0.0.0.0' or an address of "
                "this machine, and set PORT to a free port."
            )
        raise ConfigurationError(said) from error


def _end(connections: Iterable[socket.socket], how: int) -> None:
    for connection in connections:
        with suppress(OSError):  # the other side was quicker
            connection.shutdown(how)
