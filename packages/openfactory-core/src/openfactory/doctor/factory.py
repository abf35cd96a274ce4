"""The servers of a factory, named by its URL and the environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from openfactory.engines.kafka_engine.topics import check_prefix
from openfactory.engines.location import EMBEDDED, Servers, scheme_of
from openfactory.exceptions import ConfigurationError
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

__all__ = ["Factory"]


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
        resolved = (servers or Servers()).resolve(url)
        location, credentials = resolved.location, resolved.credentials
        prefix = check_prefix(location.options.get("prefix", ""))
        if location.scheme in EMBEDDED:
            return cls(url, credentials)
        if location.scheme == "kafka":
            return cls(url, credentials, resolved.bootstrap_servers, prefix=prefix)
        if location.ksqldb_url:
            broker, router = resolved.bootstrap_servers, resolved.asset_router_url
            return cls(url, credentials, broker, location.ksqldb_url, router, prefix)
        raise ConfigurationError(
            f"{redacted(url)!r} is not the URL of a factory. Set KSQLDB_URL to sqlite:///factory.db, "
            "kafka://host:9092 or http://ksqldb:8088."
        )

    @property
    def is_embedded(self) -> bool:
        """Whether the factory is in a file or in memory, without servers."""
        return scheme_of(self.url) in EMBEDDED

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
