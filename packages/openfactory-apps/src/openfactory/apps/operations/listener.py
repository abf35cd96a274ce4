"""Open the ports of an app."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv6Address

from openfactory.exceptions import ConfigurationError
from openfactory.settings import integer, setting

__all__ = ["PortError", "checked_port", "listening_socket", "operations_port_of"]

# Connections that the system queues while the server is busy.
_BACKLOG = 1024

_HIGHEST_PORT = 65_535

_OPERATIONS_PORT = "OPERATIONS_PORT"


class PortError(ConfigurationError):
    """The port of an app cannot be opened."""


def operations_port_of(port: int | None) -> int | None:
    """Return the operations port, by default OPERATIONS_PORT, or None for an app without this port.

    Raises:
        ConfigurationError: the number is not valid.
    """
    if port is None and setting(_OPERATIONS_PORT) is not None:
        port = integer(_OPERATIONS_PORT)
    return None if port is None else checked_port(port, _OPERATIONS_PORT)


def checked_port(port: int, variable: str = "PORT") -> int:
    """Return a port if its number is valid.

    Args:
        port: number of the port.
        variable: environment variable that sets the port, for the error text.

    Raises:
        ConfigurationError: the number is not valid.
    """
    if not 0 <= port <= _HIGHEST_PORT:
        raise ConfigurationError(f"{variable}={port} is not a port number. Set a number from 0 to {_HIGHEST_PORT}.")
    return port


def listening_socket(host: str, port: int, variable: str = "PORT") -> socket.socket:
    """Open a port and listen on it; port 0 selects a free port.

    The host `::` is every address of the machine, of IPv4 too where the system supports that.

    Args:
        host: address of this machine.
        port: number of the port.
        variable: environment variable that sets the port, for the error text.

    Raises:
        PortError: the port cannot be opened.
    """
    try:
        if ":" not in host:
            return socket.create_server((host, port), backlog=_BACKLOG)
        both = _is_every_address(host) and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"Port {port} is taken by another program. Stop that program, or set {variable} to a free port."
        elif error.errno == errno.EACCES:
            text = f"Port {port} may not be opened by this user. Set {variable} to a number above 1023."
        else:
            text = (
                f"Port {port} of {host!r} cannot be opened: {error.strerror}. Set OPENFACTORY_HOST to 0.0.0.0 or an "
                f"address of this machine, and set {variable} to a free port."
            )
        raise PortError(text) from error


def _is_every_address(host: str) -> bool:
    try:
        return IPv6Address(host).is_unspecified
    except ValueError:  # no address; the system says what is wrong with it
        return False
