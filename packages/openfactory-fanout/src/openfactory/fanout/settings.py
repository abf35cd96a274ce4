"""The environment variables of the services, and the NATS clusters that they name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from urllib.parse import quote

from openfactory.engines.location import HTTP, Location, Servers
from openfactory.exceptions import ConfigurationError
from openfactory.fanout.ring import VIRTUAL_NODES, HashRing
from openfactory.settings import Variable, declare, environment, integer, nats_clusters, seconds, setting

__all__ = [
    "VARIABLES",
    "begins_at_begin",
    "clusters_from_environment",
    "kafka_url",
    "log_url",
    "ring_of",
    "service_uuid",
    "session_seconds",
]

# Shortest session of a member of a consumer group that a broker may be configured to accept, in seconds.
_SHORTEST_SESSION = 0.5

VARIABLES = (
    Variable(
        "ASSET_FORWARDER_SESSION_TIMEOUT",
        "6",
        "Seconds after which the partitions of an asset forwarder that is gone go to another one; brokers accept 6 or "
        "more by default.",
    ),
    Variable(
        "HASH_RING_REPLICAS",
        str(VIRTUAL_NODES),
        "Points of each NATS cluster on the hash ring; the same for all routers and forwarders of a factory.",
    ),
    Variable("LOG_LEVEL", "INFO", "Level of the log of a service of `ofa fanout`, such as `DEBUG` or `WARNING`."),
    Variable(
        "KAFKA_AUTO_OFFSET_RESET",
        "latest",
        "Where asset forwarders begin that have never run: at the end of the log (`latest`) or its begin (`earliest`).",
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


def ring_of(clusters: Iterable[str]) -> HashRing:
    """Return the hash ring over NATS clusters, with the number of points in the environment.

    Args:
        clusters: names of the clusters.

    Raises:
        ConfigurationError: the number of points is not valid.
    """
    points = integer("HASH_RING_REPLICAS")
    if points < 1:
        raise ConfigurationError(f"HASH_RING_REPLICAS={points} is not above 0. Unset it to use {VIRTUAL_NODES}.")
    return HashRing(clusters, points)


def kafka_url() -> str | None:
    """Return the `kafka://` URL of the factory, or None if the environment names no Kafka.

    It is KSQLDB_URL, or the brokers in KAFKA_BROKER with the prefix in KSQLDB_URL. So a service needs neither the
    ksqlDB of its factory, nor the asset router that it may be itself.

    Raises:
        ConfigurationError: a value is not valid.
    """
    location = Location.of(environment("KSQLDB_URL") or "")
    if location.scheme == "kafka":
        return location.url
    brokers = Servers().resolve().bootstrap_servers
    if brokers is None or location.scheme not in ("", *HTTP):
        return None
    prefix = location.options.get("prefix")
    return f"kafka://{brokers}" + (f"?prefix={quote(prefix)}" if prefix else "")


def log_url(service: str) -> str:
    """Return the `kafka://` URL of the factory.

    Args:
        service: name of the service that needs it, for the error.

    Raises:
        ConfigurationError: the environment names no Kafka, or a value is not valid.
    """
    url = kafka_url()
    if url is None:
        raise ConfigurationError(
            f"The {service} needs a Kafka. Set KSQLDB_URL to kafka://host:9092, or KAFKA_BROKER to host:9092."
        )
    return url


def begins_at_begin() -> bool:
    """Return whether a forwarder that has never run begins at the begin of the log, as KAFKA_AUTO_OFFSET_RESET says.

    Raises:
        ConfigurationError: the value is not valid.
    """
    value = setting("KAFKA_AUTO_OFFSET_RESET")
    if value not in ("latest", "earliest"):
        raise ConfigurationError(f"KAFKA_AUTO_OFFSET_RESET={value!r} is not a known value. Write latest or earliest.")
    return value == "earliest"


def session_seconds() -> float:
    """Return the seconds after which the partitions of a forwarder that is gone go to another one.

    Raises:
        ConfigurationError: the value is not valid.
    """
    return seconds("ASSET_FORWARDER_SESSION_TIMEOUT", shortest=_SHORTEST_SESSION, longest=300.0)


def service_uuid(service: str) -> str | None:
    """Return a UUID for this process of a service, or None if APP_UUID has it.

    Each of several processes has a UUID of its own, because an asset has one owner.
    """
    if environment("APP_UUID"):
        return None
    return f"{service}-{socket.gethostname().partition('.')[0]}-{os.getpid()}"
