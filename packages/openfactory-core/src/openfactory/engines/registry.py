"""Engines by URL: a table of schemes, and one shared engine for each location in a process."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast

from openfactory.engines.base import Engine
from openfactory.engines.location import Location, Servers, scheme_of
from openfactory.exceptions import ConfigurationError, MissingDistributionError, OpenFactoryError
from openfactory.settings import setting
from openfactory.settings.redaction import redacted

__all__ = ["ENTRY_POINT_GROUP", "Client", "EngineReference", "engine_schemes", "open_engine", "open_engine_of"]

#: Entry points by which other distributions add engines: name = scheme, value = `module:class`.
ENTRY_POINT_GROUP = "openfactory.engines"

_logger = logging.getLogger("openfactory.engines")

# Scheme → class, and the command that installs it. Alphabetical.
_KNOWN: dict[str, tuple[str, str]] = {
    "http": ("openfactory.engines.ksqldb.engine:KsqlDBEngine", "pip install openfactory-core"),
    "https": ("openfactory.engines.ksqldb.engine:KsqlDBEngine", "pip install openfactory-core"),
    "kafka": ("openfactory.engines.kafka_engine.engine:KafkaEngine", "pip install openfactory-core"),
    "memory": ("openfactory.engines.embedded.engine:EmbeddedEngine", "pip install openfactory-core"),
    "sqlite": ("openfactory.engines.embedded.engine:EmbeddedEngine", "pip install openfactory-core"),
}


class _EngineClass(Protocol):
    def location(self, url: str, servers: Servers) -> str: ...

    def __call__(self, url: str, servers: Servers) -> Engine: ...


class Client(Protocol):
    """Object that names the engine for an asset or a tool, such as a `KSQLDBClient`."""

    ksqldb_url: str


class _Shared:
    """An engine and the number of its references."""

    def __init__(self, engine: Engine, servers: Servers) -> None:
        self.engine = engine
        self.servers = servers
        self.references = 0


_lock = threading.RLock()
_open: dict[str, _Shared] = {}


class EngineReference:
    """Reference to a shared engine. Closing the last reference closes the engine. Also a context manager.

    Attributes:
        engine: the shared engine.
    """

    def __init__(self, location: str, engine: Engine) -> None:
        self.engine = engine
        self._location = location
        self._closed = False

    def __enter__(self) -> EngineReference:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self, timeout: float = 5.0) -> None:
        """Release the reference. A second call does nothing.

        Args:
            timeout: seconds to wait for the engine to close.

        Raises:
            DeliveryError, DeliveryTimeout: it was the last reference, and published events could not be written.
        """
        with _lock:
            if self._closed:
                return
            self._closed = True
            shared = _open.get(self._location)
            if shared is None or shared.engine is not self.engine:
                return
            shared.references -= 1
            if shared.references:
                return
            del _open[self._location]
        self.engine.close(timeout)


def open_engine(url: str, servers: Servers | None = None) -> EngineReference:
    """Return a reference to the engine that a URL names. The first reference opens the engine.

    >>> with open_engine("memory://example") as reference:
    ...     reference.engine.tables()[0]
    'ASSETS'

    Args:
        url: location of the engine and its options, such as `sqlite:///factory.db`.
        servers: servers and credentials that the URL does not contain. Missing fields come from the environment.

    Raises:
        ConfigurationError: the URL is not valid, or its engine is open with other options or credentials.
        EngineUnavailableError: the location cannot be reached or opened.
        MissingDistributionError: the engine for the scheme is not installed.
    """
    servers = servers or Servers()
    engine_class = _engine_class(url)
    location = engine_class.location(url, servers)
    with _lock:
        shared = _open.get(location)
        if shared is None:
            shared = _open[location] = _Shared(engine_class(url, servers), servers)
        elif _differ(shared, url, servers):
            raise ConfigurationError(
                f"{redacted(url)} is already open in this process as {redacted(shared.engine.url)}. "
                "Use the same options and credentials for both."
            )
        shared.references += 1
        return EngineReference(location, shared.engine)


def open_engine_of(
    client: Client | None, bootstrap_servers: str | None = None, asset_router_url: str | None = None
) -> EngineReference:
    """Return a reference to the engine that a client names, or KSQLDB_URL if the client does not.

    Raises:
        ConfigurationError: neither the client nor KSQLDB_URL names an engine.
        EngineUnavailableError: the location cannot be reached or opened.
    """
    url = getattr(client, "ksqldb_url", None) or setting("KSQLDB_URL")
    if not url:
        raise ConfigurationError(
            "The URL of the engine is missing. Pass ksqlClient=KSQLDBClient('sqlite:///factory.db'), or set KSQLDB_URL."
        )
    return open_engine(str(url), Servers.of(client, bootstrap_servers, asset_router_url))


def _differ(shared: _Shared, url: str, servers: Servers) -> bool:
    if url == shared.engine.url and servers == shared.servers:
        return False
    opened, location = Location.of(shared.engine.url), Location.of(url)
    if (opened.userinfo, opened.query) != (location.userinfo, location.query):
        return True
    # None stands for the credentials of the environment, which may equal those that were passed.
    return (
        shared.servers.credentials != servers.credentials
        and shared.servers.resolve().credentials != servers.resolve().credentials
    )


def engine_schemes() -> MappingProxyType[str, str]:
    """Return the class for each URL scheme, including the schemes of other distributions."""
    known = {scheme: target for scheme, (target, _) in _KNOWN.items()}
    return MappingProxyType(known | _entry_points())


def _engine_class(url: str) -> _EngineClass:
    scheme = scheme_of(url)
    target, hint = _KNOWN.get(scheme) or (_entry_points().get(scheme), "")
    if target is None:
        raise ConfigurationError(
            f"{redacted(url)!r} does not name an engine: its scheme is not one of "
            f"{', '.join(sorted(engine_schemes()))}. Set KSQLDB_URL to sqlite:///factory.db to run without any server."
        )
    module, _, name = target.partition(":")
    try:
        return cast(_EngineClass, getattr(import_module(module), name))
    except (ImportError, AttributeError) as error:
        raise MissingDistributionError(
            f"The engine for {scheme}:// cannot be loaded ({error}). Install it: {hint or 'see its documentation'}."
        ) from error


def _entry_points() -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    return {entry_point.name: entry_point.value for entry_point in entry_points(group=ENTRY_POINT_GROUP)}


def _reset_lock_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held the lock


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock_in_child)


@atexit.register
def _close_all() -> None:
    """Close the engines that are still open at exit, so that published events are written."""
    with _lock:
        remaining = list(_open.values())
        _open.clear()
    for shared in remaining:
        try:
            shared.engine.close()
        except OpenFactoryError as error:
            _logger.error("%s was not closed cleanly: %s", redacted(shared.engine.url), error)
