"""A ksqlDB server: queries, statements and inserts over plain HTTP/1.1, which needs no library of its own for it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from openfactory.engines.ksqldb.answers import Failure, read_entities, read_object, read_rows, sources_of
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError
from openfactory.engines.ksqldb.http import KsqlDBHttp, Request
from openfactory.engines.ksqldb.quoting import bind, code_of, identifier, literal, source_name, terminated
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    import httpx

__all__ = ["KsqlDBServer"]

# The form of answers in which every line is an array, or an object that is the header or an error.
_DELIMITED = "application/vnd.ksqlapi.delimited.v1"

# How long a table may be without its rows after its server was killed, in seconds; and how often we look.
_EMPTY_SECONDS = 2.0
_EMPTY_PAUSE = 0.1

# How long a statement may go on after the server has answered that it does, in seconds; and how often we look.
_COMMAND_SECONDS = 60.0
_COMMAND_PAUSE = 0.2
_COMMAND_ENDED = frozenset({"SUCCESS", "ERROR", "TERMINATED"})

# How long it may take to learn of how many partitions a table is, in seconds; without a Kafka it takes minutes.
_DESCRIBE_SECONDS = 1.0

# How many rows of an asset are read at once; more assets than this are cheaper to find in the whole table.
_RANGE_ROWS = 64
_RANGE_ASSETS = 64

# One statement that changes nothing.
_READS = re.compile(r"\s*(SHOW|LIST|DESCRIBE|EXPLAIN)\b[^;]*;?\s*", re.IGNORECASE)

_ENDLESS = re.compile(r"\bEMIT\s+CHANGES\b(?!.*\bLIMIT\b)", re.IGNORECASE | re.DOTALL)


class KsqlDBServer:
    """One ksqlDB server; it connects when it is first asked, and may be used from any thread.

    Args:
        url: `http://host:8088`.
        max_retries, retry_delay: how often, and after how many seconds, what may be asked again is; statements that
            may have been run are not.
        timeout: how long the server may keep silent, in seconds.
        max_requests_per_connection: after so many requests a connection is made anew.
        credentials: user name, password and authorities.

    Raises:
        ConfigurationError: the URL is no address of a server.
    """

    def __init__(
        self,
        url: str,
        *,
        max_retries: int = 3,
        retry_delay: float = 2.0,
        timeout: float = 10.0,
        max_requests_per_connection: int = 1000,
        credentials: Credentials | None = None,
    ) -> None:
        self._connection = KsqlDBHttp(
            url,
            max_retries=max_retries,
            retry_delay=retry_delay,
            timeout=timeout,
            max_requests_per_connection=max_requests_per_connection,
            credentials=credentials,
        )
        self._partitions: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> KsqlDBServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Its address, without a user name or password."""
        return self._connection.url

    def info(self) -> dict[str, Any]:
        """Its version and state, as the server says it."""
        return self._object("/info")

    def health(self) -> dict[str, Any]:
        """How it and its Kafka are; the server looks for a Kafka that is gone for a minute before it says so."""
        return self._object("/healthcheck")

    def query(self, sql: str, *parameters: Any, expect_rows: bool = False) -> list[dict[str, Any]]:
        """The rows of a SELECT, columns as the server names them: in upper case, unless they are quoted.

        Args:
            sql: a SELECT; `?` stands for a parameter.
            expect_rows: ask again for a moment while there are none: just after a server was killed and restarted its
                tables are empty, and it does not say so.

        Raises:
            KSQLDBQueryError: it cannot be answered.
            KSQLDBUnavailableError: the server is not there, or not ready.
        """
        bound = terminated(bind(sql, parameters))
        if _ENDLESS.search(code_of(bound)):
            raise KSQLDBQueryError(
                "A query with EMIT CHANGES has no end. Leave it out, set a LIMIT, or subscribe to the asset.",
                statement=sql,
            )
        request = Request("/query-stream", {"sql": bound, "properties": {}}, _DELIMITED, sql)
        deadline = time.monotonic() + _EMPTY_SECONDS
        while True:
            rows = self._connection.send(request, lambda response: read_rows(response.content))
            if rows or not expect_rows or time.monotonic() >= deadline:
                return rows
            self._connection.pause(_EMPTY_PAUSE)

    def statement(self, sql: str) -> httpx.Response:
        """Run a statement that is no SELECT, and follow it until it is done: a 200 alone does not say so.

        Returns:
            the server's answer, with the status of commands as it was at their end.

        Raises:
            KSQLDBClientException: it is refused, fails, or is not done within a minute.
            KSQLDBUnavailableError: the server is not there, not ready, or did not say whether it ran the statement.
        """
        response, entities = self._run(sql)
        followed = [self._followed(sql, entity) for entity in entities]
        return _with_content(response, followed) if followed != entities else response

    def streams(self) -> list[str]:
        """The names of its streams."""
        return sorted(self._sources("STREAMS"))

    def tables(self) -> list[str]:
        """The names of its tables."""
        return sorted(self._sources("TABLES"))

    def topic_of(self, name: str) -> str:
        """The Kafka topic of a stream or table; it is answered also while the server has lost its Kafka.

        Raises:
            KSQLDBClientException: there is no such stream or table.
        """
        topics = self._sources("STREAMS")
        wanted = source_name(name)
        if wanted not in topics:
            topics |= self._sources("TABLES")
        if wanted not in topics:
            raise KSQLDBClientException(
                f"{self.url} has no stream or table {name!r}. Make it by `ofa setup-kafka`, or name one of "
                f"{', '.join(sorted(topics)) or 'none that are there'}."
            )
        return topics[wanted]

    def insert_values(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write rows by INSERT INTO … VALUES, one statement for each, in their order.

        Args:
            stream: its name.
            rows: values by column.

        Returns:
            how many were written.

        Raises:
            KSQLDBClientException: a row is refused; those before it are written.
            KSQLDBUnavailableError: the server is not there, or did not say whether it wrote a row.
        """
        statements = [_insert(stream, row) for row in rows]  # all of them before the first is sent
        for statement in statements:
            self.statement(statement)
        return len(statements)

    def rows_of_assets(
        self, asset_uuids: Collection[str] | None = None, *, table: str = "ASSETS", key_column: str = "KEY"
    ) -> list[dict[str, Any]]:
        """The rows of some assets, or of all, of a table whose key is `<asset>|<attribute>`.

        A row is found by its key, by which the table is ordered; looking for `asset_uuid` would read all of it.

        Args:
            asset_uuids: the assets; None is all.
            table: its name.
            key_column: the column with the key.
        """
        if asset_uuids is not None and len(asset_uuids) <= _RANGE_ASSETS:
            return [row for uuid in asset_uuids for row in self._rows_of_asset(f"{uuid}|", table, key_column)]
        rows = self.query(f"SELECT * FROM {identifier(table)}")  # noqa: S608
        if asset_uuids is None:
            return rows
        wanted, key = set(asset_uuids), source_name(key_column)
        return [row for row in rows if str(row[key]).partition("|")[0] in wanted]

    def close(self) -> None:
        """Let go of the connections; doing it twice does nothing."""
        self._connection.close()

    def _run(self, sql: str, seconds: float | None = None) -> tuple[httpx.Response, list[dict[str, Any]]]:
        """The answer to a statement, and the objects in it."""

        def read(response: httpx.Response) -> tuple[httpx.Response, list[dict[str, Any]]] | Failure:
            entities = read_entities(response.content)
            return entities if isinstance(entities, Failure) else (response, entities)

        content = {"ksql": terminated(sql), "streamsProperties": {}}
        reads = _READS.fullmatch(code_of(sql)) is not None
        return self._connection.send(Request("/ksql", content, statement=sql, reads=reads, seconds=seconds), read)

    def _rows_of_asset(self, prefix: str, table: str, key_column: str) -> list[dict[str, Any]]:
        column = identifier(key_column)
        select = f"SELECT * FROM {identifier(table)} WHERE {column} >= ?"  # noqa: S608
        if self._partitions_of(table) != 1:
            # Each partition has an order of its own, so that a LIMIT could be used up by the others' rows.
            return self.query(f"{select} AND {column} < ?", prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
        key = source_name(key_column)
        found: list[dict[str, Any]] = []
        start = prefix
        while True:
            rows = self.query(f"{select} LIMIT {_RANGE_ROWS}", start)
            own = [row for row in rows if row[key].startswith(prefix)]
            found += own[1:] if found and own and own[0][key] == start else own
            if len(rows) < _RANGE_ROWS or len(own) < len(rows) or own[-1][key] == start:
                return found
            start = own[-1][key]

    def _partitions_of(self, table: str) -> int:
        """How many partitions a table has; 0 while the server has lost its Kafka and does not know."""
        if table not in self._partitions:
            try:
                _, [entity] = self._run(f"DESCRIBE {identifier(table)} EXTENDED;", _DESCRIBE_SECONDS)
                self._partitions[table] = entity["sourceDescription"]["partitions"]
            except (KSQLDBClientException, LookupError, ValueError):
                return 0
        return self._partitions[table]

    def _sources(self, kind: str) -> dict[str, str]:
        return sources_of(self._run(f"SHOW {kind};")[1])

    def _object(self, path: str) -> dict[str, Any]:
        return self._connection.send(Request(path), lambda response: read_object(response.content))

    def _followed(self, sql: str, entity: dict[str, Any]) -> dict[str, Any]:
        """The part of an answer that tells of a command, once the command is done."""
        command = entity.get("commandStatus")
        if not isinstance(command, dict):
            return entity
        deadline = time.monotonic() + _COMMAND_SECONDS
        path = f"/status/{quote(str(entity.get('commandId')))}"
        while command.get("status") not in _COMMAND_ENDED:
            if time.monotonic() > deadline:
                raise KSQLDBClientException(
                    f"{self.url} has not done the statement within {_COMMAND_SECONDS:g} s and goes on with it "
                    f"({command.get('status')}). Look at {path} until it has.",
                    statement=sql,
                )
            self._connection.pause(_COMMAND_PAUSE)
            command = self._object(path)
        if command["status"] != "SUCCESS":
            raise KSQLDBClientException(
                f"{self.url} could not do the statement: {command.get('message')} Look into the server's log.",
                statement=sql,
            )
        return entity | {"commandStatus": command}


def _insert(stream: str, row: Mapping[str, Any]) -> str:
    columns = ", ".join(map(identifier, row))
    values = ", ".join(map(literal, row.values()))
    return f"INSERT INTO {identifier(stream)} ({columns}) VALUES ({values});"  # noqa: S608


def _with_content(response: httpx.Response, entities: list[dict[str, Any]]) -> httpx.Response:
    import httpx

    headers = {"Content-Type": "application/json"}
    return httpx.Response(200, headers=headers, content=msgspec.json.encode(entities), request=response.request)
