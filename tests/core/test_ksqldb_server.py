"""KsqlDBServer against what a real server was recorded to answer, its errors and its ways to die among it.

The replies in `ksqldb_replies/` are the bytes of a ksqlDB 7.9.9; long ones are shortened.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
import traceback
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from openfactory.engines.ksqldb.columns import COLUMNS
from openfactory.engines.ksqldb.errors import KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.engines.ksqldb.tables import KsqlDBTables
from openfactory.exceptions import ConfigurationError, EngineUnavailableError, QueryError
from openfactory.settings.credentials import Credentials

REPLIES = Path(__file__).with_name("ksqldb_replies")
SELECT = "SELECT id, value FROM assets WHERE key = 'DEV-1|temp';"
WAY_OUT = "To run without a server, set KSQLDB_URL=sqlite:///factory.db or use `ofa run` with the app's file."


class Reply(NamedTuple):
    """What is answered: `ended` is how, for a server that dies meanwhile."""

    status: int
    body: bytes
    headers: dict[str, str]
    ended: str = "complete"


class Seen(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def sql(self) -> str:
        said = json.loads(self.body)
        return str(said.get("sql") or said.get("ksql"))


Step = Reply | Callable[[Seen], Reply]


def recorded(name: str) -> Reply:
    said = json.loads((REPLIES / f"{name}.json").read_text(encoding="utf-8"))
    return Reply(said["status"], said["body"].encode(), said["headers"])


SILENCE = Reply(200, b"", {}, "silent")
HANG_UP = Reply(200, b"", {}, "hung up")


class ReplyServer(ThreadingHTTPServer):
    """Answers each request by the next step; the last one stays."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.steps: list[Step] = [recorded("info")]
        self.seen: list[Seen] = []
        self.connections: list[socket.socket] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answers(self, *steps: str | Step) -> None:
        self.steps = [recorded(step) if isinstance(step, str) else step for step in steps]

    def next_reply(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return step if isinstance(step, Reply) else step(seen)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: ReplyServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.next_reply(Seen(self.command, self.path, dict(self.headers), body))
        if reply.ended == "silent":
            self.server.closing.wait(30)
        if reply.ended in ("silent", "hung up"):
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.path == "/query-stream":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(reply.body), reply.body) if reply.body else b"")
            self.wfile.write(b"0\r\n\r\n" if reply.ended == "complete" else b"")
        else:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
        self.close_connection = self.close_connection or reply.ended != "complete"
        self.wfile.flush()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def server() -> Iterator[ReplyServer]:
    with ReplyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()
        for connection in server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def ksqldb(server: ReplyServer) -> Iterator[KsqlDBServer]:
    """Three retries, and no time lost between them."""
    with KsqlDBServer(server.url, retry_delay=0.02, timeout=5) as ksqldb:
        yield ksqldb


# --- Rows ---------------------------------------------------------------------------------------


def test_rows_are_dictionaries_by_the_names_of_the_header(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("row_by_key")
    assert ksqldb.query("SELECT id, value, type, tag, timestamp FROM assets WHERE key = ?", "DEV-1|temp") == [
        {
            "ID": "temp",
            "VALUE": "20.5",
            "TYPE": "Samples",
            "TAG": "Temperature",
            "TIMESTAMP": "2025-01-01T00:00:00.000Z",
        }
    ]
    [seen] = server.seen
    assert (seen.method, seen.path) == ("POST", "/query-stream")
    assert seen.headers["Accept"] == "application/vnd.ksqlapi.delimited.v1"
    assert seen.sql == "SELECT id, value, type, tag, timestamp FROM assets WHERE key = 'DEV-1|temp';"


def test_text_comes_through_as_it_is(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("rows_with_unicode")
    rows = {row["ID"]: row["VALUE"] for row in ksqldb.query(SELECT)}
    assert rows == {
        "AssetType": "Device",
        "avail": "AVAILABLE",
        "it's": 'l\'été "x" 漢字 😀',
        "none": None,
        "temp": "20.5",
    }


def test_every_type_of_ksqldb_has_its_value(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("rows_of_all_types")
    [row] = ksqldb.query(SELECT)
    assert row["BIG"] == 2**53 + 1
    assert (row["S"], row["A"], row["D"], row["B"]) == ({"X": 1, "Y": "z"}, [1.5, 2.0], 1.1, "aGk=")
    assert (row["TS"], row["T"], row["N"]) == ("2023-11-14T22:13:20.123", True, None)
    assert row["lower case"] == "DEV-1|temp"


@pytest.mark.parametrize("form", ['"2026-11-29T14:53:03.256"', '"2026-11-29T14:53:03.256Z"', "1795963983256"])
def test_the_time_of_a_place_is_read_in_each_form(server: ReplyServer, form: str) -> None:
    reply = recorded("places_with_timestamp")
    server.answers(reply._replace(body=reply.body.replace(b'"2026-11-29T14:53:03.256"', form.encode())))
    with KsqlDBServer(server.url) as ksqldb:
        assert KsqlDBTables(ksqldb).places() == {"DEV-1": ("F/WC1/dev", 1795963983256), "DEV-2": (None, 0)}


def test_the_columns_of_a_table_have_their_types(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("describe_table")
    assert ksqldb.columns("assets") == COLUMNS["ASSETS"]
    assert server.seen[-1].sql == "DESCRIBE `ASSETS`;"
    server.answers("show_tables")
    with pytest.raises(KSQLDBClientException, match="does not describe the columns of assets"):
        ksqldb.columns("assets")


def test_half_a_character_in_the_data_spoils_nothing_else(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    header = b'{"queryId":"q","columnNames":["ID","VALUE"],"columnTypes":["STRING","STRING"]}\n'
    server.answers(Reply(200, header + b'["a","x\\uD83Dy"]\n["b","\\uD83D\\uDE00"]\n["c","\xe2\x80\xa8"]\n', {}))
    assert ksqldb.query(SELECT) == [
        {"ID": "a", "VALUE": "x\ufffdy"},
        {"ID": "b", "VALUE": "😀"},
        {"ID": "c", "VALUE": "\u2028"},
    ]


def test_no_rows_are_an_empty_list(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("rows_none")
    assert ksqldb.query(SELECT) == []
    assert len(server.seen) == 1


def test_a_missing_semicolon_is_put_there(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("rows_none")
    for sql in ("SELECT 1", "SELECT 1;", "SELECT 1 -- all", "SELECT 1; -- all", "SELECT ';'"):
        ksqldb.query(sql)
    assert [seen.sql for seen in server.seen] == [
        "SELECT 1;",
        "SELECT 1;",
        "SELECT 1 -- all\n;",
        "SELECT 1; -- all",
        "SELECT ';';",
    ]


def test_a_query_without_an_end_is_refused_before_it_is_asked(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    with pytest.raises(KSQLDBQueryError, match=r"never ends\. Remove EMIT CHANGES"):
        ksqldb.query("SELECT * FROM assets_stream emit\nchanges;")
    assert server.seen == []
    server.answers("rows_none")
    ksqldb.query("SELECT * FROM assets_stream EMIT CHANGES LIMIT 1")
    ksqldb.query("SELECT * FROM assets WHERE value = 'EMIT CHANGES'")


# --- Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows_then_error", "scan_then_error"])
def test_an_error_among_the_rows_of_a_200_is_an_error(ksqldb: KsqlDBServer, server: ReplyServer, name: str) -> None:
    server.answers(name)
    with pytest.raises(KSQLDBQueryError, match=r"Exception.*Check the server's log") as caught:
        ksqldb.query(SELECT)
    assert (caught.value.code, caught.value.statement) == (50000, SELECT)
    assert len(server.seen) == 2  # asked again, once


def test_what_was_cut_once_is_asked_again(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("scan_then_error", "row_by_key")
    assert len(ksqldb.query(SELECT)) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("query_syntax_error", "line 1:46: Syntax Error"),
        ("query_unknown_table", "NOPE does not exist."),
        ("query_unknown_column", "SELECT column 'NOPE' cannot be resolved."),
        ("query_scan_disabled", "WHERE clause missing key column"),
        ("needs_http2", "only available when using HTTP2"),
    ],
)
def test_what_is_refused_is_never_asked_again(ksqldb: KsqlDBServer, server: ReplyServer, name: str, said: str) -> None:
    server.answers(name)
    assert "content-type" not in recorded(name).headers
    with pytest.raises(KSQLDBQueryError) as caught:
        ksqldb.query(SELECT)
    assert said in str(caught.value)
    assert str(caught.value).endswith("Correct the statement; tables() and streams() list the existing names.")
    assert "\n" not in str(caught.value)
    assert caught.value.statement == SELECT
    assert caught.value.code in (40001, 40004)
    assert isinstance(caught.value, KSQLDBClientException)
    assert isinstance(caught.value, QueryError)
    assert not isinstance(caught.value, EngineUnavailableError)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "name",
    [
        "passing_not_available",
        "passing_not_running",
        "passing_not_queryable",
        "passing_no_host",
        "starting",
        "too_many_queries",
        "internal_error",
        "busy_with_a_command",
    ],
)
def test_what_passes_by_itself_is_asked_again(
    ksqldb: KsqlDBServer,
    server: ReplyServer,
    logged: list[logging.LogRecord],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    caplog.set_level(logging.INFO, "openfactory.ksqlDB")
    server.answers(name, "row_by_key")
    assert len(ksqldb.query(SELECT)) == 1
    assert len(server.seen) == 2
    assert [record.levelname for record in logged] == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("passing_not_available", 40001),
        ("passing_not_queryable", 40001),
        ("query_not_materialised", 40001),
        ("starting", 50302),
        ("too_many_queries", 42900),
    ],
)
def test_it_is_asked_again_no_more_often_than_it_may(
    ksqldb: KsqlDBServer, server: ReplyServer, logged: list[logging.LogRecord], name: str, code: int
) -> None:
    server.answers(name)
    with pytest.raises(KSQLDBUnavailableError) as caught:
        ksqldb.query(SELECT)
    assert (caught.value.code, caught.value.statement, caught.value.address) == (code, SELECT, server.url)
    assert len(server.seen) == 4
    assert len(logged) == 1  # said once, not each time


@pytest.mark.parametrize(
    ("name", "status", "remedy"),
    [
        ("unknown_path_is_html", 404, "Check the address"),
        ("wrong_method_is_empty", 405, "Check the address"),
        ("accept_not_offered_is_empty", 406, "Check the address"),
    ],
)
def test_what_is_no_ksqldb_is_told_from_one(
    ksqldb: KsqlDBServer, server: ReplyServer, name: str, status: int, remedy: str
) -> None:
    server.answers(name)
    with pytest.raises(KSQLDBUnavailableError, match=remedy) as caught:
        ksqldb.info()
    assert caught.value.code == status
    assert len(server.seen) == 1


@pytest.mark.parametrize("body", [b"", b"<html>Welcome</html>", b"[1]", b'{"a": 1}', b"[[1", b"\xff"])
def test_a_200_of_somebody_else_is_no_answer(ksqldb: KsqlDBServer, server: ReplyServer, body: bytes) -> None:
    server.answers(Reply(200, body, {}))
    with pytest.raises(KSQLDBUnavailableError, match="does not come from ksqlDB"):
        ksqldb.query(SELECT)
    with pytest.raises(KSQLDBUnavailableError, match="does not come from ksqlDB"):
        ksqldb.statement("CREATE STREAM s (x INT)")


def test_a_row_of_another_length_is_an_error(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers(Reply(200, b'{"queryId":"q","columnNames":["A"],"columnTypes":["STRING"]}\n["a","b"]\n', {}))
    with pytest.raises(KSQLDBUnavailableError, match="does not match the columns"):
        ksqldb.query(SELECT)


# --- A server that is not there -----------------------------------------------------------------


def test_nobody_there_is_one_sentence_with_the_address_and_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    with KsqlDBServer(url, retry_delay=0.01) as ksqldb:
        for ask in (ksqldb.info, ksqldb.tables, partial(ksqldb.query, SELECT), partial(ksqldb.statement, "DROP x;")):
            with pytest.raises(KSQLDBUnavailableError) as caught:
                ask()
            assert str(caught.value).startswith(f"No ksqlDB server answers at {url} (")
            assert str(caught.value).endswith(WAY_OUT)
            assert caught.value.address == url
            assert isinstance(caught.value, EngineUnavailableError)
            assert isinstance(caught.value, ConnectionError)


def test_a_server_that_comes_late_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
    tried = threading.Event()

    def come() -> None:
        assert tried.wait(60)
        with socket.create_server(("127.0.0.1", port)) as listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    late = threading.Thread(target=come)
    late.start()
    handler = _Signal(tried)
    logging.getLogger("openfactory.ksqlDB").addHandler(handler)
    try:
        with KsqlDBServer(f"http://127.0.0.1:{port}", retry_delay=0.3, max_retries=30) as ksqldb:
            # Also a statement: what could not be sent was not run.
            assert ksqldb.statement("DROP STREAM s;").json() == []
    finally:
        logging.getLogger("openfactory.ksqlDB").removeHandler(handler)
    late.join()


class _Signal(logging.Handler):
    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self.event = event

    def emit(self, record: logging.LogRecord) -> None:
        self.event.set()


def test_a_server_that_never_answers_is_not_waited_for_without_end(server: ReplyServer) -> None:
    server.answers(SILENCE)
    with KsqlDBServer(server.url, max_retries=2, retry_delay=0.05, timeout=0.3) as ksqldb:
        started = time.monotonic()
        with pytest.raises(KSQLDBUnavailableError, match=r"no answer within 0\.3 s"):
            ksqldb.query(SELECT)
        assert time.monotonic() - started < 20


def test_a_port_that_takes_connections_and_says_nothing_is_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            KsqlDBServer(url, max_retries=0, timeout=0.2) as ksqldb,
            pytest.raises(KSQLDBUnavailableError, match="no answer within"),
        ):
            ksqldb.info()


@pytest.mark.parametrize("step", [HANG_UP, recorded("row_by_key")._replace(ended="cut")])
def test_a_connection_that_ends_in_the_middle_is_asked_again(
    ksqldb: KsqlDBServer, server: ReplyServer, step: Reply
) -> None:
    server.answers(step, step, "row_by_key")
    assert len(ksqldb.query(SELECT)) == 1
    assert len(server.seen) == 3


def test_half_an_answer_is_never_taken_for_all(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers(recorded("rows_with_unicode")._replace(ended="cut"))
    with pytest.raises(KSQLDBUnavailableError):
        ksqldb.query(SELECT)
    assert len(server.seen) == 4


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    ksqldb.info()
    for connection in server.connections:
        connection.shutdown(socket.SHUT_RDWR)
    server.answers("insert_values")
    ksqldb.statement("INSERT INTO s (id) VALUES ('a');")


# --- Empty just after a kill ---------------------------------------------------------------------


def test_rows_that_must_be_there_are_asked_for_again(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("rows_none", "rows_none", "row_by_key")
    assert len(ksqldb.query(SELECT, expect_rows=True)) == 1
    assert len(server.seen) == 3


def test_rows_that_do_not_come_are_not_waited_for_without_end(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("rows_none")
    started = time.monotonic()
    assert ksqldb.query(SELECT, expect_rows=True) == []
    assert 1.0 < time.monotonic() - started < 20  # a real one was empty for up to a second
    assert len(server.seen) > 5


# --- Statements ---------------------------------------------------------------------------------


def test_a_statement_gives_what_the_server_answers(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("create_stream")
    response = ksqldb.statement("CREATE STREAM rec_s (id VARCHAR KEY)")
    assert response.status_code == 200
    assert response.json()[0]["commandStatus"]["status"] == "SUCCESS"
    assert [seen.sql for seen in server.seen] == ["CREATE STREAM rec_s (id VARCHAR KEY);"]


def test_a_stream_that_is_there_already_is_a_warning_or_an_error(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("create_stream_if_not_exists", "create_stream_exists")
    [said] = ksqldb.statement("CREATE STREAM IF NOT EXISTS rec_s (id VARCHAR KEY);").json()
    assert said["@type"] == "warning_entity"
    with pytest.raises(KSQLDBClientException, match="already exists") as caught:
        ksqldb.statement("CREATE STREAM rec_s (id VARCHAR KEY);")
    assert (caught.value.code, caught.value.statement) == (40001, "CREATE STREAM rec_s (id VARCHAR KEY);")


def test_a_statement_is_followed_until_it_is_done(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("drop_table_executing", "drop_table_status_executing", "drop_table_status_done")
    [said] = ksqldb.statement("DROP TABLE rec_d DELETE TOPIC;").json()
    assert said["commandStatus"]["status"] == "SUCCESS"
    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/ksql"),
        ("GET", "/status/table/REC_D/drop"),
        ("GET", "/status/table/REC_D/drop"),
    ]


def test_the_quotes_of_a_command_go_with_it(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    created = recorded("create_stream")
    executing = created._replace(body=created.body.replace(b'"SUCCESS"', b'"EXECUTING"'))
    server.answers(executing, "create_status_done")
    ksqldb.statement("CREATE STREAM rec_s (id VARCHAR KEY);")
    assert server.seen[1].path == "/status/stream/%60REC_S%60/create"


def test_a_statement_that_fails_later_is_an_error(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    failed = Reply(200, b'{"status":"ERROR","message":"Topic is gone.","queryId":null}', {})
    server.answers("drop_table_executing", failed)
    with pytest.raises(KSQLDBClientException, match="failed to run the statement: Topic is gone"):
        ksqldb.statement("DROP TABLE rec_d DELETE TOPIC;")


@pytest.mark.parametrize("step", [HANG_UP, SILENCE, recorded("internal_error")])
@pytest.mark.parametrize(
    "sql", ["CREATE STREAM s (x INT);", "INSERT INTO s (x) VALUES (1);", "SHOW TABLES; DROP TABLE t;"]
)
def test_what_may_have_been_run_is_never_repeated(server: ReplyServer, step: Reply, sql: str) -> None:
    server.answers(step, "insert_values")
    with (
        KsqlDBServer(server.url, retry_delay=0.01, timeout=0.3) as ksqldb,
        pytest.raises(KSQLDBClientException) as caught,
    ):
        ksqldb.statement(sql)
    assert len(server.seen) == 1
    assert caught.value.statement == sql
    if step.status != 500:
        assert "did not report whether it ran the statement" in str(caught.value)


@pytest.mark.parametrize("name", ["starting", "busy_with_a_command"])
def test_what_was_not_begun_is_repeated(ksqldb: KsqlDBServer, server: ReplyServer, name: str) -> None:
    server.answers(name, "create_stream")
    ksqldb.statement("CREATE STREAM rec_s (id VARCHAR KEY);")
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("starting", r"is starting: KSQL is .* requests\. Wait until it has started, which takes half a minute\."),
        ("busy_with_a_command", r"999999\. Repeat the request when it has run its earlier statements\."),
    ],
)
def test_a_server_that_has_not_begun_says_what_to_wait_for(
    ksqldb: KsqlDBServer, server: ReplyServer, name: str, sentence: str
) -> None:
    server.answers(name)
    with pytest.raises(KSQLDBUnavailableError, match=sentence + "$"):
        ksqldb.statement("SHOW TABLES;")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("create_stream_avro", 42801, "Use a format such as JSON"),
        ("select_to_ksql", 40002, "should be issued to the websocket endpoint"),
        ("insert_unknown_stream", 40000, "unknown stream/table: `NOPE`"),
        ("insert_without_kafka", 40000, "not present in metadata after 60000 ms"),
        ("status_unknown", 40400, "Command not found"),
    ],
)
def test_a_statement_that_is_refused_says_why(
    ksqldb: KsqlDBServer, server: ReplyServer, name: str, code: int, said: str
) -> None:
    server.answers(name)
    with pytest.raises(KSQLDBClientException) as caught:
        ksqldb.statement("SOMETHING;")
    assert caught.value.code == code
    assert said in str(caught.value)
    assert len(server.seen) == 1


# --- Streams, tables, topics, inserts -----------------------------------------------------------


def test_streams_and_tables_are_named(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("show_streams", "show_tables")
    assert ksqldb.streams() == [
        "ASSETS_AVAIL_STREAM",
        "ASSETS_STREAM",
        "ASSETS_STREAM_UNS",
        "ASSETS_TYPE_STREAM",
        "DOCKER_SERVICES_STREAM",
        "ENRICHED_ASSETS_STREAM",
    ]
    assert "ASSETS" in ksqldb.tables()
    assert [seen.sql for seen in server.seen] == ["SHOW STREAMS;", "SHOW TABLES;"]


def test_a_stream_has_its_topic_without_a_describe(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    def shown(seen: Seen) -> Reply:
        return recorded("show_streams" if "STREAMS" in seen.sql else "show_tables")

    server.answers(shown)
    assert ksqldb.topic_of("assets_stream") == ksqldb.topic_of("`ASSETS_STREAM`") == "ofa_assets"
    assert ksqldb.topic_of("assets_type") == "assets_types_topic"
    with pytest.raises(KSQLDBClientException, match=r"no stream or table 'nope'.*ofa setup-kafka.*ASSETS_STREAM"):
        ksqldb.topic_of("nope")
    with pytest.raises(KSQLDBClientException, match="no stream or table"):
        ksqldb.topic_of("`assets_stream`")  # quoted names are case-sensitive there
    assert not [seen for seen in server.seen if "DESCRIBE" in seen.sql]  # which takes minutes without a Kafka


def test_info_and_health_are_as_the_server_says(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("starting_info", "info", "health")
    assert ksqldb.info()["KsqlServerInfo"]["version"] == "7.9.9"
    assert ksqldb.health()["isHealthy"] is True


def test_inserted_values_are_quoted_and_sent_once_each(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers("insert_values")
    row = {"asset_uuid": "O'BRIEN", "v": None, "map": {"unit": "mm"}}
    assert ksqldb.insert_values("assets_stream", [row, {"n": 3, "b": True}]) == 2
    assert [seen.sql for seen in server.seen] == [
        "INSERT INTO `ASSETS_STREAM` (`ASSET_UUID`, `V`, `MAP`) VALUES ('O''BRIEN', NULL, MAP('unit' := 'mm'));",
        "INSERT INTO `ASSETS_STREAM` (`N`, `B`) VALUES (3, true);",
    ]


def test_a_row_that_cannot_be_said_sends_none(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    with pytest.raises(KSQLDBClientException, match="cannot be written in ksqlDB"):
        ksqldb.insert_values("s", [{"x": 1}, {"x": float("nan")}])
    assert server.seen == []


# --- One asset by its range, all by a scan ------------------------------------------------------


KEYS = sorted(
    [f"MILL|a{n:03}" for n in range(150)]
    + [f"{uuid}|x" for uuid in ("MIL", "MILL-2", "MILL.2", "MILLS", "LATHE", "ROBOT", "O'BRIEN")]
    + [f"EDGE|{n:02}" for n in range(64)]
    + [f"LAST|{n:02}" for n in range(127)],
    key=str.encode,
)


def table(seen: Seen) -> Reply:
    """A table of one partition: in the order of its keys."""
    if seen.sql.startswith("DESCRIBE"):
        return recorded("describe_table")
    low = re.search(r">= '((?:[^']|'')*)'", seen.sql)
    limit = re.search(r"LIMIT (\d+)", seen.sql)
    keys = [key for key in KEYS if not low or key.encode() >= low[1].replace("''", "'").encode()]
    if high := re.search(r"< '((?:[^']|'')*)'", seen.sql):
        keys = [key for key in keys if key.encode() < high[1].replace("''", "'").encode()]
    lines = [{"queryId": "q", "columnNames": ["KEY"], "columnTypes": ["STRING"]}, *([key] for key in keys)]
    shown = lines[: int(limit[1]) + 1] if limit else lines
    return Reply(200, b"".join(json.dumps(line).encode() + b"\n" for line in shown), {})


def keys_of(ksqldb: KsqlDBServer, *asset_uuids: str) -> list[str]:
    return [row["KEY"] for row in ksqldb.rows_of_assets(asset_uuids)]


@pytest.mark.parametrize("asset_uuid", ["MILL", "MIL", "MILL-2", "EDGE", "LAST", "ROBOT", "O'BRIEN", "NOBODY"])
def test_the_rows_of_an_asset_are_its_own_and_all_of_them(
    ksqldb: KsqlDBServer, server: ReplyServer, asset_uuid: str
) -> None:
    server.answers(table)
    assert keys_of(ksqldb, asset_uuid) == [key for key in KEYS if key.startswith(f"{asset_uuid}|")]


def test_an_asset_is_read_by_its_range_and_never_by_a_scan(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers(table)
    keys_of(ksqldb, "MILL", "ROBOT")
    asked = [seen.sql for seen in server.seen if not seen.sql.startswith("DESCRIBE")]
    assert asked == [
        "SELECT * FROM `ASSETS` WHERE `KEY` >= 'MILL|' LIMIT 64;",
        "SELECT * FROM `ASSETS` WHERE `KEY` >= 'MILL|a063' LIMIT 64;",
        "SELECT * FROM `ASSETS` WHERE `KEY` >= 'MILL|a126' LIMIT 64;",
        "SELECT * FROM `ASSETS` WHERE `KEY` >= 'ROBOT|' LIMIT 64;",
    ]
    assert len(server.seen) - len(asked) == 1  # it is asked once how the table is laid out


@pytest.mark.parametrize("describe", ["four partitions", "no Kafka"])
def test_where_partitions_have_orders_of_their_own_the_range_has_two_ends(server: ReplyServer, describe: str) -> None:
    def reply(seen: Seen) -> Reply:
        if not seen.sql.startswith("DESCRIBE"):
            return table(seen)
        one = recorded("describe_table")
        return SILENCE if describe == "no Kafka" else one._replace(body=one.body.replace(b'ons":1', b'ons":4'))

    server.answers(reply)
    started = time.monotonic()
    with KsqlDBServer(server.url, timeout=60) as ksqldb:
        assert keys_of(ksqldb, "MILL") == [key for key in KEYS if key.startswith("MILL|")]
    assert time.monotonic() - started < 30
    assert server.seen[-1].sql == "SELECT * FROM `ASSETS` WHERE `KEY` >= 'MILL|' AND `KEY` < 'MILL}';"


def test_all_assets_and_many_are_read_in_one_scan(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers(table)
    assert [row["KEY"] for row in ksqldb.rows_of_assets()] == KEYS
    nobodies = [f"NOBODY-{n}" for n in range(100)]
    assert keys_of(ksqldb, "ROBOT", *nobodies) == ["ROBOT|x"]
    assert [seen.sql for seen in server.seen] == ["SELECT * FROM `ASSETS`;"] * 2


# --- Threads, connections, the end --------------------------------------------------------------


def test_threads_share_it(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    def echo(seen: Seen) -> Reply:
        value = seen.sql.split("'")[1]
        header = {"queryId": "q", "columnNames": ["VALUE"], "columnTypes": ["STRING"]}
        return Reply(200, f"{json.dumps(header)}\n{json.dumps([value])}\n".encode(), {})

    server.answers(echo)
    wrong: list[object] = []

    def work(name: int) -> None:
        for n in range(50):
            value = f"{name}-{n}"
            if (rows := ksqldb.query("SELECT value FROM assets WHERE key = ?", value)) != [{"VALUE": value}]:
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.seen) == 400
    assert len(server.connections) <= 8


def test_a_connection_is_kept_and_made_anew_when_it_has_served(server: ReplyServer) -> None:
    with KsqlDBServer(server.url, max_requests_per_connection=3) as ksqldb:
        for _ in range(9):
            ksqldb.info()
    assert len(server.connections) == 3


def test_a_closed_one_says_so(ksqldb: KsqlDBServer) -> None:
    ksqldb.info()
    ksqldb.close()
    ksqldb.close()
    with pytest.raises(KSQLDBClientException, match=r"is closed\. Open a new one"):
        ksqldb.info()


def test_closing_ends_a_wait(server: ReplyServer) -> None:
    server.answers("starting")
    failures: list[Exception] = []
    with KsqlDBServer(server.url, retry_delay=60) as ksqldb:

        def ask() -> None:
            try:
                ksqldb.info()
            except KSQLDBClientException as error:
                failures.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        while not server.seen:
            time.sleep(0.005)
        ksqldb.close()
        thread.join(60)
    assert "is closed" in str(failures)


# --- Who we are ---------------------------------------------------------------------------------


def logged_in(seen: Seen) -> str:
    return b64decode(seen.headers["Authorization"].removeprefix("Basic ")).decode()


def test_it_logs_in_by_its_credentials(server: ReplyServer) -> None:
    with KsqlDBServer(server.url, credentials=Credentials(ksqldb_username="app", ksqldb_password="s3cr3t")) as ksqldb:
        ksqldb.info()
    assert logged_in(server.seen[0]) == "app:s3cr3t"


def test_it_logs_in_by_what_stands_in_its_url(server: ReplyServer) -> None:
    with KsqlDBServer(server.url.replace("//", "//app:p%40ss@")) as ksqldb:
        ksqldb.info()
        assert ksqldb.url == server.url
    assert logged_in(server.seen[0]) == "app:p@ss"


@pytest.mark.parametrize("step", ["starting", "query_unknown_table", Reply(401, b"", {}), HANG_UP, Reply(302, b"", {})])
def test_nobody_reads_a_secret(
    server: ReplyServer, step: str | Reply, caplog: pytest.LogCaptureFixture, logged: list[logging.LogRecord]
) -> None:
    server.answers(step)
    caplog.set_level(logging.DEBUG)
    credentials = Credentials(ksqldb_username="app", ksqldb_password="s3cr3t")
    ksqldb = KsqlDBServer(server.url.replace("//", "//app:s3cr3t@"), retry_delay=0.01, credentials=credentials)
    with ksqldb, pytest.raises(KSQLDBClientException) as caught:
        ksqldb.query(SELECT)
    said = "".join(traceback.format_exception(caught.value))
    said += repr(ksqldb) + repr(vars(caught.value)) + caplog.text + "".join(record.getMessage() for record in logged)
    assert server.url in said
    assert "s3cr3t" not in said


def test_a_log_in_that_is_refused_names_the_settings(ksqldb: KsqlDBServer, server: ReplyServer) -> None:
    server.answers(Reply(401, b"", {}))
    with pytest.raises(KSQLDBUnavailableError, match="Set KSQLDB_USERNAME and KSQLDB_PASSWORD") as caught:
        ksqldb.query(SELECT)
    assert caught.value.code == 401
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:8088", "http://:8088", "http://host:port", "http://app:s3/cr3t@host:8088"]
)
def test_a_url_that_is_none_says_what_to_write(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write http://host:8088\.") as caught:
        KsqlDBServer(url)
    assert "cr3t" not in "".join(traceback.format_exception(caught.value))


def test_proxies_of_the_environment_are_not_for_it(
    ksqldb: KsqlDBServer, server: ReplyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ksqldb.info()["KsqlServerInfo"]["serverStatus"] == "RUNNING"


def test_a_server_without_tls_is_not_trusted_as_one_with(server: ReplyServer) -> None:
    with (
        KsqlDBServer(server.url.replace("http", "https"), retry_delay=0.01) as ksqldb,
        pytest.raises(KSQLDBUnavailableError, match=r"does not use TLS.*KSQLDB_SSL_CA_FILE"),
    ):
        ksqldb.info()
