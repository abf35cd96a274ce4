"""The loop of a server: accept connections, and watch those that wait for a request or for their end."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from openfactory.flaskapp.http.connection import Connection, ConnectionLost
from openfactory.flaskapp.http.request_head import RequestError

__all__ = ["WaitingLoop"]

# How often the loop looks for connections whose time is over, and for the end of its port, in seconds.
_LOOK_SECONDS = 0.1

# After the last response, data that the client still sends is read for this long in all, and between two parts, in
# seconds. Closing the connection earlier could reset it and lose the response.
_DRAIN_SECONDS = 60.0
_PAUSE_SECONDS = 5.0

# A client that has connected just before the end has so long to send its request, in seconds.
_LAST_SECONDS = 0.1

# Pause of the loop when the machine is short of files or memory, in seconds.
_SHORTAGE_SECONDS = 0.5

# So many connections are accepted before the others get their turn, and at the end: more than wait for it.
_ACCEPTED_AT_ONCE = 64
_BACKLOG = 4096

# The listening socket is closed or broken: the server cannot accept connections any more.
_FATAL = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP})

# The machine is short of files or memory, which running requests release again.
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class WaitingLoop:
    """A loop on a thread of its own, which accepts and reads without waiting for any client.

    Args:
        listener: socket that listens on a port.
        accept: called with an accepted socket and the address of the client.
        begin: called with a connection whose head is complete; the loop does not watch it any more.
        refuse: called with a connection whose head is not valid, and the error.
        close: called with a connection that has ended, and the reason.
        failed: called with a connection and an unforeseen error, before the connection is closed.
        shortage: called with the reason why connections have to wait, empty when they no longer have to.
        silence_timeout: seconds in which a new connection has to send something.
        head_timeout: seconds from the first to the last byte of a head.
        keep_alive_timeout: seconds that a connection stays open for another request.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        accept: Callable[[socket.socket, Any], object],
        begin: Callable[[Connection], object],
        refuse: Callable[[Connection, RequestError], object],
        close: Callable[[Connection, str], object],
        failed: Callable[[Connection, BaseException], object],
        shortage: Callable[[str], object],
        silence_timeout: float,
        head_timeout: float,
        keep_alive_timeout: float,
    ) -> None:
        self._listener = listener
        self._accept = accept
        self._begin = begin
        self._refuse = refuse
        self._close = close
        self._failed = failed
        self._shortage = shortage
        self._silence_timeout = silence_timeout
        self._keep_alive_timeout = keep_alive_timeout
        self._head_timeout = min(head_timeout, silence_timeout)
        self._watched: set[Connection] = set()
        self._handed_over: deque[Connection] = deque()
        self._stopping = False
        self._ended = False
        self._thread = 0
        self._look_at = 0.0
        self._accept_again_at = 0.0
        self._lock = threading.Lock()
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Accept and watch connections until `stop`, then close those that wait."""
        if self._ended:
            return
        self._thread = threading.get_ident()
        try:
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._selector.register(self._wake_receiver, selectors.EVENT_READ)
            is_stopped = self._stopping
            while not self._stopping:
                self._turn(_LOOK_SECONDS)
            if not is_stopped:
                self._accept_all(_BACKLOG)  # clients that are connected already would be cut off, and not refused
        finally:
            self._end()

    def stop(self) -> None:
        """Let the loop end. Any thread may call it."""
        self._stopping = True
        self._wake()

    def shut_down(self) -> None:
        """Refuse new connections. Any thread may call it."""
        with suppress(OSError):  # it is closed already, or the system closes it only by `close`
            self._listener.shutdown(socket.SHUT_RDWR)

    def watch(self, connection: Connection, *, answered: bool = False) -> None:
        """Watch a connection until its next request. Any thread may call it.

        Args:
            connection: the connection.
            answered: whether a request of the connection is answered.
        """
        now = time.monotonic()
        if connection.in_head:
            connection.deadline = now + self._head_timeout
        else:
            connection.deadline = now + (self._keep_alive_timeout if answered else self._silence_timeout)
        self._hand_over(connection)

    def drain(self, connection: Connection) -> None:
        """Send no more, and watch a connection until the client has read the last response. Any thread may call it."""
        now = time.monotonic()
        connection.answered_last = True
        connection.drained_at = now + _DRAIN_SECONDS
        connection.deadline = now + min(_PAUSE_SECONDS, self._silence_timeout)
        connection.shut_down(socket.SHUT_WR)
        self._hand_over(connection)

    def forget(self, connection: Connection) -> bool:
        """Stop watching a connection, and return whether the loop has watched it.

        Only the functions that the loop calls may call it.
        """
        if connection not in self._watched:
            return False
        self._watched.remove(connection)
        self._selector.unregister(connection.socket)
        return True

    # Internals

    def _hand_over(self, connection: Connection) -> None:
        with self._lock:
            if not self._ended:
                self._handed_over.append(connection)
                if threading.get_ident() != self._thread:  # this loop takes it at the end of its turn
                    self._wake()
                return
        if connection.answered_last:
            connection.read_away(_LOOK_SECONDS)
        self._close(connection, "")

    def _wake(self) -> None:
        with suppress(OSError):  # the loop will wake, or has ended
            self._wake_sender.send(b"x")

    def _turn(self, seconds: float) -> None:
        """Wait for events, and handle them."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, Connection):
                if key.data in self._watched:  # not closed by one of the events before
                    self._read_safely(key.data)
            elif key.fileobj is self._listener:
                self._accept_all(_ACCEPTED_AT_ONCE)
            else:
                with suppress(BlockingIOError):
                    self._wake_receiver.recv(4_096)
        while self._handed_over:
            connection = self._handed_over.popleft()
            try:
                self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            except OSError as error:  # the system is short of memory
                self._close(connection, str(error))
            else:
                self._watched.add(connection)
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look(now)

    def _accept_all(self, most: int) -> None:
        for _ in range(most):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if self._stopping:
                    return
                if error.errno in _FATAL:
                    raise _unusable(error) from error
                if error.errno in _SHORTAGES:
                    self._shortage(
                        f"Connections have to wait: {error.strerror}. Raise the machine's limit (ulimit -n)."
                    )
                    self._selector.unregister(self._listener)
                    self._accept_again_at = time.monotonic() + _SHORTAGE_SECONDS
                return
            self._shortage("")
            if not address:  # the client has reset the connection, as macOS tells it
                accepted.close()
                continue
            self._accept(accepted, address)

    def _read_safely(self, connection: Connection) -> None:
        """Read from a connection. No client can end the loop, whatever it sends."""
        try:
            self._read(connection)
        except Exception as error:  # noqa: BLE001 - it is logged
            self._failed(connection, error)
            self._close_watched(connection, "")

    def _read(self, connection: Connection) -> None:
        """Read from a connection that has data."""
        if connection.answered_last:
            if connection.read_away(0):
                now = time.monotonic()
                connection.deadline = min(now + min(_PAUSE_SECONDS, self._silence_timeout), connection.drained_at)
            else:
                self._close_watched(connection, "")
            return
        begun = connection.in_head
        try:
            complete = connection.receive_head()
        except ConnectionLost as error:
            self._close_watched(connection, str(error) if begun else "")
        except RequestError as error:
            self.forget(connection)
            self._refuse(connection, error)
        except TimeoutError:
            pass  # nothing has arrived, though the system has said so
        else:
            if complete:
                self.forget(connection)
                self._begin(connection)
            elif connection.in_head and not begun:
                connection.deadline = time.monotonic() + self._head_timeout

    def _look(self, now: float) -> None:
        """Close the connections whose time is over, and check the port."""
        if self._listener.fileno() < 0 and not self._stopping:
            raise _unusable(OSError(errno.EBADF, "Bad file descriptor"))
        if self._accept_again_at and now >= self._accept_again_at:
            self._accept_again_at = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)
        for connection in [one for one in self._watched if one.deadline <= now]:
            if connection.in_head and not connection.answered_last:
                self.forget(connection)
                self._refuse(connection, RequestError(HTTPStatus.REQUEST_TIMEOUT, _LATE))
            else:
                self._close_watched(connection, "")

    def _close_watched(self, connection: Connection, reason: str) -> None:
        self.forget(connection)
        self._close(connection, reason)

    def _end(self) -> None:
        """Answer the requests that have arrived, and close all that waits."""
        with suppress(KeyError, OSError, ValueError):  # it is not registered while the machine is short of files
            self._selector.unregister(self._listener)
        self.shut_down()  # closing is not enough if a forked process has the socket too
        self._listener.close()
        with self._lock:
            self._ended = True
        try:
            self._look_at = float("inf")
            watched = set(self._watched)
            self._turn(0)  # takes those that are handed over
            new = self._watched - watched
            until = time.monotonic() + _LAST_SECONDS
            self._turn(0)  # and their requests
            while new & self._watched and time.monotonic() < until:
                self._turn(_LAST_SECONDS / 10)
        finally:
            for connection in list(self._watched):
                self._close_watched(connection, "")
            self._selector.close()
            self._wake_receiver.close()
            self._wake_sender.close()


_LATE = "The head of the request did not arrive in time. Send it at once."


def _unusable(error: OSError) -> RuntimeError:
    return RuntimeError(f"The web server cannot accept connections any more: {error}. Restart the app.")
