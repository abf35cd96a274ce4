"""Ports for servers that are stopped and started again on the same one."""

from __future__ import annotations

import random
import socket

__all__ = ["HOST", "answers", "free_port"]

#: Nothing that a test starts can be reached from another machine.
HOST = "127.0.0.1"

# Below the range from which systems give ports to outgoing connections. A port of that range may be taken while the
# server is down, even by a client that tries to reach the server: it would then be connected to itself.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A port that nobody uses, and that no outgoing connection will be given."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            # As servers do: what an earlier connection left behind (TIME_WAIT) is no reason to go elsewhere.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"100 ports between {_PORTS.start} and {_PORTS.stop} are all in use. Stop what holds them.")


def answers(port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
