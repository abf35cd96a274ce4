"""A ksqlDB server of the tests: it answers as a real one was recorded to, from the tables of an engine.

Pull queries become SELECTs on those tables. What a real server refuses is refused with its code, and rows of a range
come in the order of their keys, so that a client that works here does not lean on SQLite.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from openfactory.engines.ksqldb.columns import COLUMNS
from openfactory.exceptions import QueryError

__all__ = ["KsqlDBStandIn"]

Query = Callable[[str], list[dict[str, Any]]]
Publish = Callable[[str, dict[str, Any]], object]
Answer = tuple[int, Any]

_STREAMS = {
    "ASSETS_AVAIL_STREAM": "assets_avail_topic",
    "ASSETS_STREAM_UNS": "ofa_assets_uns",
    "ASSETS_TYPE_STREAM": "assets_types_topic",
    "DOCKER_SERVICES_STREAM": "docker_services_topic",
    "ENRICHED_ASSETS_STREAM": "enriched_assets_stream_topic",
}
_TABLES = {
    "ASSETS": "ASSETS",
    "ASSETS_AVAIL": "assets_avail_topic",
    "ASSETS_TYPE": "assets_types_topic",
    "ASSETS_UNS": "ASSETS_UNS",
    "ASSET_TO_UNS_MAP": "ASSET_TO_UNS_MAP",
    "ASSET_TO_UNS_MAP_RAW": "asset_to_uns_map_topic",
    "DOCKER_SERVICES": "docker_services_topic",
}

_TOKEN = re.compile(r"'(?:[^']|'')*'|`[^`]*`|\"[^\"]*\"|--[^\n]*|;|[^'`\";-]+|-")
_NAME = r"[`\"]?(\w+)[`\"]?"
_SHOW = re.compile(r"(?:SHOW|LIST)\s+(STREAMS|TABLES|PROPERTIES)", re.IGNORECASE)
_DESCRIBE = re.compile(rf"DESCRIBE\s+{_NAME}(\s+EXTENDED)?", re.IGNORECASE)
_CREATE = re.compile(
    rf"CREATE\s+(OR\s+REPLACE\s+)?(?:SOURCE\s+)?(STREAM|TABLE)\s+(IF\s+NOT\s+EXISTS\s+)?{_NAME}", re.IGNORECASE
)
_DROP = re.compile(rf"DROP\s+(STREAM|TABLE)\s+(IF\s+EXISTS\s+)?{_NAME}", re.IGNORECASE)
_INSERT = re.compile(rf"INSERT\s+INTO\s+{_NAME}\s*\((.*?)\)\s*VALUES\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_TOPIC = re.compile(r"KAFKA_TOPIC\s*=\s*'([^']*)'", re.IGNORECASE)
_VALUE = re.compile(r"\s*(MAP\((?:'(?:[^']|'')*'|[^')])*\)|'(?:[^']|'')*'|[^,]+?)\s*(?:,|$)", re.DOTALL)
_PAIR = re.compile(r"'((?:[^']|'')*)'\s*:=\s*'((?:[^']|'')*)'")
_RANGE = re.compile(r"\bWHERE\s+(`?\w+`?)\s*>=?", re.IGNORECASE)
_LIMIT = re.compile(r"\s+LIMIT\s+\d+\s*$", re.IGNORECASE)
_REFUSED = re.compile(
    r"\b(ORDER\s+BY|GROUP\s+BY|IS\s+(?:NOT\s+)?NULL|JOIN|WITH|UNION|OFFSET)\b|\bCOUNT\s*\(", re.IGNORECASE
)


class KsqlDBStandIn:
    """Serves on 127.0.0.1, on one port for as long as it lives.

    Args:
        query: runs a SELECT on the tables, and raises QueryError for what it cannot answer.
        topic: the topic of `assets_stream`.
        publish: is given the asset and the other columns of a row that is inserted into `assets_stream`.
        prefix: stands before the names of all topics.
        partitions: how many partitions the tables say they have.

    Attributes:
        unavailable: answer as a server that is starting.
        silent: take requests and never answer.
        empty: answer queries as just after a kill: without rows and without an error.
        requests: the method, the path and the SQL of each request.
        columns: by stream or table, the type of each column that a DESCRIBE tells.
    """

    def __init__(
        self,
        query: Query,
        topic: str = "ofa_assets",
        publish: Publish | None = None,
        *,
        prefix: str = "",
        partitions: int = 1,
    ) -> None:
        self.query = query
        self.publish = publish
        self.partitions = partitions
        self.unavailable = False
        self.silent = False
        self.empty = False
        self.requests: list[tuple[str, str, str]] = []
        self.streams = {name: prefix + topic for name, topic in {"ASSETS_STREAM": topic, **_STREAMS}.items()}
        self.tables = {name: prefix + topic for name, topic in _TABLES.items()}
        self.columns = {name: dict(columns) for name, columns in COLUMNS.items()}
        self.properties = {"ksql.streams.producer.linger.ms": "0", "ksql.service.id": "ofa_"}
        self._port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> KsqlDBStandIn:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it is, also while it is stopped."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="ksqldb-stand-in")
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections and cut those that are there; stopping twice does nothing."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.stopping.set()
        server.shutdown()
        self._thread.join()
        server.cut()
        server.server_close()

    def restart(self) -> None:
        """Stop, and serve again."""
        self.stop()
        self.start()

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The status and what stands in the answer: an object, rows as (columns, rows), or text."""
        if self.unavailable:
            return 503, _error("generic_error", 50302, "KSQL is not yet ready to serve requests.")
        if path == "/info":
            server = {"version": "7.9.9", "kafkaClusterId": "test", "ksqlServiceId": "ofa_", "serverStatus": "RUNNING"}
            return (200, {"KsqlServerInfo": server}) if method == "GET" else (405, "")
        if path == "/healthcheck":
            return (200, {"isHealthy": True, "details": {}, "serverState": "READY"}) if method == "GET" else (405, "")
        if path.startswith("/status/"):
            return 404, _error("generic_error", 40400, "Command not found")
        if path not in ("/ksql", "/query-stream"):
            return 404, "<html><body><h1>Resource not found</h1></body></html>"
        if method != "POST":
            return 405, ""
        field = "sql" if path == "/query-stream" else "ksql"
        sql = str(json.loads(body).get(field) or "")
        self.requests[-1] = (method, path, sql)
        try:
            statements = list(_statements(sql))
            if path == "/query-stream":
                return 200, self._select(sql, statements)
            return 200, [entity for statement in statements for entity in self._run(statement)]
        except _Refusal as refusal:
            return 400, refusal.body
        except QueryError as error:
            return 400, _error("statement_error", 40001, str(error), sql)

    def _select(self, sql: str, statements: list[str]) -> tuple[list[str], list[list[Any]]]:
        if len(statements) != 1:
            raise _Refusal(40001, f"Expected exactly one KSQL statement; found {len(statements)} instead", sql)
        [statement] = statements
        if not re.match(r"SELECT\b", statement, re.IGNORECASE):
            raise _Refusal(40001, f"Neither a query nor a print statement\nStatement: {sql}", sql)
        bare = re.sub(r"'(?:[^']|'')*'", "''", statement)
        if found := _REFUSED.search(bare):
            raise _Refusal(40001, f"Pull queries don't support {found.group()} clauses.", sql)
        rows = self.query(_ordered(statement))
        columns = list(rows[0]) if rows else _selected(statement)
        return columns, [] if self.empty else [[_typed(name, row[name]) for name in columns] for row in rows]

    def _run(self, statement: str) -> Iterator[dict[str, Any]]:
        if found := _SHOW.fullmatch(statement):
            yield self._shown(found[1].lower(), statement)
        elif found := _DESCRIBE.fullmatch(statement):
            yield self._described(found[1].upper(), statement)
        elif found := _CREATE.match(statement):
            yield self._created(statement, found)
        elif found := _DROP.fullmatch(statement):
            yield self._dropped(statement, found)
        elif found := _INSERT.fullmatch(statement):
            self._insert(statement, found[1].upper(), found[2], found[3])
        elif re.match(r"SELECT\b", statement, re.IGNORECASE):
            raise _Refusal(40002, "The following statement types should be issued to the websocket endpoint", statement)
        else:
            raise _Refusal(40001, f"line 1:1: Syntax Error\nSyntax error at or near '{statement[:20]}'", statement)

    def _shown(self, kind: str, statement: str) -> dict[str, Any]:
        if kind == "properties":
            listed = [{"name": name, "scope": "KSQL", "value": value} for name, value in self.properties.items()]
            return {"@type": "properties", "statementText": statement, "properties": listed, "warnings": []}
        sources = self.streams if kind == "streams" else self.tables
        rows = [
            {"type": kind[:-1].upper(), "name": name, "topic": topic, "keyFormat": "KAFKA", "valueFormat": "JSON"}
            for name, topic in sources.items()
        ]
        return {"@type": kind, "statementText": statement, kind: rows, "warnings": []}

    def _described(self, name: str, statement: str) -> dict[str, Any]:
        topic = {**self.streams, **self.tables}.get(name)
        if topic is None:
            raise _Refusal(40001, f"Could not find STREAM/TABLE '{name}' in the Metastore", statement)
        description = {
            "name": name,
            "type": "STREAM" if name in self.streams else "TABLE",
            "topic": topic,
            "partitions": self.partitions,
            "fields": [
                {"name": column, "schema": {"type": type, "fields": None, "memberSchema": None}}
                for column, type in self.columns.get(name, {}).items()
            ],
        }
        return {"@type": "sourceDescription", "statementText": statement, "sourceDescription": description}

    def _created(self, statement: str, found: re.Match[str]) -> dict[str, Any]:
        kind, name = found[2].lower(), found[4].upper()
        sources = self.streams if kind == "stream" else self.tables
        if name in {**self.streams, **self.tables} and not found[1]:
            exists = f"A {kind} with the same name already exists"
            if not found[3]:
                raise _Refusal(40001, f"Cannot add {kind} '{name}': {exists}", statement)
            message = f"Cannot add {kind} `{name}`: {exists}."
            return {"@type": "warning_entity", "statementText": statement, "message": message, "warnings": []}
        topic = _TOPIC.search(statement)
        sources[name] = topic[1] if topic else name
        return _done(statement, f"{kind}/`{name}`/create", f"{kind.capitalize()} created")

    def _dropped(self, statement: str, found: re.Match[str]) -> dict[str, Any]:
        kind, name = found[1].lower(), found[3].upper()
        sources = self.streams if kind == "stream" else self.tables
        if sources.pop(name, None) is None and not found[2]:
            raise _Refusal(40001, f"{kind.capitalize()} {name} does not exist.", statement)
        return _done(statement, f"{kind}/{name}/drop", f"Source `{name}` was dropped.")

    def _insert(self, statement: str, name: str, columns: str, values: str) -> None:
        if name not in self.streams:
            body = _error("generic_error", 40000, f"Cannot insert values into an unknown stream/table: `{name}`")
            raise _Refusal(40000, "", statement, body)
        names = [column.strip().strip("`").upper() for column in columns.split(",")]
        row = dict(zip(names, map(_python_value, _VALUE.findall(values)), strict=True))
        if name == "ASSETS_STREAM" and self.publish is not None:
            self.publish(str(row.pop("ASSET_UUID")), row)


class _Refusal(Exception):
    def __init__(self, code: int, message: str, statement: str, body: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.body = body or _error("statement_error", code, message, statement)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, stand_in: KsqlDBStandIn, port: int) -> None:
        self.stand_in = stand_in
        self.stopping = threading.Event()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or that we cut off, is no error of the server."""

    def cut(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *arguments: object) -> None: ...

    def _serve(self) -> None:
        stand_in = self.server.stand_in
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path)
        stand_in.requests.append((self.command, path, ""))
        while stand_in.silent:
            if self.server.stopping.wait(0.02):
                return
        status, answer = stand_in.answer(self.command, path, body)
        self._send(status, answer, streamed=path == "/query-stream")

    def _send(self, status: int, answer: Any, *, streamed: bool) -> None:
        self.send_response(status)
        if isinstance(answer, tuple):
            self.send_header("Content-Type", "application/vnd.ksqlapi.delimited.v1")
            content = _delimited(*answer)
        elif isinstance(answer, str):
            content = answer.encode()
            if content:
                self.send_header("Content-Type", "text/html; charset=utf-8")
        else:
            content = _json(answer)
            if not streamed and status != 503:  # where rows are expected, errors come without
                self.send_header("Content-Type", "application/json")
        if streamed and status != 503:
            self.send_header("Transfer-Encoding", "chunked")
            content = (b"%x\r\n%s\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def _statements(sql: str) -> Iterator[str]:
    """The statements of a text, without comments; the last one must have its semicolon too."""
    statement = ""
    for token in _TOKEN.findall(sql):
        if token == ";":
            yield statement.strip()
            statement = ""
        elif not token.startswith("--"):
            statement += token
    if statement.strip():
        raise _Refusal(40001, f"line 1:{len(sql) + 1}: Syntax Error\nmissing ';' at '<EOF>'", sql)


def _ordered(statement: str) -> str:
    """A range comes in the order of the keys, also where SQLite would choose another."""
    found = _RANGE.search(statement)
    if not found:
        return statement
    limit = _LIMIT.search(statement)
    end = limit.start() if limit else len(statement)
    return f"{statement[:end]} ORDER BY {found[1]}{statement[end:]}"


def _selected(statement: str) -> list[str]:
    """The names of the columns where there is no row to tell them; not those of a `*`."""
    selected = re.split(r"\bFROM\b", statement[len("SELECT") :], maxsplit=1, flags=re.IGNORECASE)[0]
    return [column.strip().split(" ")[-1].strip("`").upper() for column in selected.split(",") if column.strip() != "*"]


def _typed(column: str, value: Any) -> Any:
    return json.loads(value) if column == "UNS_LEVELS" and isinstance(value, str) else value


def _python_value(text: str) -> Any:
    if text.upper().startswith("MAP("):
        return {_unquoted(key): _unquoted(value) for key, value in _PAIR.findall(text)}
    if text.startswith("'"):
        return _unquoted(text[1:-1])
    return None if text.upper() == "NULL" else json.loads(text)


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def _done(statement: str, command: str, message: str) -> dict[str, Any]:
    status = {"status": "SUCCESS", "message": message, "queryId": None}
    return {"@type": "currentStatus", "statementText": statement, "commandId": command, "commandStatus": status}


def _error(kind: str, code: int, message: str, statement: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"@type": kind, "error_code": code, "message": message}
    return body if statement is None else body | {"statementText": statement, "entities": []}


def _delimited(columns: list[str], rows: list[list[Any]]) -> bytes:
    types = ["BIGINT" if all(isinstance(row[n], int) for row in rows) else "STRING" for n in range(len(columns))]
    header = {"queryId": "query_1", "columnNames": columns, "columnTypes": types}
    return b"".join(_json(line) + b"\n" for line in [header, *rows])


def _json(value: Any) -> bytes:
    """As ksqlDB writes it: characters of other planes as two escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub(
        r"[\U00010000-\U0010ffff]", lambda found: json.dumps(found.group())[1:-1].upper().replace("\\U", "\\u"), text
    ).encode()
