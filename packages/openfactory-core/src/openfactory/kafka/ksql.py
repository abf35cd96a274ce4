"""KSQLDBClient: queries and inserts, with the same names and row shapes on every engine.

With the URL of a ksqlDB server it asks that server itself, and needs no Kafka for it; with any other URL it asks the
engine that the URL names.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.engines import Engine, EngineReference, open_engine
from openfactory.engines.base import Servers
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from openfactory.engines.ksqldb.quoting import source_name
from openfactory.events.event import AssetEvent
from openfactory.events.message import event_of_fields
from openfactory.exceptions import ConfigurationError, QueryError
from openfactory.logs import configure_prefixed_logger
from openfactory.settings import setting
from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    import httpx

    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["KSQLDBClient", "KSQLDBClientException", "KSQLDBQueryError", "KSQLDBUnavailableError"]

_ASSETS_STREAM = "ASSETS_STREAM"


class KSQLDBClient:
    """Names the place of the data and answers queries on it; also a context manager.

    It opens nothing until it is first used, and may be used from any thread.

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
        max_retries, retry_delay: how often, and after how many seconds, a ksqlDB server is asked again.
        timeout: how long an insert waits to be acknowledged, and how long a ksqlDB server may keep silent, in seconds.
        max_requests_per_connection: after so many requests the connection to a ksqlDB server is made anew.
        loglevel: level of the library's log lines, a name or a number; None leaves it.
        bootstrap_servers: the Kafka broker beside a ksqlDB server, else KAFKA_BROKER.
        asset_router_url: the asset router, else ASSET_ROUTER_URL.
        credentials: user names, secrets and certificates, else those of the environment.
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
        self._speaks_http = ksqldb_url.lower().startswith(("http://", "https://"))
        self.ksqldb_url = ksqldb_url.rstrip("/") if self._speaks_http else ksqldb_url
        self.timeout = timeout
        self.bootstrap_servers = bootstrap_servers
        self.asset_router_url = asset_router_url
        self.credentials = credentials
        self._asking: dict[str, Any] = {
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
        """The engine behind the URL, opened when it is first asked for.

        Raises:
            EngineUnavailableError: the URL names what cannot be reached or opened.
            KSQLDBClientException: the client is closed.
        """
        with self._lock:
            self._check_open()
            if self._reference is None:
                servers = Servers(self.bootstrap_servers, self.asset_router_url, self.credentials)
                self._reference = open_engine(self.ksqldb_url, servers)
            return self._reference.engine

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of a SELECT, columns in upper case.

        Args:
            sql: a SELECT on one of `tables()`; `?` stands for a parameter.

        Raises:
            KSQLDBClientException: it cannot be answered.
        """
        if server := self._server():
            return server.query(sql, *parameters)
        try:
            return self.engine.query(sql, *parameters)
        except QueryError as error:
            raise KSQLDBQueryError(str(error), statement=sql) from error

    def tables(self) -> list[str]:
        """The tables that can be queried, in upper case."""
        server = self._server()
        return server.tables() if server else self.engine.tables()

    def streams(self) -> list[str]:
        """The streams that take inserts, in upper case."""
        if server := self._server():
            return server.streams()
        self.engine.tables()  # a place that cannot be reached has no streams either
        return [_ASSETS_STREAM]

    def info(self) -> dict[str, Any]:
        """What is behind the URL, and how it is; a ksqlDB server adds what it says of itself."""
        url = redacted(self.ksqldb_url)
        if server := self._server():
            return {"url": url, "connected": True, "reason": "", **server.info()}
        health = self.engine.health()
        return {"url": url, "connected": health.connected, "reason": health.reason}

    def get_kafka_topic(self, stream_name: str) -> str:
        """The Kafka topic of a stream or table.

        Raises:
            KSQLDBClientException: there is no such stream, or no Kafka.
        """
        if server := self._server():
            return server.topic_of(stream_name)
        engine = self.engine
        try:
            return engine.topic_of(stream_name)
        except ConfigurationError as error:
            raise KSQLDBClientException(str(error)) from error

    def statement_query(self, sql: str) -> httpx.Response:
        """Run a statement that changes the tables, and wait until it is done; only a ksqlDB server can.

        Returns:
            what the server answers; `.json()` has a part for each statement.

        Raises:
            KSQLDBClientException: it is refused, fails, or there is no ksqlDB server.
        """
        if server := self._server():
            return server.statement(sql)
        raise KSQLDBClientException(
            f"{redacted(self.ksqldb_url)} runs no statements: its tables are there from the start. Use query() to "
            "read, and insert_into_stream() or an asset's attributes to write.",
            statement=sql,
        )

    def insert_into_stream(self, stream_name: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write rows to a stream, and wait until they are acknowledged.

        Rows of `assets_stream` go to Kafka where a broker is known. A ksqlDB server alone takes them too, one at a
        time and every value as text, and rows of its other streams.

        Args:
            stream_name: `assets_stream`.
            rows: keys asset_uuid, id, value, type, tag and attributes (with a timestamp), in any case.

        Returns:
            an acknowledgement for each row, `{"status": "ok", "seq": n}`.

        Raises:
            KSQLDBClientException: another stream, or a row that is no event; nothing is written then.
        """
        server = self._server()
        if source_name(stream_name) != _ASSETS_STREAM:
            if server is None:
                raise KSQLDBClientException(
                    f"{redacted(self.ksqldb_url)} has no stream {stream_name!r}. Write to {_ASSETS_STREAM}."
                )
            return _acknowledged(server.insert_values(stream_name, rows))
        events = [_event(number, row) for number, row in enumerate(rows)]
        if server and not (self.bootstrap_servers or setting("KAFKA_BROKER")):
            return _acknowledged(server.insert_values(_ASSETS_STREAM, map(_columns, events)))
        engine = self.engine
        receipts = [engine.publish(event) for event in events]
        for receipt in receipts:
            receipt.wait(self.timeout)
        return _acknowledged(len(receipts))

    def close(self) -> None:
        """Give the engine back; it is closed with its last user. Closing twice does nothing."""
        with self._lock:
            self._closed = True
            reference, self._reference = self._reference, None
            server, self._opened_server = self._opened_server, None
        if server is not None:
            server.close()
        if reference is not None:
            reference.close()

    def _server(self) -> KsqlDBServer | None:
        """The ksqlDB server that the URL names, if it names one."""
        if not self._speaks_http:
            return None
        with self._lock:
            self._check_open()
            if self._opened_server is None:
                from openfactory.engines.ksqldb.server import KsqlDBServer  # of no use where the data is in a file

                credentials = self.credentials or Credentials.from_environment()
                self._opened_server = KsqlDBServer(self.ksqldb_url, **self._asking, credentials=credentials)
            return self._opened_server

    def _check_open(self) -> None:
        if self._closed:
            url = redacted(self.ksqldb_url)
            raise KSQLDBClientException(f"The client of {url} is closed. Make a new KSQLDBClient.")


def _event(number: int, row: Mapping[str, Any]) -> AssetEvent:
    try:
        return event_of_fields(CaseInsensitiveDict(dict(row))["asset_uuid"], row)
    except (KeyError, ValueError, TypeError) as error:
        missing = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise KSQLDBClientException(
            f"Row {number} is no event: {missing} Give it asset_uuid, id, value, type and tag; nothing was written."
        ) from error


def _columns(event: AssetEvent) -> dict[str, Any]:
    """A row of the stream as ksqlDB has it, where values are text."""
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
