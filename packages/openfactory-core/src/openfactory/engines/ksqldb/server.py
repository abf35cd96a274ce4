"""Client of a ksqlDB server: queries, statements and inserts over HTTP/1.1, without a ksqlDB library."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from openfactory.engines.ksqldb.answers import Failure, columns_of, read_entities, read_object, read_rows, sources_of
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError
from openfactory.engines.ksqldb.http import KsqlDBHttp, Request
from openfactory.engines.ksqldb.quoting import bind, code_of, identifier, literal, source_name, terminated
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    import httpx

__all__ = ["KsqlDBServer"]

# Media type with one JSON value per line: an array for a row, an object for the header or an error.
_DELIMITED = "application/vnd.ksqlapi.delimited.v1"

# For how long the tables of a restarted server may be empty, and the pause between two queries, in seconds.
_EMPTY_SECONDS = 2.0
_EMPTY_PAUSE = 0.1

# Time limit for a statement that the server runs in the background, and the pause between two checks, in seconds.
_COMMAND_SECONDS = 60.0
_COMMAND_PAUSE = 0.2
_COMMAND_ENDED = frozenset({"SUCCESS", "ERROR", "TERMINATED"})

# Time limit for the DESCRIBE that returns the number of partitions, in seconds; without Kafka it takes minutes.
_DESCRIBE_SECONDS = 1.0

# Rows of an asset per query, and the number of assets above which one query for the whole table is cheaper.
_RANGE_ROWS = 64
_RANGE_ASSETS = 64

# A single statement that only reads.
_READ_ONLY = re.compile(r"\s*(SHOW|LIST|DESCRIBE|EXPLAIN)\b[^;]*;?\s*", re.IGNORECASE)

_ENDLESS = re.compile(r"\bEMIT\s+CHANGES\b(?!.*\bLIMIT\b)", re.IGNORECASE | re.DOTALL)


class KsqlDBServer:
    """Client of one ksqlDB server; it connects with the first request and may be used from any thread.

    Args:
        url: `http://host:8088`.
        max_retries: how often a failed request is sent again; a statement that may have run is not repeated.
        retry_delay: pause before each retry, in seconds.
        timeout: seconds to wait for data from the server.
        max_requests_per_connection: number of requests after which a new connection is opened.
        credentials: user name, password and certificate authorities.

    Raises:
        ConfigurationError: the URL is not the address of a server.
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
        """The server's address, without a user name or password."""
        return self._connection.url

    def info(self) -> dict[str, Any]:
        """Return the version and state that the server reports."""
        return self._object_at("/info")

    def health(self) -> dict[str, Any]:
        """Return the health of the server and its Kafka; if Kafka is unreachable, the response takes a minute."""
        return self._object_at("/healthcheck")

    def query(self, sql: str, *parameters: Any, expect_rows: bool = False) -> list[dict[str, Any]]:
        """Return the rows of a SELECT, with the server's column names: in upper case, unless they are quoted.

        Args:
            sql: a SELECT; `?` stands for a parameter.
            parameters: the values for each `?`.
            expect_rows: repeat the query for 2 seconds while the result is empty. The tables of a server that was
                killed and restarted are empty for a moment, without an error.

        Raises:
            KSQLDBQueryError: the query is rejected or cannot be sent.
            KSQLDBUnavailableError: the server does not answer or is not ready.
        """
        bound = terminated(bind(sql, parameters))
        if _ENDLESS.search(code_of(bound)):
            raise KSQLDBQueryError(
                "A query with EMIT CHANGES never ends. Remove EMIT CHANGES, add a LIMIT, or subscribe to the asset.",
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
        """Run a statement other than a SELECT and wait for its end.

        The status 200 alone does not mean that the statement has finished.

        Returns:
            The server's response, with the final status of each command.

        Raises:
            KSQLDBClientException: the statement is rejected, fails, or does not finish within a minute.
            KSQLDBUnavailableError: the server does not answer, is not ready, or did not report whether it ran the
                statement.
        """
        response, entities = self._run(sql)
        finished = [self._wait_for_command(sql, entity) for entity in entities]
        return _with_content(response, finished) if finished != entities else response

    def streams(self) -> list[str]:
        """Return the names of the streams, sorted."""
        return sorted(self._sources("STREAMS"))

    def tables(self) -> list[str]:
        """Return the names of the tables, sorted."""
        return sorted(self._sources("TABLES"))

    def topic_of(self, name: str) -> str:
        """Return the Kafka topic of a stream or table, even while the server has lost its Kafka.

        Raises:
            KSQLDBClientException: the stream or table does not exist.
        """
        topics = self._sources("STREAMS")
        wanted = source_name(name)
        if wanted not in topics:
            topics |= self._sources("TABLES")
        if wanted not in topics:
            raise KSQLDBClientException(
                f"{self.url} has no stream or table {name!r}. Create it with `ofa setup-kafka`"
                + (f", or use one of {', '.join(sorted(topics))}." if topics else ".")
            )
        return topics[wanted]

    def columns(self, name: str) -> dict[str, str]:
        """Return the type of each column of a stream or table; without its Kafka, the server takes minutes.

        Raises:
            KSQLDBClientException: the stream or table does not exist, or the server describes no columns.
        """
        _, entities = self._run(f"DESCRIBE {identifier(name)};")
        try:
            return columns_of(entities)
        except (LookupError, TypeError) as error:
            raise KSQLDBClientException(
                f"{self.url} does not describe the columns of {name}. Use ksqlDB 7.7 or later."
            ) from error

    def insert_values(self, stream: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write rows in their order, with one INSERT INTO … VALUES for each row.

        Args:
            stream: name of the stream.
            rows: values by column.

        Returns:
            The number of rows that were written.

        Raises:
            KSQLDBClientException: a row is rejected; the rows before it are written.
            KSQLDBUnavailableError: the server does not answer, or did not report whether it wrote a row.
        """
        statements = [_insert(stream, row) for row in rows]  # an invalid row raises before a row is sent
        for statement in statements:
            self.statement(statement)
        return len(statements)

    def rows_of_assets(
        self, asset_uuids: Collection[str] | None = None, *, table: str = "ASSETS", key_column: str = "KEY"
    ) -> list[dict[str, Any]]:
        """Return the rows of some or all assets from a table whose key is `<asset>|<attribute>`.

        The query selects a range of keys, by which the table is ordered. A condition on `asset_uuid` would scan the
        whole table.

        Args:
            asset_uuids: the assets; None selects all assets.
            table: name of the table.
            key_column: name of the key column.
        """
        if asset_uuids is not None and len(asset_uuids) <= _RANGE_ASSETS:
            return [row for uuid in asset_uuids for row in self._rows_of_asset(f"{uuid}|", table, key_column)]
        rows = self.query(f"SELECT * FROM {identifier(table)}")  # noqa: S608
        if asset_uuids is None:
            return rows
        wanted, key = set(asset_uuids), source_name(key_column)
        return [row for row in rows if str(row[key]).partition("|")[0] in wanted]

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        self._connection.close()

    def _run(self, sql: str, seconds: float | None = None) -> tuple[httpx.Response, list[dict[str, Any]]]:
        """Return the response to a statement, and the objects in it."""

        def read(response: httpx.Response) -> tuple[httpx.Response, list[dict[str, Any]]] | Failure:
            entities = read_entities(response.content)
            return entities if isinstance(entities, Failure) else (response, entities)

        content = {"ksql": terminated(sql), "streamsProperties": {}}
        reads = _READ_ONLY.fullmatch(code_of(sql)) is not None
        return self._connection.send(Request("/ksql", content, statement=sql, reads=reads, seconds=seconds), read)

    def _rows_of_asset(self, prefix: str, table: str, key_column: str) -> list[dict[str, Any]]:
        column = identifier(key_column)
        select = f"SELECT * FROM {identifier(table)} WHERE {column} >= ?"  # noqa: S608
        if self._partitions_of(table) != 1:
            # Each partition is ordered by itself, so rows of other assets could use up a LIMIT.
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
        """Return the number of partitions of a table, or 0 while the server has lost its Kafka and cannot find it."""
        if table not in self._partitions:
            try:
                _, [entity] = self._run(f"DESCRIBE {identifier(table)} EXTENDED;", _DESCRIBE_SECONDS)
                self._partitions[table] = entity["sourceDescription"]["partitions"]
            except (KSQLDBClientException, LookupError, ValueError):
                return 0
        return self._partitions[table]

    def _sources(self, kind: str) -> dict[str, str]:
        return sources_of(self._run(f"SHOW {kind};")[1])

    def _object_at(self, path: str) -> dict[str, Any]:
        return self._connection.send(Request(path), lambda response: read_object(response.content))

    def _wait_for_command(self, sql: str, entity: dict[str, Any]) -> dict[str, Any]:
        """Wait until the command in a result has ended, and return the result with its final status."""
        command = entity.get("commandStatus")
        if not isinstance(command, dict):
            return entity
        deadline = time.monotonic() + _COMMAND_SECONDS
        path = f"/status/{quote(str(entity.get('commandId')))}"
        while command.get("status") not in _COMMAND_ENDED:
            if time.monotonic() > deadline:
                raise KSQLDBClientException(
                    f"{self.url} has not finished the statement within {_COMMAND_SECONDS:g} s and still runs it "
                    f"({command.get('status')}). Check {path} until it has finished.",
                    statement=sql,
                )
            self._connection.pause(_COMMAND_PAUSE)
            command = self._object_at(path)
        if command["status"] != "SUCCESS":
            raise KSQLDBClientException(
                f"{self.url} failed to run the statement: {command.get('message')} Check the server's log.",
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
