"""Ports of this machine for apps."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

__all__ = ["chosen_port"]

# Below the range from which systems give ports to outgoing connections, so that one of those does not take the port
# while its app is restarted.
_FREE = range(20_000, 32_000)

_TRIES = 200


def chosen_port(wanted: int, reserved: Collection[int]) -> int:
    """Return a port if it is free, and another free port otherwise.

    Args:
        wanted: the port; 0 stays 0, with which the app selects one itself.
        reserved: ports of other apps, which may be about to open them.

    Raises:
        OSError: no free port was found.
    """
    if wanted == 0 or (wanted not in reserved and _is_free(wanted)):
        return wanted
    for port in random.sample(_FREE, _TRIES):
        if port not in reserved and _is_free(port):
            return port
    raise OSError(f"{_TRIES} ports from {_FREE.start} to {_FREE.stop} are in use. Stop programs that hold them.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection that has ended (TIME_WAIT) does not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except PermissionError:
            return True  # the app may have the right, and its own error tells more
        except OSError:
            return False
    return True
