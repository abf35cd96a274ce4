"""The port of an app: opened with errors that say what to do, and a word for those who come when it is full."""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from contextlib import suppress

from openfactory.exceptions import ConfigurationError

__all__ = ["Refusals", "listening_socket"]

# Connections that the system keeps while the server is busy taking others.
_BACKLOG = 1024

_COME_BACK = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 42\r\n\r\n"
    b"All connections are taken. Come back later"
)

# A refused client gets so long to read that, in seconds; of those that do, so many are kept at once.
_READING_SECONDS = 5.0
_KEPT = 32


def listening_socket(host: str, port: int) -> socket.socket:
    """Open a port to listen on.

    Raises:
        ConfigurationError: it cannot be opened.
    """
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


class Refusals:
    """Connections that are told to come back later, without a thread and without a wait.

    They are closed a moment later: who still sends its request to a closed connection gets an error, not the answer.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[float, socket.socket]] = deque()

    def refuse(self, connection: socket.socket) -> None:
        """Answer it."""
        connection.setblocking(False)
        with suppress(OSError):  # it has left, or takes nothing
            connection.send(_COME_BACK)
            connection.shutdown(socket.SHUT_WR)
        self._kept.append((time.monotonic() + _READING_SECONDS, connection))
        if len(self._kept) > _KEPT:
            self._close_oldest()

    def close_old(self) -> None:
        """Close those that have had their time."""
        while self._kept and self._kept[0][0] < time.monotonic():
            self._close_oldest()

    def close(self) -> None:
        """Close them all."""
        while self._kept:
            self._close_oldest()

    def _close_oldest(self) -> None:
        _, connection = self._kept.popleft()
        connection.close()
