"""Refuse connections above the limit."""

from __future__ import annotations

import socket
import time
from collections import deque
from contextlib import suppress

__all__ = ["Refusals"]

_SERVICE_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 42\r\n\r\n"
    b"All connections are taken. Come back later"
)

# A refused connection stays open this long, in seconds, so that the client can read the response.
_READING_SECONDS = 5.0
_MAX_OPEN = 32


class Refusals:
    """Refused connections, which get the status 503 without a thread and without waiting.

    They are closed a few seconds later: a client that still sends its request to a closed connection gets an error
    instead of the response.
    """

    def __init__(self) -> None:
        self._open: deque[tuple[float, socket.socket]] = deque()

    def refuse(self, connection: socket.socket) -> None:
        """Send the status 503 to a connection."""
        connection.setblocking(False)
        with suppress(OSError):  # the client has closed the connection, or does not read
            connection.send(_SERVICE_UNAVAILABLE)
            connection.shutdown(socket.SHUT_WR)
        self._open.append((time.monotonic() + _READING_SECONDS, connection))
        if len(self._open) > _MAX_OPEN:
            self._close_oldest()

    def close_old(self) -> None:
        """Close the connections whose time to read is over."""
        while self._open and self._open[0][0] < time.monotonic():
            self._close_oldest()

    def close(self) -> None:
        """Close all refused connections."""
        while self._open:
            self._close_oldest()

    def _close_oldest(self) -> None:
        _, connection = self._open.popleft()
        connection.close()
