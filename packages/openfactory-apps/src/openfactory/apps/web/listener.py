"""Open the port of an app."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv6Address

from openfactory.exceptions import ConfigurationError

__all__ = ["checked_port", "listening_socket"]

# Connections that the system queues while the server is busy.
_BACKLOG = 1024

_HIGHEST_PORT = 65_535


def checked_port(port: int) -> int:
    """Return a port if its number is valid.

    Raises:
        ConfigurationError: the number is not valid.
    """
    if not 0 <= port <= _HIGHEST_PORT:
        raise ConfigurationError(f"PORT={port} is not a port number. Set a number from 0 to {_HIGHEST_PORT}.")
    return port


def listening_socket(host: str, port: int) -> socket.socket:
    """Open a port and listen on it; port 0 selects a free port.

    The host `::` is every address of the machine, of IPv4 too where the system supports that.

    Raises:
        ConfigurationError: the port cannot be opened.
    """
    try:
        if ":" not in host:
            return socket.create_server((host, port), backlog=_BACKLOG)
        both = _is_every_address(host) and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"Port {port} is taken by another program. Stop that program, or set PORT to a free port."
        elif error.errno == errno.EACCES:
            text = f"Port {port} may not be opened by this user. Set PORT to a number above 1023."
        else:
            text = (
                f"Port {port} of {host!r} cannot be opened: {error.strerror}. Pass host='0.0.0.0' or an address of "
                "this machine, and set PORT to a free port."
            )
        raise ConfigurationError(text) from error


def _is_every_address(host: str) -> bool:
    try:
        return IPv6Address(host).is_unspecified
    except ValueError:  # no address; the system says what is wrong with it
        return False
