"""The environment variables of the services, and the NATS clusters that they name."""

from __future__ import annotations

from openfactory.exceptions import ConfigurationError
from openfactory.fanout.ring import VIRTUAL_NODES, HashRing
from openfactory.settings import Variable, declare, integer, nats_clusters

__all__ = ["VARIABLES", "clusters_from_environment", "ring_from_environment"]

VARIABLES = (
    Variable(
        "HASH_RING_REPLICAS",
        str(VIRTUAL_NODES),
        "Points of each NATS cluster on the hash ring; the same for all routers and forwarders of a factory.",
    ),
)
declare(VARIABLES)


def clusters_from_environment() -> dict[str, tuple[str, ...]]:
    """Return the servers of each NATS cluster in `NATS_CLUSTER_<NAME>`, by its name.

    Raises:
        ConfigurationError: no variable names a server, or a value is not valid.
    """
    clusters = nats_clusters()
    if not clusters:
        raise ConfigurationError(
            "No NATS cluster is configured. Set NATS_CLUSTER_<NAME> for each cluster to its servers, with commas "
            "between them: NATS_CLUSTER_C1=nats://one:4222,nats://two:4222."
        )
    return clusters


def ring_from_environment() -> HashRing:
    """Return the hash ring over the NATS clusters in the environment.

    Raises:
        ConfigurationError: no cluster is configured, or a value is not valid.
    """
    points = integer("HASH_RING_REPLICAS")
    if points < 1:
        raise ConfigurationError(f"HASH_RING_REPLICAS={points} is not above 0. Unset it to use {VIRTUAL_NODES}.")
    return HashRing(clusters_from_environment(), points)
