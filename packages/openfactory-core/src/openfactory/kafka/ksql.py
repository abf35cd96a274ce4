"""KSQLDBClient: queries and inserts, with the same names and row shapes on every engine.

With the URL of a ksqlDB server, the client sends requests to the server itself and does not need Kafka. With any other
URL it uses the engine of that URL.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.engines import Engine, EngineReference, open_engine
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from openfactory.engines.ksqldb.quoting import source_name
from openfactory.engines.location import HTTP, Servers, scheme_of
from openfactory.events.event import AssetEvent
from openfactory.events.message import event_of_fields
from openfactory.exceptions import ConfigurationError, QueryError
from openfactory.logs import configure_prefixed_logger
from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    import httpx

    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["KSQLDBClient", "KSQLDBClientException", "KSQLDBQueryError", "KSQLDBUnavailableError"]

_ASSETS_STREAM = "ASSETS_STREAM"


class KSQLDBClient:
    """Client that selects an engine by its URL and queries its tables; also a context manager.

    It connects when it is first used, and may be used from any thread.

    >>> with KSQLDBClient("memory://example") as ksql:
    ...     ksql.insert_into_stream("assets_stream", [
    ...         {"asset_uuid": "MILL", "id": "avail", "value": "AVAILABLE", "type": "Events", "tag": "Availability"}
    ...     ])
    ...     ksql.query("SELECT asset_uuid, availability FROM assets_avail")
    [{'status': 'ok', 'seq': 0}]
    [{'ASSET_UUID': 'MILL', 'AVAILABILITY': 'AVAILABLE'}]

    Args:
        ksqldb_url: `sqlite:///factory.db`, `memory://name`, `kafka://host:9092`, or `http://host:8088` of a ksqlDB
            server.
        max_retries: number of times a failed request to a ksqlDB server is repeated.
        retry_delay: seconds between two attempts.
        timeout: seconds to wait for the acknowledgement of an insert, and for data from a ksqlDB server.
        max_requests_per_connection: number of requests after which the connection to a ksqlDB server is replaced.
        loglevel: level of the library's log lines, a name or a number; None does not change it.
        bootstrap_servers: address of the Kafka broker of a ksqlDB server; KAFKA_BROKER by default.
        asset_router_url: address of the asset router; ASSET_ROUTER_URL by default.
        credentials: user names, secrets and certificates; from the environment by default.
    """

    def __init__(
        self,
        ksqldb_url: str,
        max_retries: int = 3,
        retry_delay: float = 2.0,
        timeout: float = 10.0,
        max_requests_per_connection: int = 1000,
        loglevel: str | int | None = None,
        *,
        bootstrap_servers: str | None = None,
        asset_router_url: str | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        if loglevel is not None:
            configure_prefixed_logger("openfactory.ksqlDB", level=loglevel, prefix="KSQL")
        self._is_http = scheme_of(ksqldb_url) in HTTP
        self.ksqldb_url = ksqldb_url.rstrip("/") if self._is_http else ksqldb_url
        self.timeout = timeout
        self.bootstrap_servers = bootstrap_servers
        self.asset_router_url = asset_router_url
        self.credentials = credentials
        self._request_options: dict[str, Any] = {
            "max_retries": max_retries,
            "retry_delay": retry_delay,
            "timeout": timeout,
            "max_requests_per_connection": max_requests_per_connection,
        }
        self._lock = threading.Lock()
        self._reference: EngineReference | None = None
        self._opened_server: KsqlDBServer | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({redacted(self.ksqldb_url)!r})"

    def __enter__(self) -> KSQLDBClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """Engine of the URL, opened on first access.

        Raises:
            EngineUnavailableError: the engine cannot be reached or opened.
            KSQLDBClientException: the client is closed.
        """
        with self._lock:
            self._check_open()
            if self._reference is None:
                self._reference = open_engine(self.ksqldb_url, Servers.of(self))
            return self._reference.engine

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a SELECT, with column names in upper case.

        Args:
            sql: a SELECT on one of `tables()`, with `?` for each parameter.
            *parameters: values for the `?` of the statement.

        Raises:
            KSQLDBClientException: the query cannot be answered.
        """
        if server := self._server():
            return server.query(sql, *parameters)
        try:
            return self.engine.query(sql, *parameters)
        except QueryError as error:
            raise KSQLDBQueryError(str(error), statement=sql) from error

    def tables(self) -> list[str]:
        """Return the names of the tables that can be queried, in upper case."""
        server = self._server()
        return server.tables() if server else self.engine.tables()

    def streams(self) -> list[str]:
        """Return the names of the streams that accept inserts, in upper case."""
        if server := self._server():
            return server.streams()
        self.engine.tables()  # raises if the engine cannot be reached
        return [_ASSETS_STREAM]

    def info(self) -> dict[str, Any]:
        """Return the URL, without secrets, and the state of the connection; a ksqlDB server adds its own details."""
        url = redacted(self.ksqldb_url)
        if server := self._server():
            return {"url": url, "connected": True, "reason": "", **server.info()}
        health = self.engine.health()
        return {"url": url, "connected": health.connected, "reason": health.reason}

    def get_kafka_topic(self, stream_name: str) -> str:
        """Return the Kafka topic of a stream or table.

        Raises:
            KSQLDBClientException: the stream does not exist, or the engine does not use Kafka.
        """
        if server := self._server():
            return server.topic_of(stream_name)
        engine = self.engine
        try:
            return engine.topic_of(stream_name)
        except ConfigurationError as error:
            raise KSQLDBClientException(str(error)) from error

    def statement_query(self, sql: str) -> httpx.Response:
        """Run a statement that changes the tables, and wait until it is done; only for a ksqlDB server.

        Returns:
            the response of the server; `.json()` has an item for each statement.

        Raises:
            KSQLDBClientException: the server refuses the statement, the statement fails, or the URL does not name a
                ksqlDB server.
        """
        if server := self._server():
            return server.statement(sql)
        raise KSQLDBClientException(
            f"{redacted(self.ksqldb_url)} does not run statements: its tables exist from the start. Use query() to "
            "read, and insert_into_stream() or an asset's attributes to write.",
            statement=sql,
        )

    def insert_into_stream(self, stream_name: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write rows to a stream, and wait until they are acknowledged.

        Rows of `assets_stream` go to the Kafka broker if its address is known. Without a broker, a ksqlDB server
        inserts them one at a time, with every value as text. It also inserts rows of its other streams.

        Args:
            stream_name: `assets_stream`, or another stream of a ksqlDB server.
            rows: mappings with the keys asset_uuid, id, value, type, tag and attributes (with a timestamp), in any
                case.

        Returns:
            an acknowledgement for each row, `{"status": "ok", "seq": n}`.

        Raises:
            KSQLDBClientException: the stream does not exist, or a row is not an event; no row is written.
        """
        server = self._server()
        if source_name(stream_name) != _ASSETS_STREAM:
            if server is None:
                raise KSQLDBClientException(
                    f"{redacted(self.ksqldb_url)} has no stream {stream_name!r}. Write to {_ASSETS_STREAM}."
                )
            return _acknowledged(server.insert_values(stream_name, rows))
        events = [_event(number, row) for number, row in enumerate(rows)]
        if server and not Servers.of(self).resolve(self.ksqldb_url).bootstrap_servers:
            return _acknowledged(server.insert_values(_ASSETS_STREAM, map(_columns, events)))
        engine = self.engine
        receipts = [engine.publish(event) for event in events]
        for receipt in receipts:
            receipt.wait(self.timeout)
        return _acknowledged(len(receipts))

    def close(self) -> None:
        """Release the engine, which closes with its last user; closing twice does nothing."""
        with self._lock:
            self._closed = True
            reference, self._reference = self._reference, None
            server, self._opened_server = self._opened_server, None
        if server is not None:
            server.close()
        if reference is not None:
            reference.close()

    def _server(self) -> KsqlDBServer | None:
        """Return the ksqlDB server of the URL, or None for any other URL."""
        if not self._is_http:
            return None
        with self._lock:
            self._check_open()
            if self._opened_server is None:
                from openfactory.engines.ksqldb.server import KsqlDBServer  # other engines do not need it

                credentials = Servers.of(self).resolve(self.ksqldb_url).credentials
                self._opened_server = KsqlDBServer(self.ksqldb_url, **self._request_options, credentials=credentials)
            return self._opened_server

    def _check_open(self) -> None:
        if self._closed:
            url = redacted(self.ksqldb_url)
            raise KSQLDBClientException(f"The client of {url} is closed. Create a new KSQLDBClient.")


def _event(number: int, row: Mapping[str, Any]) -> AssetEvent:
    try:
        return event_of_fields(CaseInsensitiveDict(dict(row))["asset_uuid"], row)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"it has no {error}." if isinstance(error, KeyError) else str(error)
        raise KSQLDBClientException(
            f"Row {number} is not an event, so nothing was written: {reason} "
            "Give each row asset_uuid, id, value, type and tag."
        ) from error


def _columns(event: AssetEvent) -> dict[str, Any]:
    """Return an event as a row of the ksqlDB stream, where values are text."""
    value = event.value
    return {
        "ASSET_UUID": event.asset_uuid,
        "ID": event.id,
        "VALUE": value if value is None or isinstance(value, str) else msgspec.json.encode(value).decode(),
        "TAG": event.tag,
        "TYPE": event.type,
        "ATTRIBUTES": {"timestamp": event.timestamp},
    }


def _acknowledged(rows: int) -> list[dict[str, Any]]:
    return [{"status": "ok", "seq": number} for number in range(rows)]
