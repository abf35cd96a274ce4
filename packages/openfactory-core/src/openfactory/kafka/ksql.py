"""KSQLDBClient: queries and inserts, with the same names and row shapes on every engine."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from openfactory.assets.attribute import AssetAttribute
from openfactory.assets.event import AssetEvent
from openfactory.assets.subscriptions import CaseInsensitiveDict
from openfactory.assets.timestamp import current_timestamp
from openfactory.engines import Engine, EngineReference, open_engine
from openfactory.exceptions import EngineError, InvalidEventError, QueryError
from openfactory.logs import configure_prefixed_logger

__all__ = ["KSQLDBClient", "KSQLDBClientException"]

_ASSETS_STREAM = "ASSETS_STREAM"


class KSQLDBClientException(EngineError):
    """A query, statement or insert that was not answered.

    Attributes:
        statement: its text, where there is one.
        code: the number that the server gave, or None.
    """

    def __init__(self, message: str, *, statement: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.statement = statement
        self.code = code


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
        ksqldb_url: `sqlite:///factory.db`, `memory://name`, or the address of a ksqlDB server.
        max_retries, retry_delay, max_requests_per_connection: for a server; the embedded engine needs none of them.
        timeout: how long an insert waits to be acknowledged, in seconds.
        loglevel: level of the library's log lines, a name or a number; None leaves it.
    """

    def __init__(
        self,
        ksqldb_url: str,
        max_retries: int = 3,  # noqa: ARG002
        retry_delay: float = 2.0,  # noqa: ARG002
        timeout: float = 10.0,
        max_requests_per_connection: int = 1000,  # noqa: ARG002
        loglevel: str | int | None = None,
    ) -> None:
        if loglevel is not None:
            configure_prefixed_logger("openfactory.ksqlDB", level=loglevel, prefix="KSQL")
        self.ksqldb_url = ksqldb_url.rstrip("/") if ksqldb_url.startswith("http") else ksqldb_url
        self.timeout = timeout
        self._lock = threading.Lock()
        self._reference: EngineReference | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ksqldb_url!r})"

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
            if self._closed:
                raise KSQLDBClientException(f"The client of {self.ksqldb_url} is closed. Make a new KSQLDBClient.")
            if self._reference is None:
                self._reference = open_engine(self.ksqldb_url)
            return self._reference.engine

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        """The rows of a SELECT, columns in upper case.

        Args:
            sql: a SELECT on one of `tables()`; `?` stands for a parameter.

        Raises:
            KSQLDBClientException: it cannot be answered.
        """
        try:
            return self.engine.query(sql, *parameters)
        except QueryError as error:
            raise KSQLDBClientException(str(error), statement=sql) from error

    def tables(self) -> list[str]:
        """The tables that can be queried, in upper case."""
        return self.engine.tables()

    def streams(self) -> list[str]:
        """The streams that take inserts, in upper case."""
        self.engine.tables()  # a place that cannot be reached has no streams either
        return [_ASSETS_STREAM]

    def info(self) -> dict[str, Any]:
        """What is behind the URL, and how it is."""
        health = self.engine.health()
        return {"url": self.ksqldb_url, "connected": health.connected, "reason": health.reason}

    def get_kafka_topic(self, stream_name: str) -> str:
        """The Kafka topic of a stream; there is none without a Kafka.

        Raises:
            KSQLDBClientException: always, on the embedded engine.
        """
        raise KSQLDBClientException(
            f"{self.ksqldb_url} has no Kafka, so {stream_name} has no topic. Write through an asset's attributes "
            "or insert_into_stream, which work everywhere."
        )

    def statement_query(self, sql: str) -> Any:
        """Run a statement that changes the tables; only a ksqlDB server can.

        Raises:
            KSQLDBClientException: always, on the embedded engine.
        """
        raise KSQLDBClientException(
            f"{self.ksqldb_url} runs no statements: its tables are there from the start. Use query() to read, and "
            "insert_into_stream() or an asset's attributes to write.",
            statement=sql,
        )

    def insert_into_stream(self, stream_name: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Write rows to a stream, and wait until they are acknowledged.

        Args:
            stream_name: `assets_stream`.
            rows: keys asset_uuid, id, value, type, tag and attributes (with a timestamp), in any case.

        Returns:
            an acknowledgement for each row, `{"status": "ok", "seq": n}`.

        Raises:
            KSQLDBClientException: another stream, or a row that is no event; nothing is written then.
        """
        if stream_name.strip("`").upper() != _ASSETS_STREAM:
            raise KSQLDBClientException(f"{self.ksqldb_url} has no stream {stream_name!r}. Write to {_ASSETS_STREAM}.")
        events = [_event(number, row) for number, row in enumerate(rows)]
        engine = self.engine
        receipts = [engine.publish(event) for event in events]
        for receipt in receipts:
            receipt.wait(self.timeout)
        return [{"status": "ok", "seq": number} for number in range(len(receipts))]

    def close(self) -> None:
        """Give the engine back; it is closed with its last user. Closing twice does nothing."""
        with self._lock:
            self._closed = True
            reference, self._reference = self._reference, None
        if reference is not None:
            reference.close()


def _event(number: int, row: Mapping[str, Any]) -> AssetEvent:
    try:
        fields = CaseInsensitiveDict(dict(row))
        attributes = fields.get("attributes") or {}
        attribute = AssetAttribute(
            id=fields["id"],
            value=fields.get("value"),
            type=fields["type"],
            tag=fields.get("tag") or "",
            timestamp=CaseInsensitiveDict(attributes).get("timestamp") or current_timestamp(),
        )
        return AssetEvent.of(fields["asset_uuid"], attribute)
    except (KeyError, ValueError, TypeError, InvalidEventError) as error:
        missing = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise KSQLDBClientException(
            f"Row {number} is no event: {missing}. Give it asset_uuid, id, value, type and tag; nothing was written."
        ) from error
