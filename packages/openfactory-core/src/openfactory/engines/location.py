"""The URL of an engine in its parts, and the servers of an engine: from its URL, from its user or the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from openfactory.exceptions import ConfigurationError
from openfactory.settings import environment
from openfactory.settings.characters import fault_in
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import is_secret, redacted

__all__ = ["EMBEDDED", "HTTP", "Location", "ResolvedServers", "Servers", "scheme_of"]

#: Schemes of the engine without servers.
EMBEDDED = ("memory", "sqlite")

#: Schemes of a ksqlDB server.
HTTP = ("http", "https")

_BROKER = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+)(:\d{1,5})?")
_KAFKA_PORT = 9092
_KSQLDB_PORT = 8088


@lru_cache(maxsize=64)  # each asset that is watched has the URL of its engine, mostly the same
def scheme_of(url: str) -> str:
    """Return the part of a URL before `://` in lower case, or an empty text if the URL has no scheme.

    Raises:
        ConfigurationError: the URL is in quotes, or contains a character that cannot be seen.
    """
    if fault := fault_in(url):
        raise ConfigurationError(f"The URL {redacted(url)!r} {fault}")
    return url.partition("://")[0].lower() if "://" in url else ""


@dataclass(frozen=True, slots=True)
class Location:
    """The parts of a URL of an engine.

    Attributes:
        url: the whole URL, with the secrets in it.
        scheme: the part before `://` in lower case; empty if the URL has no scheme.
        userinfo: user name and password, as they are in the URL.
        host: the part between the login and the path: a server, brokers, or the beginning of a name.
        path: the path, as it is in the URL.
        query: the part after the `?`.
    """

    url: str = field(repr=False)
    scheme: str
    userinfo: str = field(repr=False)
    host: str
    path: str
    query: str = field(repr=False)

    @classmethod
    @lru_cache(maxsize=64)  # as above
    def of(cls, url: str) -> Location:
        """Parse a URL.

        >>> Location.of("kafka://one,two:9093?prefix=plant2_").brokers
        'one:9092,two:9093'

        Raises:
            ConfigurationError: the host in the URL is not valid.
        """
        scheme = scheme_of(url)
        try:
            parts = urlsplit(url, allow_fragments=scheme in HTTP)
        except ValueError:
            # Not chained: the text of the ValueError may contain a part of a password.
            example = "kafka://host:9092" if scheme == "kafka" else "http://host:8088"
            raise ConfigurationError(f"{redacted(url)} has an invalid host or port. Write {example}.") from None
        userinfo, _, host = parts.netloc.rpartition("@")
        return cls(url, scheme, userinfo, host, parts.path, parts.query)

    @property
    def options(self) -> dict[str, str]:
        """The options after the `?`; a repeated option has its last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def typed_options(self, converters: Mapping[str, Callable[[str], Any]], usage: str) -> dict[str, Any]:
        """Return the options, each converted by the function of its name.

        Args:
            converters: functions that raise a ValueError for an invalid text.
            usage: list of the options, for the error.

        Raises:
            ConfigurationError: an option is unknown or not valid.
        """
        values: dict[str, Any] = {}
        for name, text in self.options.items():
            try:
                values[name] = converters[name](text)
            except (KeyError, ValueError) as error:
                shown = "***" if is_secret(name) else repr(text)
                raise ConfigurationError(
                    f"{redacted(self.url)} has the invalid option {name}={shown}. The options are {usage}."
                ) from error
        return values

    @property
    def brokers(self) -> str:
        """Addresses of the brokers in a `kafka://` URL, each with its port.

        Raises:
            ConfigurationError: the URL has no valid broker, or a user or password.
        """
        if self.userinfo:
            raise ConfigurationError(
                "A kafka:// URL must not contain a user or a password, because it appears in logs. "
                "Set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD."
            )
        brokers = [_BROKER.fullmatch(broker.strip()) for broker in self.host.split(",")]
        if self.path.strip("/") or None in brokers:
            raise ConfigurationError(
                f"{redacted(self.url)} does not name a broker. Write kafka://host:9092. "
                "Several brokers have commas between them: kafka://one:9092,two:9092."
            )
        return ",".join(f"{broker[1]}{broker[2] or f':{_KAFKA_PORT}'}" for broker in brokers if broker)

    @property
    def server(self) -> str:
        """Address of a ksqlDB server, without login and options.

        Raises:
            ConfigurationError: the URL is not the address of a server.
        """
        shown = redacted(self.url)
        if self.scheme not in HTTP:
            raise ConfigurationError(f"{shown} is not the address of a ksqlDB server. Write http://host:8088.")
        parts = urlsplit(f"//{self.host}")
        try:
            port = parts.port or _KSQLDB_PORT
        except ValueError:
            raise ConfigurationError(f"{shown} has an invalid host or port. Write http://host:8088.") from None
        if not parts.hostname:
            raise ConfigurationError(f"{shown} has no host. Write http://host:8088.")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return f"{self.scheme}://{host}:{port}{self.path.rstrip('/')}"

    @property
    def ksqldb_url(self) -> str | None:
        """The URL without its options if it names a ksqlDB server, else None."""
        return self.url.partition("?")[0] if self.scheme in HTTP else None

    @property
    def login(self) -> tuple[str, str] | None:
        """User name and password in the URL, or None."""
        user, _, password = self.userinfo.partition(":")
        return (unquote(user), unquote(password)) if user or password else None


class Servers(NamedTuple):
    """Servers and credentials that a URL does not contain.

    If a field that an engine needs is None, `resolve` takes it from the environment.

    Attributes:
        bootstrap_servers: address of the Kafka broker.
        asset_router_url: address of the asset router.
        credentials: user names, secrets and certificates.
    """

    bootstrap_servers: str | None = None
    asset_router_url: str | None = None
    credentials: Credentials | None = None

    def __repr__(self) -> str:
        return redacted(f"{type(self).__name__}{tuple(self)}")

    @classmethod
    def of(cls, client: object, bootstrap_servers: str | None = None, asset_router_url: str | None = None) -> Servers:
        """Return the servers in the arguments, and those of a client where an argument is missing.

        Raises:
            ConfigurationError: an argument has the place of another; the clients of early apps were the second one.
        """
        if isinstance(client, str):
            raise ConfigurationError(
                f"The client is {redacted(client)!r}, a text. Pass an object, such as "
                "KSQLDBClient('http://ksqldb:8088'), and the UUID of an app as app_uuid= or in APP_UUID."
            )
        given: dict[str, object] = {"bootstrap_servers": bootstrap_servers, "asset_router_url": asset_router_url}
        for name, address in given.items():
            if address is None:
                continue
            if not isinstance(address, str):
                raise ConfigurationError(
                    f"{name} is a {type(address).__name__} and not the text of an address. Pass the client as "
                    f"ksqlClient=, the UUID of an app as app_uuid= or in APP_UUID, and {name}= as text."
                )
            if fault := fault_in(address):
                raise ConfigurationError(f"{name}={redacted(address)!r} {fault}")
        return cls(
            bootstrap_servers or getattr(client, "bootstrap_servers", None),
            asset_router_url or getattr(client, "asset_router_url", None),
            getattr(client, "credentials", None),
        )

    def resolve(self, url: str = "") -> ResolvedServers:
        """Return all that an engine needs to connect.

        The brokers in a URL come first, because apps pass the value of KAFKA_BROKER for every URL. Then come these
        fields, and then the environment.

        >>> Servers("other:9092").resolve("kafka://plant").bootstrap_servers
        'plant:9092'

        Raises:
            ConfigurationError: the URL is not valid.
        """
        location = Location.of(url)
        brokers = location.brokers if location.scheme == "kafka" else None
        return ResolvedServers(
            location,
            _without_login(brokers or self.bootstrap_servers or environment("KAFKA_BROKER")),
            self.asset_router_url or environment("ASSET_ROUTER_URL"),
            self.credentials,
        )


def _without_login(brokers: str | None) -> str | None:
    if brokers and "@" in brokers:
        raise ConfigurationError(
            "The address of a broker must not contain a user or a password, because it appears in logs. "
            "Set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD."
        )
    return brokers


class ResolvedServers(NamedTuple):
    """A URL, and the servers and credentials for it.

    Attributes:
        location: the URL in its parts.
        bootstrap_servers: addresses of the Kafka brokers, or None.
        asset_router_url: address of the asset router, or None.
        given_credentials: credentials, or None for those of the environment.
    """

    location: Location
    bootstrap_servers: str | None
    asset_router_url: str | None
    given_credentials: Credentials | None

    def __repr__(self) -> str:
        return redacted(f"{type(self).__name__}{tuple(self)}")

    @property
    def credentials(self) -> Credentials:
        """User names, secrets and certificates. The environment is not read earlier, because files need no login.

        Raises:
            ConfigurationError: the variables in the environment are not valid.
        """
        return self.given_credentials or Credentials.from_environment()
