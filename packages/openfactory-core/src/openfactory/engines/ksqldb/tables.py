"""The tables of a ksqlDB as an engine reads them: rows as events, columns by asset, and whether the server answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from openfactory.engines.base import ASSETS_STREAM
from openfactory.engines.kafka_engine.log_engine import TopicNames
from openfactory.engines.kafka_engine.topics import ASSET_TO_UNS_MAP_TOPIC
from openfactory.engines.ksqldb.errors import WAY_OUT, KSQLDBClientException, KSQLDBUnavailableError
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.exceptions import EngineUnavailableError, QueryError
from openfactory.settings.credentials import Credentials, redacted

__all__ = ["KsqlDBTables", "topics_of_server"]

T = TypeVar("T")

# What ksqlDB numbers itself; below stand the status codes of any web server.
_OWN_CODES = 40_000

# How long a server may keep silent when it is asked for the first time, in seconds.
_START_SECONDS = 4.0
_START_GRACE_SECONDS = 1.5

_MAP_TABLE = "ASSET_TO_UNS_MAP_RAW"
_TABLES_WITH_TOMBSTONES = ("ASSETS_TYPE", "ASSETS_AVAIL", "DOCKER_SERVICES")


class KsqlDBTables:
    """Reads the tables of one server.

    Attributes:
        trouble: why the server did not answer the last time; empty where it did.
    """

    def __init__(self, server: KsqlDBServer) -> None:
        self.trouble = ""
        self._server = server

    def events(self, asset_uuids: list[str] | None) -> list[AssetEvent]:
        """What the table says of some assets or of all, the oldest first; values are text, and tell no position."""
        rows = self._rows("assets", "key", lambda: self._server.rows_of_assets(asset_uuids))
        return [_event_of(row) for row in sorted(rows, key=lambda row: str(row["TIMESTAMP"]))]

    def column(self, table: str, column: str, asset_uuids: list[str] | None = None) -> dict[str, Any]:
        """One column by asset, of some or of all."""
        select = f"SELECT asset_uuid, {column} FROM {table}"  # noqa: S608 - our own names

        def read() -> list[dict[str, Any]]:
            if asset_uuids is None:
                return self._server.query(select)
            return [row for one in asset_uuids for row in self._server.query(f"{select} WHERE asset_uuid = ?", one)]

        return {row["ASSET_UUID"]: row[column.upper()] for row in self._rows(table, "asset_uuid", read)}

    def select(self, sql: str, parameters: tuple[Any, ...]) -> list[dict[str, Any]]:
        """A user's SELECT.

        Raises:
            QueryError: the server cannot answer it.
        """
        try:
            return self.asked(lambda: self._server.query(sql, *parameters))
        except KSQLDBClientException as error:
            if isinstance(error, (QueryError, EngineUnavailableError)):
                raise
            raise QueryError(str(error), statement=sql) from error

    def asked(self, question: Callable[[], T]) -> T:
        """The server's answer; what keeps it from answering is noted."""
        try:
            answer = question()
        except EngineUnavailableError as error:
            self.trouble = str(error)
            raise
        self.trouble = ""
        return answer

    def _rows(self, table: str, key: str, read: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The rows of a table; that there are none is no proof just after a server was killed, when it is all empty."""
        rows = self.asked(read)
        if rows or not self.asked(
            lambda: self._server.query(f"SELECT {key} FROM {table} LIMIT 1", expect_rows=True)  # noqa: S608
        ):
            return rows
        return self.asked(read)


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
    """What the streams and tables of a server are made of; one that is not there, or never ends, is not waited for.

    It is asked on a thread, because neither a look-up of a name nor an answer that drips in has a time limit.
    """
    answers: Future[TopicNames] = Future()

    def ask() -> None:
        try:
            answers.set_result(_topics_of_server(url, credentials))
        except BaseException as error:  # noqa: BLE001 - raised by who waits for it
            answers.set_exception(error)

    threading.Thread(target=ask, name="openfactory-first-question", daemon=True).start()
    try:
        return answers.result(_START_SECONDS + _START_GRACE_SECONDS)
    except TimeoutError as error:
        said = f"No ksqlDB server answers at {redacted(url)} (what comes from there has no end)."
        raise KSQLDBUnavailableError(f"{said} {WAY_OUT}", address=redacted(url)) from error
    except KSQLDBUnavailableError as error:
        if (error.code or 0) >= _OWN_CODES or str(error).endswith(WAY_OUT):
            raise  # a ksqlDB has said it, which is in its start or wants another login
        raise KSQLDBUnavailableError(f"{error} {WAY_OUT}", address=error.address) from error


def _topics_of_server(url: str, credentials: Credentials) -> TopicNames:
    with KsqlDBServer(url, max_retries=0, timeout=_START_SECONDS, credentials=credentials) as server:
        assets = server.topic_of(ASSETS_STREAM)
        there = set(server.tables())
        tombstones = tuple(server.topic_of(name) for name in _TABLES_WITH_TOMBSTONES if name in there)
        uns_map = server.topic_of(_MAP_TABLE) if _MAP_TABLE in there else ASSET_TO_UNS_MAP_TOPIC
        return TopicNames(assets, uns_map, tombstones)
