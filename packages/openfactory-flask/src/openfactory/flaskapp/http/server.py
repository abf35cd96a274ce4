"""An HTTP server: a loop that accepts connections, and a thread for each request."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import socket
import threading
import time
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from openfactory.flaskapp.http.connection import Connection, ConnectionLost
from openfactory.flaskapp.http.connections import Connections
from openfactory.flaskapp.http.exchange import Application
from openfactory.flaskapp.http.request_body import BodyMemory
from openfactory.flaskapp.http.request_head import RequestError
from openfactory.flaskapp.http.response import error_response
from openfactory.flaskapp.http.threads import RequestThreads
from openfactory.flaskapp.http.waiting import WaitingLoop
from openfactory.logs.escaping import escaped
from openfactory.logs.outage import Outage

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["HttpServer"]

# So many threads wait a moment for the next request of their connection. Handing a connection over to another thread
# takes about as long as a small request.
_MAX_WAITING_THREADS = 64


class HttpServer:
    """An HTTP server, which listens from its construction on, and serves from `start` until `stop`.

    Args:
        listener: socket that listens on a port, which the server takes over.
        wsgi_app: the application that answers the requests.
        logger: logger for errors.
        silence_timeout: seconds after which a client that neither sends nor reads is disconnected.
        head_timeout: seconds that the head of a request may take.
        keep_alive_timeout: seconds that a connection stays open for another request.
        max_connections: number of connections that may be open. The one that waits longest for a request is closed for
            a new one. If all have requests, further requests get the status 503.
        max_connections_per_address: the same for the connections of one address, without a limit by default.
        always_answered: paths whose requests are answered even if all connections have requests.
        body_memory: number of bytes of large bodies that routes may have in memory, in all.

    Attributes:
        app: the application.
        socket: the listening socket.
        host: address of the port.
        port: number of the port.
    """

    def __init__(
        self,
        listener: socket.socket,
        wsgi_app: WSGIApplication,
        logger: logging.Logger,
        *,
        silence_timeout: float = 60.0,
        head_timeout: float = 10.0,
        keep_alive_timeout: float = 5.0,
        max_connections: int = 1000,
        max_connections_per_address: int | None = None,
        always_answered: Collection[str] = (),
        body_memory: int = 128 * 1024 * 1024,
    ) -> None:
        self.app = wsgi_app
        self.socket = listener
        self.host, self.port = listener.getsockname()[:2]
        self._logger = logger
        self._silence_timeout = silence_timeout
        self._max_connections = max_connections
        self._max_connections_per_address = max_connections_per_address
        self._always_answered = frozenset(always_answered)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._connections = Connections(max_connections, max_connections_per_address)
        self._threads = RequestThreads(self._serve_connection)
        self._waiting_threads = threading.Semaphore(_MAX_WAITING_THREADS)
        self._shortage = Outage(logger, over="Connections no longer have to wait.")
        self._overload = Outage(logger, over="New connections have room again.")
        self._crowd = Outage(logger, over="Each address has room for new connections again.")
        self._application = Application(
            lambda: self.app,
            logger,
            BodyMemory(body_memory),
            (self.host, self.port),
            may_keep_alive=lambda: not self._stopping.is_set(),
        )
        self._loop = WaitingLoop(
            listener,
            accept=self._accept,
            begin=self._begin,
            refuse=self._refuse_invalid,
            close=self._close,
            failed=self._log_failure,
            shortage=lambda reason: self._shortage.begin(reason) if reason else self._shortage.end(),
            silence_timeout=silence_timeout,
            head_timeout=head_timeout,
            keep_alive_timeout=keep_alive_timeout,
        )

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

        A request whose route calls `stop` is neither waited for nor disconnected; `ended` waits for it.

        Args:
            timeout: seconds to wait for the running requests.
            before_waiting: called when no more requests arrive, to end responses that would not end by themselves.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._loop.stop()
        if self._thread is None:
            self._loop.run()  # which ends at once, and closes the port
        else:
            self._thread.join(timeout)
        self._loop.shut_down()  # if the loop is held up
        try:
            if before_waiting is not None:
                before_waiting()
        finally:
            unanswered = self._connections.end(deadline)
            if unanswered:
                self._logger.warning("%d HTTP requests did not end in time and were cut off.", unanswered)

    async def ended(self, timeout: float) -> None:
        """Wait after a stop for a request that has called it, and disconnect it if it does not end in time."""
        await asyncio.to_thread(self.stop, timeout)

    def _serve(self, on_failure: Callable[[Exception], None]) -> None:
        failure: Exception | None = None
        try:
            self._loop.run()
        except Exception as error:  # noqa: BLE001 - every error is reported to on_failure
            failure = error
        except BaseException as error:  # noqa: BLE001 - a SystemExit would end this thread only
            failure = RuntimeError(f"The web server was ended by {error!r}. Restart the app.")
            failure.__cause__ = error
        finally:
            self._threads.close()
        if not self._stopping.is_set():
            on_failure(failure or RuntimeError("The web server ended unexpectedly. Restart the app."))

    # Called by the loop

    def _accept(self, accepted: socket.socket, address: Any) -> None:
        connection = Connection(accepted, address, self._silence_timeout)
        surplus = self._connections.add(connection)
        for waiting in surplus:
            self._warn(connection, "the connection that waits longest is closed for each new one")
            if self._loop.forget(waiting):
                waiting.close()
            else:
                waiting.shut_down(socket.SHUT_RDWR)  # the thread that waits for its next request closes it
        self._loop.watch(connection)

    def _begin(self, connection: Connection) -> None:
        """Let a thread answer the request that has arrived."""
        if not self._may_run(connection):
            return
        try:
            self._threads.call(connection)
        except RuntimeError as error:
            self._connections.request_ends(connection)
            self._overload.begin(f"Connections get status 503: {error}. Raise the machine's thread limit (ulimit -u).")
            self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, _COME_BACK, retry_after=1)
            return
        if self.connections < self._max_connections / 2:  # so that a number close to the maximum warns once
            self._overload.end()
        if self._crowd.reason and not self._connections.has_crowd():
            self._crowd.end()

    def _refuse_invalid(self, connection: Connection, error: RequestError) -> None:
        self._logger.debug("%s code %d, message %s", escaped(connection.host), error.status, escaped(error.sentence))
        self._refuse(connection, error.status, error.sentence)

    def _close(self, connection: Connection, reason: str) -> None:
        if reason:
            self._logger.debug("%s connection lost: %s", escaped(connection.host), escaped(reason))
        self._connections.remove(connection)
        connection.close()

    # Called by the loop, and by the threads of requests

    def _may_run(self, connection: Connection) -> bool:
        """Return whether the request that has arrived may run; otherwise refuse it."""
        head = connection.head
        always = head is not None and head.method in ("GET", "HEAD") and head.path in self._always_answered
        if self._connections.request_begins(connection, always=always):
            return True
        self._warn(connection, "further requests get status 503")
        self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, _COME_BACK, retry_after=1)
        return False

    def _warn(self, connection: Connection, consequence: str) -> None:
        # Others may have left since the connection had no room, so the number alone does not tell which limit it was.
        if self._max_connections_per_address is None or self.connections >= self._max_connections:
            outage, limit = self._overload, f"{self._max_connections} connections are open, the maximum of this app"
        else:
            number = f"{self._max_connections_per_address} connections of {connection.host}"
            outage, limit = self._crowd, f"{number} are open, the maximum of one address"
        outage.begin(
            f"{limit}; {consequence}. Look for clients that leave connections open, or run more replicas of the app."
        )

    def _refuse(
        self, connection: Connection, status: HTTPStatus, sentence: str, retry_after: int | None = None
    ) -> None:
        connection.send_at_once(error_response(status, sentence, retry_after))
        self._loop.drain(connection)

    # Called by the threads of requests

    def _serve_connection(self, connection: Connection) -> None:
        """Answer the request of a connection, and further requests that follow at once."""
        try:
            while self._answer(connection):
                if not (self._next_request(connection) and self._may_run(connection)):
                    return
        except RequestError as error:
            self._refuse_invalid(connection, error)
        except ConnectionLost as error:
            self._close(connection, str(error) if connection.in_head else "")
        except BaseException as error:  # noqa: BLE001 - a SystemExit would end this thread only
            self._log_failure(connection, error)
            self._close(connection, "")

    def _log_failure(self, connection: Connection, error: BaseException) -> None:
        self._logger.error("A connection from %s failed.", escaped(connection.host), exc_info=error)

    def _answer(self, connection: Connection) -> bool:
        """Answer a request, and return whether the client may send another one."""
        head = connection.head
        assert head is not None  # the loop and `_next_request` have set it
        connection.thread = threading.get_ident()
        # A value that a request sets in its context is discarded when the request ends.
        keep_alive = contextvars.Context().run(self._application.answer, connection, head)
        connection.head = None
        self._connections.request_ends(connection)
        if keep_alive:
            return True
        if connection.taken or not (connection.sends_on or connection.unread):
            self._close(connection, "")
        else:
            self._loop.drain(connection)
        return False

    def _next_request(self, connection: Connection) -> bool:
        """Return whether the next request has arrived; otherwise the loop watches the connection."""
        if connection.next_head():
            return True
        if self._waiting_threads.acquire(blocking=False):
            try:
                if connection.receive_head():
                    return True
            except TimeoutError:
                pass
            finally:
                self._waiting_threads.release()
        self._loop.watch(connection, answered=True)
        return False


_COME_BACK = "All connections are taken. Come back later."
