"""The open connections of a server, and the end of them when it stops."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["Connections", "shut_down"]


class Connections:
    """Open connections: idle before their request and after the response, and running in between."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._idle: set[socket.socket] = set()
        self._running: dict[socket.socket, int] = {}  # connection → thread of its request
        self._ending = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._idle) + len(self._running)

    def add(self, connection: socket.socket) -> None:
        """Add a connection before its request."""
        with self._changed:
            self._idle.add(connection)

    def remove(self, connection: socket.socket) -> None:
        """Remove a connection that is closed or refused."""
        with self._changed:
            self._idle.discard(connection)
            self._running.pop(connection, None)
            self._changed.notify_all()

    def request_begins(self, connection: socket.socket) -> None:
        """Record that the request of a connection has arrived, and runs on the calling thread."""
        with self._changed:
            self._idle.discard(connection)
            self._running[connection] = threading.get_ident()

    def request_ends(self, connection: socket.socket) -> None:
        """Record that the request of a connection is answered. `end` does not wait for the connection any more."""
        with self._changed:
            if self._running.pop(connection, None) is not None:
                self._idle.add(connection)
            if self._ending:
                shut_down([connection], socket.SHUT_RD)
            self._changed.notify_all()

    def end(self, deadline: float) -> int:
        """Wait for the running requests, and disconnect those that do not end in time.

        A request that runs on the calling thread is neither waited for nor disconnected.

        Args:
            deadline: time of `time.monotonic` until which to wait.

        Returns:
            The number of requests that were cut off.
        """
        with self._changed:
            self._ending = True
            shut_down(self._idle, socket.SHUT_RD)  # a request that has arrived is still read
            self._changed.wait_for(lambda: not self._of_others(), max(deadline - time.monotonic(), 0))
            connections = self._of_others()
            unanswered = len(connections - self._idle)
            shut_down(connections, socket.SHUT_RDWR)
        return unanswered

    def _of_others(self) -> set[socket.socket]:
        """Return the open connections, except that of the request that runs on the calling thread."""
        own = threading.get_ident()
        return self._idle | {connection for connection, thread in self._running.items() if thread != own}


def shut_down(connections: Iterable[socket.socket], how: int) -> None:
    """Shut down connections for reading, for writing, or for both, as `socket.shutdown` does."""
    for connection in connections:
        with suppress(OSError):  # the client has already disconnected
            connection.shutdown(how)
