"""The two ways in which a KSQLDBClient reaches the data: a ksqlDB server, and an engine."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from openfactory.engines import EngineReference
from openfactory.engines.base import ASSETS_STREAM
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError
from openfactory.engines.location import ResolvedServers
from openfactory.events.event import AssetEvent
from openfactory.events.message import attributes_of
from openfactory.exceptions import ConfigurationError, QueryError
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    import httpx

    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["Backend", "EngineBackend", "OpenedOnUse", "ServerBackend"]


class _Connection(Protocol):
    def close(self) -> None: ...


ConnectionT = TypeVar("ConnectionT", bound=_Connection)


class OpenedOnUse(Generic[ConnectionT]):
    """A connection that is opened when it is first used; for use from any thread.

    Args:
        url: URL of the client, for its error after the close.
        open_connection: opens the connection.
    """

    def __init__(self, url: str, open_connection: Callable[[], ConnectionT]) -> None:
        self._url = url
        self._open_connection = open_connection
        self._lock = threading.Lock()
        self._connection: ConnectionT | None = None
        self._closed = False

    def get(self) -> ConnectionT:
        """Return the connection; the first call opens it.

        Raises:
            KSQLDBClientException: the client is closed.
        """
        with self._lock:
            if self._closed:
                raise KSQLDBClientException(
                    f"The client of {redacted(self._url)} is closed. Create a new KSQLDBClient."
                )
            if self._connection is None:
                self._connection = self._open_connection()
            return self._connection

    def close(self) -> None:
        """Close the connection if it is open; a second call does nothing."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Backend(Protocol):
    """The operations of a KSQLDBClient, as a server or an engine does them. Nothing is opened before the first one."""

    @abstractmethod
    def query(self, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Return the rows of a SELECT."""

    @abstractmethod
    def tables(self) -> list[str]:
        """Return the names of the tables."""

    @abstractmethod
    def streams(self) -> list[str]:
        """Return the names of the streams that accept inserts."""

    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Return the state of the connection."""

    @abstractmethod
    def topic_of(self, name: str) -> str:
        """Return the Kafka topic of a stream or table."""

    @abstractmethod
    def statement(self, sql: str) -> httpx.Response:
        """Run a statement that changes the tables."""

    @abstractmethod
    def insert_events(self, events: list[AssetEvent], timeout: float) -> int:
        """Write events to the stream of all events, wait for each acknowledgement, and return their number."""

    @abstractmethod
    def insert_rows(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write rows to another stream, and return their number."""

    @abstractmethod
    def close(self) -> None:
        """Release the connections; a second call does nothing."""


class EngineBackend:
    """Backend on the engine of the URL.

    Args:
        url: URL of the engine.
        reference: reference to the engine.
    """

    def __init__(self, url: str, reference: OpenedOnUse[EngineReference]) -> None:
        self._url = redacted(url)
        self._reference = reference
        self.close = reference.close

    def query(self, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        try:
            return self._reference.get().engine.query(sql, *parameters)
        except QueryError as error:
            raise KSQLDBQueryError(str(error), statement=sql) from error

    def tables(self) -> list[str]:
        return self._reference.get().engine.tables()

    def streams(self) -> list[str]:
        self.tables()  # raises if the engine cannot be reached
        return [ASSETS_STREAM]

    def info(self) -> dict[str, Any]:
        health = self._reference.get().engine.health()
        return {"connected": health.connected, "reason": health.reason}

    def topic_of(self, name: str) -> str:
        engine = self._reference.get().engine
        try:
            return engine.topic_of(name)
        except ConfigurationError as error:
            raise KSQLDBClientException(str(error)) from error

    def statement(self, sql: str) -> httpx.Response:
        raise KSQLDBClientException(
            f"{self._url} does not run statements: its tables exist from the start. Use query() to "
            "read, and insert_into_stream() or an asset's attributes to write.",
            statement=sql,
        )

    def insert_events(self, events: list[AssetEvent], timeout: float) -> int:
        engine = self._reference.get().engine
        receipts = [engine.publish(event) for event in events]
        for receipt in receipts:
            receipt.wait(timeout)
        return len(receipts)

    def insert_rows(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> int:  # noqa: ARG002 - for a server only
        raise KSQLDBClientException(f"{self._url} has no stream {stream!r}. Write to {ASSETS_STREAM}.")


class ServerBackend:
    """Backend on a ksqlDB server, which needs no Kafka.

    Args:
        url: URL of the server.
        options: limits and retries of the requests.
        servers: returns the broker and the credentials.
        engine: backend for events, used if the broker is known.
    """

    def __init__(
        self,
        url: str,
        options: Mapping[str, Any],
        servers: Callable[[], ResolvedServers],
        engine: EngineBackend,
    ) -> None:
        self._url = url
        self._options = options
        self._servers = servers
        self._server = OpenedOnUse(url, self._open_server)
        self._engine = engine

    def query(self, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        return self._server.get().query(sql, *parameters)

    def tables(self) -> list[str]:
        return self._server.get().tables()

    def streams(self) -> list[str]:
        return self._server.get().streams()

    def info(self) -> dict[str, Any]:
        return {"connected": True, "reason": "", **self._server.get().info()}

    def topic_of(self, name: str) -> str:
        return self._server.get().topic_of(name)

    def statement(self, sql: str) -> httpx.Response:
        return self._server.get().statement(sql)

    def insert_events(self, events: list[AssetEvent], timeout: float) -> int:
        if self._servers().bootstrap_servers:
            return self._engine.insert_events(events, timeout)
        return self.insert_rows(ASSETS_STREAM, map(_columns, events))

    def insert_rows(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> int:
        return self._server.get().insert_values(stream, rows)

    def close(self) -> None:
        self._server.close()
        self._engine.close()

    def _open_server(self) -> KsqlDBServer:
        from openfactory.engines.ksqldb.server import KsqlDBServer  # other engines do not need it

        return KsqlDBServer(self._url, **self._options, credentials=self._servers().credentials)


def _columns(event: AssetEvent) -> dict[str, Any]:
    """Return an event as a row of the ksqlDB stream, where values are text."""
    return {
        "ASSET_UUID": event.asset_uuid,
        "ID": event.id,
        "VALUE": _as_text(event.value),
        "TAG": event.tag,
        "TYPE": event.type,
        "ATTRIBUTES": {name: _as_text(value) for name, value in attributes_of(event).items()},
    }


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode()
