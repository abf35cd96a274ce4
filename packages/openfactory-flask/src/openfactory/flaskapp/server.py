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

from werkzeug.serving import ThreadedWSGIServer

from openfactory.flaskapp.listener import Refusals, listening_socket
from openfactory.flaskapp.request_handler import RequestHandler
from openfactory.flaskapp.request_threads import RequestThreads

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["HttpServer"]

# So often the server looks whether it is to stop, in seconds.
_POLL_SECONDS = 0.1

# So long it waits when the machine is short of something, in seconds.
_SHORTAGE_SECONDS = 0.5

# The listening socket is gone: no connection will ever come again.
_FATAL = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})

# The machine is short of something: time for running requests to give it back.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HttpServer(ThreadedWSGIServer):
    """Listens from the moment it is built, serves from `start` on, until `stop`.

    Args:
        host: address of this machine to listen on.
        port: port to listen on; 0 takes one that is free, `port` says which.
        wsgi_app: answers the requests.
        logger: gets a line for each request, and what goes wrong.
        log_requests: whether requests are logged.
        silence_timeout: who says nothing, or takes nothing of its answer, for so many seconds loses its connection.
        max_connections: who comes when so many connections are open is told to come back later.

    Raises:
        ConfigurationError: the port cannot be opened.
    """

    def __init__(
        self,
        host: str,
        port: int,
        wsgi_app: WSGIApplication,
        logger: logging.Logger,
        *,
        log_requests: bool,
        silence_timeout: float = 60.0,
        max_connections: int = 1000,
    ) -> None:
        self.log_requests = log_requests
        self.silence_timeout = silence_timeout
        self._max_connections = max_connections
        self._logger = logger
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._idle: set[socket.socket] = set()  # connections whose request has not come yet, or is answered
        self._running: dict[socket.socket, int] = {}  # those whose request is being answered, and the thread that does
        self._refusals = Refusals()
        self._request_threads = RequestThreads(self.process_request_thread)
        self._said: set[str] = set()  # what has been logged, and has not changed since
        # werkzeug would print and exit where it cannot bind, so it gets a socket that is bound.
        with listening_socket(host, port) as listener:
            super().__init__(host, port, wsgi_app, RequestHandler, fd=listener.fileno())

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def serving(self) -> bool:
        """Whether it takes requests."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping.is_set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        with self._changed:
            return len(self._idle) + len(self._running)

    def start(self, on_failure: Callable[[Exception], None]) -> None:
        """Answer requests.

        Args:
            on_failure: called, on the server's thread, when an error ends the server.
        """
        arguments = (on_failure,)
        self._thread = threading.Thread(target=self._serve, args=arguments, name="openfactory-http", daemon=True)
        self._thread.start()

    def stop(self, timeout: float, before_waiting: Callable[[], object] | None = None) -> None:
        """Take no more requests, let the running ones end within a bound in seconds, and cut off the rest.

        A request whose route does the stop is neither waited for nor cut off. Doing it twice does nothing.

        Args:
            before_waiting: called when no more requests come: it ends answers that have no end of their own.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        _end([self.socket], socket.SHUT_RDWR)  # a process that was forked may hold it too, and closing is not enough
        if self._thread is None:
            self.server_close()
        else:
            self._thread.join(timeout)
        try:
            if before_waiting is not None:
                before_waiting()
        finally:
            self._end_connections(deadline)

    def _end_connections(self, deadline: float) -> None:
        with self._changed:
            _end(self._idle, socket.SHUT_RD)  # a request that has arrived is still read
            self._changed.wait_for(lambda: not self._open_to_others(), max(deadline - time.monotonic(), 0))
            left = self._open_to_others()
            unanswered = len(left - self._idle)
            _end(left, socket.SHUT_RDWR)
        if unanswered:
            self._logger.warning("%d HTTP requests did not end in time and were cut off.", unanswered)

    def _open_to_others(self) -> set[socket.socket]:
        own = threading.get_ident()
        return self._idle | {connection for connection, thread in self._running.items() if thread != own}

    def _serve(self, on_failure: Callable[[Exception], None]) -> None:
        failure: Exception | None = None
        try:
            self.serve_forever(_POLL_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed on
            failure = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit here would end this thread alone
            failure = RuntimeError(f"The web server was ended by {error!r}.")
            failure.__cause__ = error
        finally:
            self._refusals.close()
            self._request_threads.close()
        if not self._stopping.is_set():
            on_failure(failure or RuntimeError("The web server has ended by itself. Start the app again."))

    # Called by the server's loop

    def service_actions(self) -> None:
        self._refusals.close_old()
        if self._stopping.is_set():
            # For where the end of the listening socket wakes nobody, as on macOS. `shutdown` would end the loop too,
            # but waits without a bound until it has ended.
            raise _Stopping

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            accepted = super().get_request()
        except OSError as error:
            if error.errno in _FATAL:
                raise RuntimeError(
                    f"The web server can take no more connections: {error}. Start the app again."
                ) from error
            if error.errno in _SHORTAGES:
                self._say_once(
                    "short", f"Connections have to wait: {error.strerror}. Raise the machine's limit (ulimit -n)."
                )
                self._stopping.wait(_SHORTAGE_SECONDS)
            raise  # the server's loop goes on
        self._said.discard("short")
        return accepted

    def process_request(self, request: Any, client_address: Any) -> None:
        open_now = self.connections
        if open_now >= self._max_connections:
            self._refuse(
                request,
                f"{self._max_connections} connections are open, the most that this app takes; more get status 503. "
                "Look for clients that leave connections open, or run more replicas of the app.",
            )
            return
        with self._changed:
            self._idle.add(request)
        try:
            self._request_threads.call(request, client_address)
        except RuntimeError as error:
            with self._changed:
                self._idle.discard(request)
            self._refuse(
                request, f"Connections get status 503: {error}. Raise the machine's limit of threads (ulimit -u)."
            )
            return
        if open_now < self._max_connections * 0.9:  # not each time that one ends and the next comes
            self._said.discard("refused")

    def _refuse(self, request: socket.socket, reason: str) -> None:
        self._say_once("refused", reason)
        self._refusals.refuse(request)

    def _say_once(self, subject: str, text: str) -> None:
        if subject not in self._said:
            self._said.add(subject)
            self._logger.warning("%s", text)

    # Called by the threads of requests

    def request_begins(self, connection: socket.socket) -> None:
        """The request of a connection has come."""
        with self._changed:
            self._idle.discard(connection)
            self._running[connection] = threading.get_ident()

    def request_ends(self, connection: socket.socket) -> None:
        """The request of a connection is answered, and nobody waits for what it still has to say."""
        with self._changed:
            if self._running.pop(connection, None) is not None:
                self._idle.add(connection)
            if self._stopping.is_set():
                _end([connection], socket.SHUT_RD)
            self._changed.notify_all()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._idle.discard(request)
            self._running.pop(request, None)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class calls it so
        self._logger.error("A connection from %s failed.", client_address, exc_info=sys.exception())

    def log(self, type: str, message: str, *args: Any) -> None:
        self._logger.log(logging.getLevelNamesMapping()[type.upper()], message, *args)


class _Stopping(Exception):
    """The server's loop is to end."""


def _end(connections: Iterable[socket.socket], how: int) -> None:
    for connection in connections:
        with suppress(OSError):  # the other side was quicker
            connection.shutdown(how)
