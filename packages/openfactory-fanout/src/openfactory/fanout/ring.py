"""The consistent hash that gives each asset one of the NATS clusters."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from hashlib import sha256

__all__ = ["VIRTUAL_NODES", "HashRing"]

#: Points of each node on the ring. The programs of a factory must agree on the number.
VIRTUAL_NODES = 128


class HashRing:
    """Consistent hash over nodes: a new node takes keys from all others, and no key moves between the others.

    The existing asset router and forwarder place assets by the same rule. The order of the nodes does not matter.

    >>> HashRing(["C1", "C2"]).node_of("OPCUA-SENSOR-001")
    'C1'
    >>> HashRing(["C1", "C2", "C3"]).node_of("OPCUA-SENSOR-001")
    'C3'

    Args:
        nodes: names of the nodes.
        virtual_nodes: points of each node on the ring.

    Attributes:
        nodes: names of the nodes, sorted.

    Raises:
        ValueError: the ring would not have a point.
    """

    def __init__(self, nodes: Iterable[str], virtual_nodes: int = VIRTUAL_NODES) -> None:
        self.nodes = tuple(sorted(set(nodes)))
        if not self.nodes or virtual_nodes < 1:
            raise ValueError("A hash ring needs a node with a point. Pass the name of a node, and virtual_nodes=128.")
        points = sorted((_hash(f"{node}::{number}"), node) for node in self.nodes for number in range(virtual_nodes))
        self._points = [point for point, _ in points]
        self._owners = [node for _, node in points]

    def node_of(self, key: str | bytes) -> str:
        """Return the node of a key, such as the UUID of an asset as it is spelled, or the key of its Kafka record."""
        return self._owners[bisect_right(self._points, _hash(key)) % len(self._points)]


def _hash(key: str | bytes) -> bytes:
    """Return the digest of a key; all digests have one length, so they compare as the numbers that they encode."""
    return sha256(key.encode() if isinstance(key, str) else key).digest()
