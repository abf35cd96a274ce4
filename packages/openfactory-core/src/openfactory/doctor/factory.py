"""The servers of a factory, named by its URL and the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from openfactory.engines.base import Servers
from openfactory.engines.kafka_engine.topics import check_prefix
from openfactory.exceptions import ConfigurationError
from openfactory.settings import environment
from openfactory.settings.credentials import Credentials, redacted

__all__ = ["Factory"]

_KSQLDB = ("http", "https")
_EMBEDDED = ("memory", "sqlite")


@dataclass(frozen=True, slots=True)
class Factory:
    """The servers of a factory, None for a server that it does not use.

    Attributes:
        url: location of the data, including the secrets in the URL.
        credentials: logins for the servers.
        bootstrap_servers: address of the Kafka broker.
        ksqldb_url: address of the ksqlDB server.
        asset_router_url: address of the asset router.
        prefix: stands before the names of all topics.
    """

    url: str = field(repr=False)
    credentials: Credentials
    bootstrap_servers: str | None = None
    ksqldb_url: str | None = field(default=None, repr=False)
    asset_router_url: str | None = field(default=None, repr=False)
    prefix: str = ""

    @classmethod
    def of(cls, url: str, servers: Servers | None = None) -> Factory:
        """Return the factory that a URL names.

        A server that the URL does not name comes from `servers`, else from the environment.

        >>> Factory.of("kafka://plant:9092?prefix=hall2_").bootstrap_servers
        'plant:9092'

        Raises:
            ConfigurationError: the URL is not that of a factory, or does not name a broker.
        """
        servers = servers or Servers()
        parts = urlsplit(url)
        broker = servers.bootstrap_servers or environment("KAFKA_BROKER")
        router = servers.asset_router_url or environment("ASSET_ROUTER_URL")
        credentials = servers.credentials or Credentials.from_environment()
        prefix = check_prefix(parse_qs(parts.query).get("prefix", [""])[-1])
        if parts.scheme == "kafka":
            return cls(url, credentials, _checked_address(parts.netloc.rpartition("@")[2], url), prefix=prefix)
        if parts.scheme in _KSQLDB:
            return cls(url, credentials, broker, url.partition("?")[0], router, prefix)
        if parts.scheme in _EMBEDDED:
            return cls(url, credentials)
        raise ConfigurationError(
            f"{redacted(url)!r} is not the URL of a factory. Set KSQLDB_URL to sqlite:///factory.db, "
            "kafka://host:9092 or http://ksqldb:8088."
        )

    @property
    def is_embedded(self) -> bool:
        """Whether the factory is in a file or in memory, without servers."""
        return urlsplit(self.url).scheme in _EMBEDDED

    @property
    def kafka(self) -> dict[str, object]:
        """Configuration properties for librdkafka."""
        return {"bootstrap.servers": self.bootstrap_servers or "", **self.credentials.kafka()}

    @property
    def engine(self) -> str:
        """Readable name of the engine, for a report."""
        if self.is_embedded:
            return "the embedded engine"
        if self.ksqldb_url is None:
            return "Kafka alone"
        return "Kafka and ksqlDB" if self.asset_router_url is None else "Kafka, ksqlDB and NATS"


def _checked_address(address: str, url: str) -> str:
    if not address:
        raise ConfigurationError(f"{redacted(url)} does not name a broker. Write kafka://host:9092.")
    return address
