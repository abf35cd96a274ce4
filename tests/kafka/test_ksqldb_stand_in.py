"""KSQLDBClient on a ksqlDB server: the same names and rows as on an engine, with no Kafka and no engine behind it.

The server is the stand-in of these tests, so they are tests of it too.
"""

from __future__ import annotations

import json
import threading
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import HTTPError
from uuid import uuid4

import pytest

from ksqldb_stand_in import KsqlDBStandIn
from openfactory.engines import Engine, open_engine
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.events.event import new_event
from openfactory.events.message import event_of_fields
from openfactory.events.registration import Registration
from openfactory.exceptions import ConfigurationError, EngineUnavailableError, InvalidEventError
from openfactory.kafka import KSQLDBClient
from openfactory.kafka.ksql import KSQLDBClientException, KSQLDBQueryError, KSQLDBUnavailableError
from servers import KafkaBroker

ROW: dict[str, Any] = {"asset_uuid": "MILL", "id": "x", "value": 1, "type": "Events", "tag": "Test"}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with open_engine(f"memory://{uuid4().hex}") as reference:
        yield reference.engine


@pytest.fixture
def stand_in(engine: Engine) -> Iterator[KsqlDBStandIn]:
    def publish(asset_uuid: str, fields: dict[str, Any]) -> None:
        engine.publish(event_of_fields(asset_uuid, fields)).wait()

    with KsqlDBStandIn(engine.query, "ofa_assets", publish) as stand_in:
        yield stand_in


@pytest.fixture
def ksql(stand_in: KsqlDBStandIn) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(stand_in.url, retry_delay=0.02, timeout=2) as client:
        yield client


def say(engine: Engine, asset_uuid: str, attribute_id: str, value: object) -> None:
    engine.publish(new_event(asset_uuid, attribute_id, value, "Events", "Test")).wait()


def test_rows_are_those_of_an_engine(ksql: KSQLDBClient, engine: Engine) -> None:
    for asset_uuid, value in [("MILL", "it's ü 漢字 😀"), ("O'BRIEN", None), ("LATHE", 3)]:
        say(engine, asset_uuid, "x", value)
    for sql, parameters in [
        ("SELECT * FROM assets WHERE asset_uuid = ?", ["MILL"]),
        ("SELECT id, value FROM assets WHERE asset_uuid = ? AND value = '3' -- three?\n", ["LATHE"]),
        ("SELECT asset_uuid FROM assets WHERE key IN (?, ?);", ["O'BRIEN|x", "LATHE|x"]),
        ("SELECT * FROM assets WHERE asset_uuid = ?", ["nobody' OR '1' = '1"]),
        ("SELECT id AS mine FROM Assets LIMIT 1", []),
    ]:
        assert ksql.query(sql, *parameters) == engine.query(sql, *parameters)


def test_the_namespace_has_its_levels(ksql: KSQLDBClient, engine: Engine) -> None:
    engine.register(Registration("MILL", "Device", uns_id="ACME/mill", uns_levels={"line": "7"}))
    engine.flush()
    [row] = ksql.query("SELECT * FROM asset_to_uns_map WHERE asset_uuid = 'MILL'")
    assert (row["UNS_ID"], row["UNS_LEVELS"]) == ("ACME/mill", {"line": "7"})
    assert ksql.query("SELECT * FROM assets_type") == [{"ASSET_UUID": "MILL", "TYPE": "Device"}]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM nosuch", "nosuch"),
        ("SELECT nosuch FROM assets", "nosuch"),
        ("SELECT FROM WHERE", "syntax"),
        ("", "Expected exactly one KSQL statement; found 0"),
        ("nonsense", "Neither a query nor a print statement"),
        ("SHOW TABLES;", "Neither a query nor a print statement"),
        ("SELECT 1; DELETE FROM assets", "Expected exactly one KSQL statement; found 2"),
        ("SELECT COUNT(*) FROM assets", "Pull queries don't support COUNT"),
        ("SELECT * FROM assets ORDER BY id", "Pull queries don't support ORDER BY"),
    ],
)
def test_what_cannot_be_answered_is_an_error_of_the_client(ksql: KSQLDBClient, sql: str, said: str) -> None:
    with pytest.raises(KSQLDBQueryError) as caught:
        ksql.query(sql)
    assert (caught.value.statement, caught.value.code) == (sql, 40001)
    assert said in str(caught.value)


def test_what_cannot_be_asked_is_an_error_of_the_client(ksql: KSQLDBClient, stand_in: KsqlDBStandIn) -> None:
    for parameters in ([], ["a", "b"], [None], [object()], ["\ud800"], [2**70]):
        with pytest.raises(KSQLDBClientException):
            ksql.query("SELECT id FROM assets WHERE id = ?", *parameters)
    with pytest.raises(KSQLDBClientException, match="unpaired surrogate"):
        ksql.query("SELECT '\ud800' FROM assets")
    assert stand_in.requests == []


def test_the_server_is_asked_what_it_has(ksql: KSQLDBClient, stand_in: KsqlDBStandIn) -> None:
    assert ksql.tables() == sorted(stand_in.tables)
    assert "ASSETS_STREAM" in ksql.streams()
    assert ksql.get_kafka_topic("assets_stream") == "ofa_assets"
    assert ksql.get_kafka_topic("assets_type") == "assets_types_topic"
    with pytest.raises(KSQLDBClientException, match="no stream or table 'nope'"):
        ksql.get_kafka_topic("nope")
    info = ksql.info()
    assert (info["url"], info["connected"], info["reason"]) == (stand_in.url, True, "")
    assert info["KsqlServerInfo"]["serverStatus"] == "RUNNING"


def test_statements_are_run(ksql: KSQLDBClient) -> None:
    create = (
        "CREATE STREAM IF NOT EXISTS mine (id VARCHAR KEY) WITH (KAFKA_TOPIC = 'mine_topic', VALUE_FORMAT = 'JSON');"
    )
    [said] = ksql.statement_query(create).json()
    assert said["commandStatus"]["status"] == "SUCCESS"
    assert ksql.get_kafka_topic("mine") == "mine_topic"
    [said] = ksql.statement_query(create).json()
    assert said["@type"] == "warning_entity"
    with pytest.raises(KSQLDBClientException, match="already exists"):
        ksql.statement_query(create.replace("IF NOT EXISTS ", ""))
    ksql.statement_query("DROP STREAM mine;")
    assert "MINE" not in ksql.streams()
    with pytest.raises(KSQLDBClientException, match="MINE does not exist"):
        ksql.statement_query("DROP STREAM mine;")


def test_rows_are_inserted_through_the_server_where_no_broker_is_known(
    ksql: KSQLDBClient, engine: Engine, stand_in: KsqlDBStandIn
) -> None:
    odd = ROW | {"ID": "odd", "value": "it's; DROP STREAM assets_stream; -- \n 漢", "attributes": {"timestamp": "then"}}
    del odd["id"]
    assert ksql.insert_into_stream("assets_stream", [ROW, odd, ROW | {"id": "list", "value": [1, "a"]}]) == [
        {"status": "ok", "seq": 0},
        {"status": "ok", "seq": 1},
        {"status": "ok", "seq": 2},
    ]
    said = {event.id: event for event in engine.history("MILL")}
    assert (said["odd"].value, said["odd"].timestamp) == (odd["value"], "then")
    assert said["x"].value == "1"  # a column is text
    assert json.loads(said["list"].value) == [1, "a"]
    assert len(said["x"].timestamp) == 24
    assert [sql[:27] for _, _, sql in stand_in.requests] == ["INSERT INTO `ASSETS_STREAM`"] * 3


def test_rows_are_inserted_through_kafka_where_a_broker_is_known(kafka_broker: KafkaBroker, engine: Engine) -> None:
    prefix = f"i{uuid4().hex[:8]}_"
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS, prefix=prefix)
    with (
        KsqlDBStandIn(engine.query, prefix=prefix) as stand_in,
        KSQLDBClient(stand_in.url, bootstrap_servers=kafka_broker.bootstrap_servers) as client,
    ):
        assert client.insert_into_stream("assets_stream", [ROW]) == [{"status": "ok", "seq": 0}]
        [event] = client.engine.history("MILL")
        assert (event.id, event.value) == ("x", 1)  # a number stays one
        assert not [sql for _, _, sql in stand_in.requests if sql.startswith("INSERT")]


def test_rows_of_another_stream_are_inserted_as_they_are(ksql: KSQLDBClient, stand_in: KsqlDBStandIn) -> None:
    stand_in.streams["CMDS_STREAM"] = "cmds"
    assert ksql.insert_into_stream("cmds_stream", [{"cmd": "go", "n": 3}]) == [{"status": "ok", "seq": 0}]
    assert stand_in.requests[-1][2] == "INSERT INTO `CMDS_STREAM` (`CMD`, `N`) VALUES ('go', 3);"
    with pytest.raises(KSQLDBClientException, match=r"unknown stream/table: `NOSUCH`"):
        ksql.insert_into_stream("nosuch", [{"x": 1}])


def test_a_row_that_is_no_event_is_named_and_nothing_is_written(ksql: KSQLDBClient, stand_in: KsqlDBStandIn) -> None:
    with pytest.raises(KSQLDBClientException, match=r"Row 1 is not an event, so nothing was written") as caught:
        ksql.insert_into_stream("assets_stream", [ROW, ROW | {"value": float("nan")}])
    assert isinstance(caught.value.__cause__, InvalidEventError)
    assert stand_in.requests == []


def test_no_server_is_one_sentence_with_the_address_and_the_way_out(
    ksql: KSQLDBClient, stand_in: KsqlDBStandIn
) -> None:
    stand_in.stop()
    uses: list[Callable[[], object]] = [
        ksql.tables,
        ksql.streams,
        ksql.info,
        lambda: ksql.query("SELECT id FROM assets"),
        lambda: ksql.get_kafka_topic("assets_stream"),
        lambda: ksql.insert_into_stream("assets_stream", [ROW]),
    ]
    for use in uses:
        with pytest.raises(EngineUnavailableError) as caught:
            use()
        assert str(caught.value).startswith(f"No ksqlDB server answers at {stand_in.url} (")
        assert "sqlite:///factory.db" in str(caught.value)


def test_it_goes_on_when_the_server_is_back(ksql: KSQLDBClient, stand_in: KsqlDBStandIn, engine: Engine) -> None:
    say(engine, "MILL", "x", 1)
    ksql.tables()
    for _ in range(3):
        stand_in.restart()
        assert ksql.query("SELECT value FROM assets") == [{"VALUE": "1"}]
    stand_in.unavailable = True
    with pytest.raises(KSQLDBUnavailableError, match="KSQL is not yet ready") as caught:
        ksql.query("SELECT value FROM assets")
    assert caught.value.code == 50302
    stand_in.unavailable = False
    assert ksql.query("SELECT value FROM assets") == [{"VALUE": "1"}]


def test_a_silent_server_is_given_up(stand_in: KsqlDBStandIn) -> None:
    stand_in.silent = True
    with KSQLDBClient(stand_in.url, max_retries=1, retry_delay=0.01, timeout=0.2) as client:
        with pytest.raises(KSQLDBUnavailableError, match="no answer within"):
            client.tables()
        stand_in.silent = False
        assert client.tables()


def test_an_asset_is_found_also_just_after_a_restart(stand_in: KsqlDBStandIn, engine: Engine) -> None:
    say(engine, "MILL", "x", 1)
    with KsqlDBServer(stand_in.url) as server:
        stand_in.empty = True
        assert server.query("SELECT id FROM assets") == []
        threading.Timer(0.3, setattr, (stand_in, "empty", False)).start()
        assert server.query("SELECT id FROM assets", expect_rows=True) == [{"ID": "x"}]


@pytest.mark.parametrize("partitions", [1, 4])
def test_assets_are_read_by_their_ranges(stand_in: KsqlDBStandIn, engine: Engine, partitions: int) -> None:
    stand_in.partitions = partitions
    for n in range(150):
        say(engine, "MILL", f"a{n:03}", n)
    for asset_uuid in ("MIL", "MILL-2", "MILLS", "O'BRIEN"):
        say(engine, asset_uuid, "x", 1)
    with KsqlDBServer(stand_in.url) as server:
        found = server.rows_of_assets(["MILL", "O'BRIEN", "NOBODY"])
        assert sorted(row["KEY"] for row in found) == [f"MILL|a{n:03}" for n in range(150)] + ["O'BRIEN|x"]
        assert len(server.rows_of_assets()) == 154
    assert not [sql for _, _, sql in stand_in.requests if "ASSET_UUID" in sql.upper()]


def test_a_closed_client_says_so(ksql: KSQLDBClient) -> None:
    ksql.tables()
    ksql.close()
    ksql.close()
    for use in (ksql.tables, ksql.streams, ksql.info, lambda: ksql.query("SELECT 1")):
        with pytest.raises(KSQLDBClientException, match=r"is closed\. Create a new KSQLDBClient"):
            use()


def test_threads_share_a_client(ksql: KSQLDBClient, engine: Engine) -> None:
    for n in range(8):
        say(engine, f"MILL-{n}", "x", n)
    wrong: list[object] = []

    def work(n: int) -> None:
        for _ in range(20):
            rows = ksql.query("SELECT value FROM assets WHERE key = ?", f"MILL-{n}|x")
            if rows != [{"VALUE": str(n)}]:
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_nobody_reads_the_password_in_a_url(stand_in: KsqlDBStandIn) -> None:
    client = KSQLDBClient(stand_in.url.replace("//", "//app:s3cr3t@") + "/", max_retries=0)
    with client:
        assert client.ksqldb_url.endswith(stand_in.url.removeprefix("http://"))
        said = repr(client) + repr(client.info())
        stand_in.stop()
        for use in (client.tables, lambda: client.query("SELECT 1")):
            with pytest.raises(KSQLDBUnavailableError) as caught:
                use()
            said += "".join(traceback.format_exception(caught.value))
    with pytest.raises(KSQLDBClientException) as closed:
        client.tables()
    assert "s3cr3t" not in said + str(closed.value)
    assert stand_in.url in repr(client)


def test_credentials_of_the_environment_are_checked_at_the_first_use(
    stand_in: KsqlDBStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSQLDB_USERNAME", "app")
    with KSQLDBClient(stand_in.url) as client, pytest.raises(ConfigurationError, match="KSQLDB_PASSWORD"):
        client.tables()
    monkeypatch.setenv("KSQLDB_PASSWORD", "s3cr3t")
    with KSQLDBClient(stand_in.url) as client:
        assert client.tables()


def test_the_stand_in_answers_in_the_ways_of_http(stand_in: KsqlDBStandIn) -> None:
    def status(path: str, data: bytes | None = None) -> tuple[int, bytes, str | None]:
        try:
            with urllib.request.urlopen(stand_in.url + path, data, timeout=5) as response:
                return response.status, response.read(), response.headers["Content-Type"]
        except HTTPError as error:
            with error:
                return error.code, error.read(), error.headers["Content-Type"]

    assert status("/healthcheck")[0] == 200
    assert status("/nope") == (
        404,
        b"<html><body><h1>Resource not found</h1></body></html>",
        "text/html; charset=utf-8",
    )
    assert status("/ksql") == (405, b"", None)
    assert status("/status/stream/X/create")[0] == 404
    code, body, content_type = status("/query-stream", b'{"sql":"SELECT 1"}')
    assert (code, content_type) == (400, None)
    assert json.loads(body)["message"].endswith("missing ';' at '<EOF>'")
    assert json.loads(status("/ksql", b'{"ksql":"SELECT 1;"}')[1])["error_code"] == 40002
