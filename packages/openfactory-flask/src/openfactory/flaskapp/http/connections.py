"""The open connections of a server: which of them wait, how many there may be, and the end of them when it stops."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter

from openfactory.flaskapp.http.connection import Connection

__all__ = ["Connections"]

# While requests run on all connections, so many more are accepted in order to read and answer their requests.
_RESERVE = 32


class Connections:
    """Open connections: waiting before a request and after a response, and running in between.

    Args:
        maximum: number of requests that may run.
        maximum_per_address: the same for one address of a client, None without a limit.
    """

    def __init__(self, maximum: int, maximum_per_address: int | None) -> None:
        self._maximum = maximum
        self._maximum_per_address = maximum_per_address
        self._changed = threading.Condition()
        self._waiting: dict[Connection, None] = {}  # the longest first
        self._running: dict[Connection, None] = {}
        self._ending = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting) + len(self._running)

    def add(self, connection: Connection) -> list[Connection]:
        """Add a connection before its request.

        Returns:
            Connections that have to be closed for it: those that wait longest.
        """
        with self._changed:
            self._waiting[connection] = None
            surplus = self._surplus(connection.host, self._maximum_per_address) + self._surplus(None, self._maximum)
            for one in surplus:
                self._waiting.pop(one, None)
            return surplus

    def has_crowd(self) -> bool:
        """Return whether one address has more than half of the connections that it may have."""
        with self._changed:
            if self._maximum_per_address is None:
                return False
            of_address = Counter(one.host for one in (*self._waiting, *self._running))
            return max(of_address.values(), default=0) > self._maximum_per_address / 2

    def remove(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        with self._changed:
            self._waiting.pop(connection, None)
            self._running.pop(connection, None)
            self._changed.notify_all()

    def request_begins(self, connection: Connection, *, always: bool) -> bool:
        """Record that a request begins, and return whether it may.

        Args:
            connection: the connection.
            always: whether the request may be one of a few more, such as that of a health page.
        """
        with self._changed:
            reserve = _RESERVE if always else 0
            if connection not in self._waiting or not self._has_room(connection, reserve):
                return False
            del self._waiting[connection]
            self._running[connection] = None
            return True

    def request_ends(self, connection: Connection) -> None:
        """Record that the request of a connection is answered. `end` does not wait for the connection any more."""
        with self._changed:
            if connection in self._running:
                del self._running[connection]
                self._waiting[connection] = None
            if self._ending:
                connection.shut_down(socket.SHUT_RD)
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
            for connection in self._waiting:
                connection.shut_down(socket.SHUT_RD)  # a request that has arrived is still read
            for connection in self._running:
                if connection.taken:
                    connection.shut_down(socket.SHUT_RD)  # its route reads the end
            self._changed.wait_for(lambda: not self._of_others(), max(deadline - time.monotonic(), 0))
            connections = self._of_others()
            for connection in connections:
                connection.shut_down(socket.SHUT_RDWR)
            return len([one for one in connections if one in self._running])

    # Internals, with the lock

    def _surplus(self, host: str | None, maximum: int | None) -> list[Connection]:
        """Return the waiting connections, of one address or of all, for which there is no room."""
        if maximum is None:
            return []
        waiting = len(self._waiting) if host is None else sum(one.host == host for one in self._waiting)
        running = self._running_of(host)
        surplus = waiting - max(maximum - running, min(running, _RESERVE))
        if surplus <= 0:
            return []
        return [one for one in self._waiting if host is None or one.host == host][:surplus]

    def _has_room(self, connection: Connection, reserve: int) -> bool:
        of_address = self._maximum_per_address
        return len(self._running) < self._maximum + reserve and (
            of_address is None or self._running_of(connection.host) < of_address + reserve
        )

    def _running_of(self, host: str | None) -> int:
        return len(self._running) if host is None else sum(one.host == host for one in self._running)

    def _of_others(self) -> set[Connection]:
        """Return the open connections, except that of the request that runs on the calling thread."""
        own = threading.get_ident()
        return set(self._waiting) | {connection for connection in self._running if connection.thread != own}
