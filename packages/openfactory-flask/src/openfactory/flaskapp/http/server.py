"""An HTTP server: werkzeug's server on a thread of its own, with a thread for each request."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from werkzeug.serving import ThreadedWSGIServer

from openfactory.flaskapp.http.connections import Connections, shut_down
from openfactory.flaskapp.http.refusals import Refusals
from openfactory.flaskapp.http.request_handler import RequestHandler
from openfactory.flaskapp.http.threads import RequestThreads
from openfactory.logs.outage import Outage

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["HttpServer"]

# How often the server checks whether it is to stop, in seconds.
_POLL_SECONDS = 0.1

# Pause of the server when the machine is short of files or memory, in seconds.
_SHORTAGE_SECONDS = 0.5

# The listening socket is closed or broken: the server cannot accept connections any more.
_FATAL = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})

# The machine is short of files or memory, which running requests release again.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HttpServer(ThreadedWSGIServer):
    """An HTTP server, which listens from its construction on, and serves from `start` until `stop`.

    Args:
        listener: socket that listens on a port, which the server takes over.
        wsgi_app: the application that answers the requests.
        logger: logger for requests and errors.
        log_requests: whether requests are logged.
        silence_timeout: seconds after which a client that neither sends nor reads is disconnected.
        max_connections: number of open connections above which clients get the status 503.

    Attributes:
        host: address of the port.
        port: number of the port.
    """

    def __init__(
        self,
        listener: socket.socket,
        wsgi_app: WSGIApplication,
        logger: logging.Logger,
        *,
        log_requests: bool,
        silence_timeout: float = 60.0,
        max_connections: int = 1000,
    ) -> None:
        self._log_requests = log_requests
        self._silence_timeout = silence_timeout
        self._max_connections = max_connections
        self._logger = logger
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._connections = Connections()
        self._refusals = Refusals()
        self._request_threads = RequestThreads(self.process_request_thread)
        self._shortage = Outage(logger, over="Connections no longer have to wait.")
        self._overload = Outage(logger, over="Connections no longer get status 503.")
        with listener:  # werkzeug makes a socket of its own for the port
            host, port = listener.getsockname()[:2]
            super().__init__(host, port, wsgi_app, RequestHandler, fd=listener.fileno())

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def serving(self) -> bool:
        """Whether the server accepts requests."""
        return self._thread is not None and self._thread.is_alive() and not self._stopping.is_set()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._connections)

    def start(self, on_failure: Callable[[Exception], None]) -> None:
        """Start to answer requests.

        Args:
            on_failure: called on the server's thread if an error ends the server.
        """
        arguments = (on_failure,)
        self._thread = threading.Thread(target=self._serve, args=arguments, name="openfactory-http", daemon=True)
        self._thread.start()

    def stop(self, timeout: float, before_waiting: Callable[[], object] | None = None) -> None:
        """Stop accepting requests, wait for the running requests, and disconnect those that do not end in time.

        A request whose route calls `stop` is neither waited for nor disconnected. A second call does nothing.

        Args:
            timeout: seconds to wait for the running requests.
            before_waiting: called when no more requests arrive, to end responses that would not end by themselves.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        shut_down([self.socket], socket.SHUT_RDWR)  # closing is not enough if a forked process has the socket too
        if self._thread is None:
            self.server_close()
        else:
            self._thread.join(timeout)
        try:
            if before_waiting is not None:
                before_waiting()
        finally:
            unanswered = self._connections.end(deadline)
            if unanswered:
                self._logger.warning("%d HTTP requests did not end in time and were cut off.", unanswered)

    def _serve(self, on_failure: Callable[[Exception], None]) -> None:
        failure: Exception | None = None
        try:
            self.serve_forever(_POLL_SECONDS)
        except Exception as error:  # noqa: BLE001 - every error is reported to on_failure
            failure = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit would end this thread only
            failure = RuntimeError(f"The web server was ended by {error!r}. Restart the app.")
            failure.__cause__ = error
        finally:
            self._refusals.close()
            self._request_threads.close()
        if not self._stopping.is_set():
            on_failure(failure or RuntimeError("The web server ended unexpectedly. Restart the app."))

    # Called by the server's loop

    def service_actions(self) -> None:
        self._refusals.close_old()
        if self._stopping.is_set():
            # Shutting down the listening socket does not end the loop on every system, for example macOS. `shutdown`
            # would end it too, but waits for its end without a limit.
            raise _Stopping

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            accepted = super().get_request()
        except OSError as error:
            if error.errno in _FATAL:
                raise RuntimeError(
                    f"The web server cannot accept connections any more: {error}. Restart the app."
                ) from error
            if error.errno in _SHORTAGES:
                self._shortage.begin(
                    f"Connections have to wait: {error.strerror}. Raise the machine's limit (ulimit -n)."
                )
                self._stopping.wait(_SHORTAGE_SECONDS)
            raise  # the server's loop ignores it and goes on
        self._shortage.end()
        return accepted

    def process_request(self, request: Any, client_address: Any) -> None:
        connections = self.connections
        if connections >= self._max_connections:
            self._refuse(
                request,
                f"{self._max_connections} connections are open, the maximum of this app; further ones get status 503. "
                "Look for clients that leave connections open, or run more replicas of the app.",
            )
            return
        self._connections.add(request)
        try:
            self._request_threads.call(request, client_address)
        except RuntimeError as error:
            self._connections.remove(request)
            self._refuse(request, f"Connections get status 503: {error}. Raise the machine's thread limit (ulimit -u).")
            return
        if connections < self._max_connections * 0.9:  # so that a number close to the maximum does not warn repeatedly
            self._overload.end()

    def _refuse(self, request: socket.socket, reason: str) -> None:
        self._overload.begin(reason)
        self._refusals.refuse(request)

    # Called by the threads of requests

    def finish_request(self, request: Any, client_address: Any) -> None:
        RequestHandler(
            request,
            client_address,
            self,
            connections=self._connections,
            silence_timeout=self._silence_timeout,
            log_requests=self._log_requests,
        )

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._connections.remove(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the base class calls it
        self._logger.error("A connection from %s failed.", client_address, exc_info=sys.exception())

    def log(self, type: str, message: str, *args: Any) -> None:
        self._logger.log(logging.getLevelNamesMapping()[type.upper()], message, *args)


class _Stopping(Exception):
    """Signal that ends the server's loop."""
