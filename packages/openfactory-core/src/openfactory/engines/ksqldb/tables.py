"""The tables of a ksqlDB server as the engine reads them: rows as events, and columns by asset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.base import ASSETS_STREAM
from openfactory.engines.kafka_engine.log_engine import TopicNames
from openfactory.engines.kafka_engine.topics import ASSET_TO_UNS_MAP_TOPIC
from openfactory.engines.ksqldb.errors import WAY_OUT, KSQLDBClientException, KSQLDBUnavailableError
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import milliseconds_of
from openfactory.exceptions import EngineUnavailableError, QueryError
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

__all__ = ["KsqlDBTables", "topics_of_server"]

T = TypeVar("T")

# The lowest error code of ksqlDB; lower codes are HTTP statuses of any web server.
_FIRST_KSQLDB_CODE = 40_000

# Time limit of the first requests to a server, and the additional time for all of them together, in seconds.
_START_SECONDS = 4.0
_START_GRACE_SECONDS = 1.5

_MAP_TABLE = "ASSET_TO_UNS_MAP_RAW"
_TABLES_WITH_TOMBSTONES = ("assets_type", "assets_avail", "docker_services")


class KsqlDBTables:
    """Queries for the tables of one server.

    Attributes:
        trouble: why the server did not answer the last request; empty if it did.
    """

    def __init__(self, server: KsqlDBServer) -> None:
        self.trouble = ""
        self._server = server

    def events(self, asset_uuids: list[str] | None) -> list[AssetEvent]:
        """Return the last event of each attribute of some or all assets, the oldest first.

        The table has only text values and no positions, and a row for records with an empty id, which are no events.
        """
        rows = self._rows("assets", "key", lambda: self._server.rows_of_assets(asset_uuids))
        return [_event_of(row) for row in sorted(rows, key=lambda row: str(row["TIMESTAMP"])) if row["ID"]]

    def column(self, table: str, column: str, asset_uuids: list[str] | None = None) -> dict[str, Any]:
        """Return one column of a table by asset, for some or all assets."""
        select = f"SELECT asset_uuid, {column} FROM {table}"  # noqa: S608 - our own names

        def read() -> list[dict[str, Any]]:
            if asset_uuids is None:
                return self._server.query(select)
            by_asset = f"{select} WHERE asset_uuid = ?"
            return [row for asset_uuid in asset_uuids for row in self._server.query(by_asset, asset_uuid)]

        return {row["ASSET_UUID"]: row[column.upper()] for row in self._rows(table, "asset_uuid", read)}

    def places(self) -> dict[str, tuple[str | None, int]]:
        """Return the UNS id of each asset, and the milliseconds since 1970 at which it was set."""
        select = "SELECT asset_uuid, uns_id, updated_at FROM asset_to_uns_map"
        rows = self._rows("asset_to_uns_map", "asset_uuid", lambda: self._server.query(select))
        return {row["ASSET_UUID"]: (row["UNS_ID"], milliseconds_of(row["UPDATED_AT"])) for row in rows}

    def select(self, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        """Return the rows of a user's SELECT.

        Raises:
            QueryError: the server cannot run the query.
        """
        try:
            return self.call(lambda: self._server.query(sql, *parameters))
        except KSQLDBClientException as error:
            if isinstance(error, (QueryError, EngineUnavailableError)):
                raise
            raise QueryError(str(error), statement=sql) from error

    def call(self, request: Callable[[], T]) -> T:
        """Return the result of a request to the server; `trouble` keeps the reason if the server does not answer."""
        try:
            answer = request()
        except EngineUnavailableError as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return answer

    def _rows(self, table: str, key: str, read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return rows of a table.

        An empty result is checked with a query for any row, because all tables are empty for a moment after a server
        was killed and restarted.
        """
        rows = self.call(read)
        if rows or not self.call(
            lambda: self._server.query(f"SELECT {key} FROM {table} LIMIT 1", expect_rows=True)  # noqa: S608
        ):
            return rows
        return self.call(read)


def _event_of(row: dict[str, Any]) -> AssetEvent:
    return AssetEvent(
        row["ASSET_UUID"],
        row["ID"],
        row["VALUE"],
        row["TYPE"] or UNAVAILABLE,
        row["TAG"] or "",
        row["TIMESTAMP"] or UNAVAILABLE,
    )


def topics_of_server(url: str, credentials: Credentials) -> TopicNames:
    """Return the topics behind the streams and tables of a server, within a time limit.

    The requests run on a thread, because neither the lookup of a host name nor a slow response has a time limit.

    Raises:
        KSQLDBUnavailableError: the server does not answer in time or is not ready.
    """
    answers = call_on_thread("openfactory-first-question", _topics_of_server, url, credentials)
    try:
        return answers.result(_START_SECONDS + _START_GRACE_SECONDS)
    except TimeoutError as error:
        text = f"No ksqlDB server answers at {redacted(url)} (the response does not end). {WAY_OUT}"
        raise KSQLDBUnavailableError(text, address=redacted(url)) from error
    except KSQLDBUnavailableError as error:
        if (error.code or 0) >= _FIRST_KSQLDB_CODE or str(error).endswith(WAY_OUT):
            raise  # the remedy is there already, or a ksqlDB server is starting or wants another login
        raise KSQLDBUnavailableError(f"{error} {WAY_OUT}", address=error.address) from error


def _topics_of_server(url: str, credentials: Credentials) -> TopicNames:
    with KsqlDBServer(url, max_retries=0, timeout=_START_SECONDS, credentials=credentials) as server:
        assets = server.topic_of(ASSETS_STREAM)
        tables = set(server.tables())
        tombstones = {name: server.topic_of(name) for name in _TABLES_WITH_TOMBSTONES if name.upper() in tables}
        uns_map = server.topic_of(_MAP_TABLE) if _MAP_TABLE in tables else ASSET_TO_UNS_MAP_TOPIC
        return TopicNames(assets, uns_map, tombstones)
