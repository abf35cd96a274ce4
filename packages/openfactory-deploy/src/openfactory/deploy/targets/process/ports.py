"""Ports of this machine for apps and their gateway."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

__all__ = ["chosen_port", "free_port", "is_free"]

# Below the range from which systems give ports to outgoing connections, so that one of those does not take the port
# while its program is restarted.
_FREE = range(20_000, 32_000)

_TRIES = 200

_EVERY_ADDRESS = "0.0.0.0"


def chosen_port(wanted: int, reserved: Collection[int]) -> int:
    """Return a port if it is free, and another free port otherwise.

    Args:
        wanted: the port; 0 stays 0, with which the app selects one itself.
        reserved: ports of other apps, which may be about to open them.

    Raises:
        OSError: no free port was found.
    """
    if wanted == 0 or (wanted not in reserved and _may_be_free(wanted)):
        return wanted
    return free_port(_EVERY_ADDRESS, reserved)


def free_port(host: str, reserved: Collection[int] = ()) -> int:
    """Return a free port of an address.

    Args:
        host: the address; one of IPv6 may have brackets.
        reserved: ports that are not to be returned.

    Raises:
        OSError: no free port was found.
    """
    for port in random.sample(_FREE, _TRIES):
        if port not in reserved and is_free(host, port):
            return port
    raise OSError(f"{_TRIES} ports from {_FREE.start} to {_FREE.stop} are in use. Stop programs that hold them.")


def is_free(host: str, port: int) -> bool:
    """Return whether this process can open a port of an address."""
    try:
        _open(host, port)
    except OSError:
        return False
    return True


def _may_be_free(port: int) -> bool:
    try:
        _open(_EVERY_ADDRESS, port)
    except PermissionError:
        return True  # the app may have the right, and its own error tells more
    except OSError:
        return False
    return True


def _open(host: str, port: int) -> None:
    bare = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET) as probe:
        # As servers do: a connection that has ended (TIME_WAIT) does not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((bare, port))
