"""KSQLDBClient: queries and inserts, with the same names and row shapes on every engine.

With the URL of a ksqlDB server, the client sends requests to the server itself and does not need Kafka. With any other
URL it uses the engine of that URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.engines import Engine, EngineReference, open_engine
from openfactory.engines.base import ASSETS_STREAM
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from openfactory.engines.ksqldb.quoting import source_name
from openfactory.engines.location import HTTP, ResolvedServers, Servers, scheme_of
from openfactory.events.event import AssetEvent
from openfactory.events.message import event_of_fields
from openfactory.kafka.backends import Backend, EngineBackend, OpenedOnUse, ServerBackend
from openfactory.logs import configure_prefixed_logger
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    import httpx

__all__ = ["KSQLDBClient", "KSQLDBClientException", "KSQLDBQueryError", "KSQLDBUnavailableError"]


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
        is_server = scheme_of(ksqldb_url) in HTTP
        self.ksqldb_url = url = ksqldb_url.rstrip("/") if is_server else ksqldb_url
        self.timeout = timeout
        self.bootstrap_servers = bootstrap_servers
        self.asset_router_url = asset_router_url
        self.credentials = credentials
        self._reference = OpenedOnUse(url, self._open_engine)
        self._backend: Backend = EngineBackend(url, self._reference)
        if is_server:
            options = {
                "max_retries": max_retries,
                "retry_delay": retry_delay,
                "timeout": timeout,
                "max_requests_per_connection": max_requests_per_connection,
            }
            self._backend = ServerBackend(url, options, self._servers, self._backend)

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
        return self._reference.get().engine

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of a SELECT, with column names in upper case.

        Args:
            sql: a SELECT on one of `tables()`, with `?` for each parameter.
            *parameters: values for the `?` of the statement.

        Raises:
            KSQLDBClientException: the query cannot be answered.
        """
        return self._backend.query(sql, parameters)

    def tables(self) -> list[str]:
        """Return the names of the tables that can be queried, in upper case."""
        return self._backend.tables()

    def streams(self) -> list[str]:
        """Return the names of the streams that accept inserts, in upper case."""
        return self._backend.streams()

    def info(self) -> dict[str, Any]:
        """Return the URL, without secrets, and the state of the connection; a ksqlDB server adds its own details."""
        return {"url": redacted(self.ksqldb_url), **self._backend.info()}

    def get_kafka_topic(self, stream_name: str) -> str:
        """Return the Kafka topic of a stream or table.

        Raises:
            KSQLDBClientException: the stream does not exist, or the engine does not use Kafka.
        """
        return self._backend.topic_of(stream_name)

    def statement_query(self, sql: str) -> httpx.Response:
        """Run a statement that changes the tables, and wait until it is done; only for a ksqlDB server.

        Returns:
            the response of the server; `.json()` has an item for each statement.

        Raises:
            KSQLDBClientException: the server refuses the statement, the statement fails, or the URL does not name a
                ksqlDB server.
        """
        return self._backend.statement(sql)

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
        if source_name(stream_name) == ASSETS_STREAM:
            events = [_event(number, row) for number, row in enumerate(rows)]
            inserted = self._backend.insert_events(events, self.timeout)
        else:
            inserted = self._backend.insert_rows(stream_name, rows)
        return [{"status": "ok", "seq": number} for number in range(inserted)]

    def close(self) -> None:
        """Release the engine, which closes with its last user; closing twice does nothing."""
        self._backend.close()

    def _open_engine(self) -> EngineReference:
        return open_engine(self.ksqldb_url, Servers.of(self))

    def _servers(self) -> ResolvedServers:
        return Servers.of(self).resolve(self.ksqldb_url)


def _event(number: int, row: Mapping[str, Any]) -> AssetEvent:
    try:
        return event_of_fields(CaseInsensitiveDict(dict(row))["asset_uuid"], row)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"it has no {error}." if isinstance(error, KeyError) else str(error)
        raise KSQLDBClientException(
            f"Row {number} is not an event, so nothing was written: {reason} "
            "Give each row asset_uuid, id, value, type and tag."
        ) from error
