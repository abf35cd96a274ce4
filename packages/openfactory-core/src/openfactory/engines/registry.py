"""How a URL becomes an engine: a table by scheme, and one shared engine a process for each place."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from importlib import import_module
from types import MappingProxyType
from typing import Protocol, cast
from urllib.parse import urlsplit

from openfactory.engines.base import Engine, Servers
from openfactory.exceptions import ConfigurationError, MissingDistributionError, OpenFactoryError
from openfactory.settings import setting
from openfactory.settings.credentials import Credentials, redacted

__all__ = ["ENTRY_POINT_GROUP", "EngineReference", "engine_schemes", "open_engine", "open_engine_of"]

#: Other distributions add engines here: name = scheme, value = `module:class`.
ENTRY_POINT_GROUP = "openfactory.engines"

_logger = logging.getLogger("openfactory.engines")

# Scheme → class, and what installs it; alphabetical.
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


class _Client(Protocol):
    """What an asset or a tool is given to name the place of the data."""

    ksqldb_url: str


class _Shared:
    """An engine and how many hold it."""

    def __init__(self, engine: Engine, servers: Servers) -> None:
        self.engine = engine
        self.servers = servers
        self.holders = 0


_lock = threading.RLock()
_open: dict[str, _Shared] = {}


class EngineReference:
    """A share of an engine; the one that is given back last closes it. Also a context manager."""

    def __init__(self, place: str, engine: Engine) -> None:
        self.engine = engine
        self._place = place
        self._closed = False

    def __enter__(self) -> EngineReference:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self, timeout: float = 5.0) -> None:
        """Give the share back; doing it twice does nothing.

        Raises:
            DeliveryError, DeliveryTimeout: it was the last, and what was published could not be written.
        """
        with _lock:
            if self._closed:
                return
            self._closed = True
            shared = _open.get(self._place)
            if shared is None or shared.engine is not self.engine:
                return
            shared.holders -= 1
            if shared.holders:
                return
            del _open[self._place]
        self.engine.close(timeout)


def open_engine(url: str, servers: Servers | None = None) -> EngineReference:
    """A share of the engine that a URL names; the first one opens it.

    >>> with open_engine("memory://example") as reference:
    ...     reference.engine.tables()[0]
    'ASSETS'

    Args:
        servers: what the URL does not name, for an engine that needs it; what is left out comes from the environment.

    Raises:
        ConfigurationError: the URL has a scheme that nobody knows, or cannot be understood.
        EngineUnavailableError: what it names cannot be reached or opened.
        MissingDistributionError: the engine is known and not installed.
    """
    servers = servers or Servers()
    engine_class = _engine_class(url)
    place = engine_class.location(url, servers)
    with _lock:
        shared = _open.get(place)
        if shared is None:
            shared = _open[place] = _Shared(engine_class(url, servers), servers)
        elif _differ(shared, url, servers):
            raise ConfigurationError(
                f"{redacted(url)} is open in this process already, as {redacted(shared.engine.url)}. "
                "Use the same options and credentials in both."
            )
        shared.holders += 1
        return EngineReference(place, shared.engine)


def open_engine_of(
    client: _Client | None, bootstrap_servers: str | None = None, asset_router_url: str | None = None
) -> EngineReference:
    """A share of the engine that a client names, else KSQLDB_URL.

    Raises:
        ConfigurationError: neither names one.
        EngineUnavailableError: what it names cannot be reached or opened.
    """
    url = getattr(client, "ksqldb_url", None) or setting("KSQLDB_URL")
    if not url:
        raise ConfigurationError(
            "No place of the data is named. Pass ksqlClient=KSQLDBClient('sqlite:///factory.db'), or set KSQLDB_URL."
        )
    servers = Servers(
        bootstrap_servers or getattr(client, "bootstrap_servers", None),
        asset_router_url or getattr(client, "asset_router_url", None),
        getattr(client, "credentials", None),
    )
    return open_engine(str(url), servers)


def _differ(shared: _Shared, url: str, servers: Servers) -> bool:
    if shared.servers.credentials != servers.credentials:
        # Who passes none means those of the environment, which another may have passed.
        ours, theirs = (one.credentials or Credentials.from_environment() for one in (shared.servers, servers))
        if ours != theirs:
            return True
    return _options(shared.engine.url) != _options(url)


def _options(url: str) -> tuple[str, str]:
    """The login in a URL, and what stands behind its `?`."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[0], parts.query


def engine_schemes() -> MappingProxyType[str, str]:
    """The schemes a URL may have, each with the class behind it; those of other distributions too."""
    known = {scheme: target for scheme, (target, _) in _KNOWN.items()}
    return MappingProxyType(known | _entry_points())


def _engine_class(url: str) -> _EngineClass:
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    target, hint = _KNOWN.get(scheme) or (_entry_points().get(scheme), "")
    if target is None:
        raise ConfigurationError(
            f"{redacted(url)!r} names no engine: its scheme is none of {', '.join(sorted(engine_schemes()))}. "
            "Set KSQLDB_URL to sqlite:///factory.db to run without any server."
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

    return {found.name: found.value for found in entry_points(group=ENTRY_POINT_GROUP)}


def _forget_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


@atexit.register
def _close_all() -> None:
    """A program that ends without closing its clients loses nothing that it published."""
    with _lock:
        left = list(_open.values())
        _open.clear()
    for shared in left:
        try:
            shared.engine.close()
        except OpenFactoryError as error:
            _logger.error("%s was not closed cleanly: %s", redacted(shared.engine.url), error)
