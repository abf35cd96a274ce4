"""KSQLDBClient on the embedded engine: queries, inserts, and clear errors for what it cannot do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from openfactory.assets import Asset
from openfactory.exceptions import ConfigurationError, EngineError, InvalidEventError, OpenFactoryError, QueryError
from openfactory.kafka import KSQLDBClient
from openfactory.kafka.ksql import KSQLDBClientException
from openfactory.settings.credentials import Credentials

ROW: dict[str, Any] = {"asset_uuid": "MILL", "id": "x", "value": 1, "type": "Events", "tag": "Test"}


@pytest.fixture
def ksql(url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(url) as client:
        yield client


def test_a_client_opens_nothing_until_it_is_used() -> None:
    for url in ("http://127.0.0.1:1", "nosuch://x", "sqlite:////nowhere/factory.db"):
        client = KSQLDBClient(url)
        assert repr(client) == f"KSQLDBClient({url!r})"
        client.close()


def test_the_first_use_says_what_is_wrong() -> None:
    with pytest.raises(ConfigurationError, match="nosuch"):
        KSQLDBClient("nosuch://x").query("SELECT 1")


def test_the_url_has_no_slash_at_its_end() -> None:
    assert KSQLDBClient("http://ksqldb:8088/").ksqldb_url == "http://ksqldb:8088"
    assert KSQLDBClient("memory://").ksqldb_url == "memory://"


def test_what_the_url_does_not_name_is_kept_for_those_who_are_given_the_client() -> None:
    credentials = Credentials(ksqldb_username="app", ksqldb_password="s3cr3t")
    client = KSQLDBClient(
        "http://ksqldb:8088",
        bootstrap_servers="kafka:9092",
        asset_router_url="http://router:8002",
        credentials=credentials,
    )
    assert client.bootstrap_servers == "kafka:9092"
    assert client.asset_router_url == "http://router:8002"
    assert client.credentials is credentials
    plain = KSQLDBClient("http://ksqldb:8088")
    assert (plain.bootstrap_servers, plain.asset_router_url, plain.credentials) == (None, None, None)


def test_a_password_in_the_url_is_not_shown() -> None:
    client = KSQLDBClient("http://app:s3cr3t@ksqldb:8088")
    assert repr(client) == "KSQLDBClient('http://ksqldb:8088')"
    assert client.ksqldb_url == "http://app:s3cr3t@ksqldb:8088"
    client.close()
    with pytest.raises(KSQLDBClientException) as caught:
        client.tables()
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://:8088", "http://host:port", "https://host:99999"])
def test_an_address_that_is_none_says_what_to_write(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write http://host:8088\."):
        KSQLDBClient(url).tables()


def test_rows_are_dictionaries_with_upper_case_columns(ksql: KSQLDBClient) -> None:
    ksql.insert_into_stream("assets_stream", [ROW])
    sql = "SELECT asset_uuid, value FROM assets WHERE id = 'x'"
    assert ksql.query(sql) == [{"ASSET_UUID": "MILL", "VALUE": "1"}]
    assert ksql.query("SELECT id FROM assets WHERE asset_uuid = ?", "MILL") == [{"ID": "x"}]
    assert ksql.query("SELECT id FROM assets WHERE asset_uuid = ?", "NOBODY") == []


def test_a_client_and_an_asset_see_the_same(ksql: KSQLDBClient) -> None:
    ksql.insert_into_stream("assets_stream", [ROW])
    with Asset("MILL", ksql) as mill:
        assert mill.x.value == 1
        mill.x = 2
        mill.flush()
        assert ksql.query("SELECT value FROM assets") == [{"VALUE": "2"}]


def test_tables_and_streams_have_their_names(ksql: KSQLDBClient) -> None:
    tables = ["ASSETS", "ASSETS_AVAIL", "ASSETS_TYPE", "ASSETS_UNS", "ASSET_TO_UNS_MAP", "DOCKER_SERVICES"]
    assert ksql.tables() == tables
    assert ksql.streams() == ["ASSETS_STREAM"]


def test_info_says_what_is_behind_the_url(ksql: KSQLDBClient, url: str) -> None:
    assert ksql.info() == {"url": url, "connected": True, "reason": ""}


@pytest.mark.parametrize("sql", ["SELECT * FROM nosuch", "SHOW TABLES;", "DELETE FROM assets"])
def test_a_query_that_cannot_be_answered_is_an_error_of_the_client(ksql: KSQLDBClient, sql: str) -> None:
    with pytest.raises(KSQLDBClientException) as caught:
        ksql.query(sql)
    assert caught.value.statement == sql
    assert isinstance(caught.value, EngineError)
    assert isinstance(caught.value, QueryError)
    assert isinstance(caught.value, OpenFactoryError)


@pytest.mark.parametrize("parameter", [object(), 2**70, "\ud800"])
def test_a_parameter_that_cannot_be_carried_is_an_error_of_the_client(ksql: KSQLDBClient, parameter: object) -> None:
    with pytest.raises(KSQLDBClientException):
        ksql.query("SELECT * FROM assets WHERE id = ?", parameter)


def test_what_needs_a_ksqldb_says_so_and_what_to_do_instead(ksql: KSQLDBClient, url: str) -> None:
    with pytest.raises(KSQLDBClientException, match="insert_into_stream") as caught:
        ksql.statement_query("CREATE STREAM s (x INT)")
    assert caught.value.statement == "CREATE STREAM s (x INT)"
    with pytest.raises(KSQLDBClientException, match="does not use Kafka"):
        ksql.get_kafka_topic("assets_stream")


def test_inserted_rows_are_acknowledged_events(ksql: KSQLDBClient) -> None:
    rows: list[dict[str, Any]] = [
        ROW,
        {
            "ASSET_UUID": "MILL",
            "Id": "y",
            "VALUE": [1],
            "TYPE": "samples",
            "attributes": {"timestamp": "2026-11-21T07:30:00.000Z"},
        },
    ]
    acknowledged = ksql.insert_into_stream("ASSETS_STREAM", rows)
    assert acknowledged == [{"status": "ok", "seq": 0}, {"status": "ok", "seq": 1}]
    with Asset("MILL", ksql) as mill:
        assert mill.attributes() == ["x", "y"]
        assert (mill.y.value, mill.y.type, mill.y.tag) == ([1], "Samples", "")
        assert mill.y.timestamp == "2026-11-21T07:30:00.000Z"
        assert len(mill.x.timestamp) == 24


@pytest.mark.parametrize("name", ["assets_stream", "`ASSETS_STREAM`", "Assets_Stream"])
def test_the_name_of_the_stream_is_read_without_case(ksql: KSQLDBClient, name: str) -> None:
    assert ksql.insert_into_stream(name, iter([ROW])) == [{"status": "ok", "seq": 0}]


def test_another_stream_is_refused(ksql: KSQLDBClient) -> None:
    with pytest.raises(KSQLDBClientException, match=r"no stream 'cmds_stream'\. Write to ASSETS_STREAM"):
        ksql.insert_into_stream("cmds_stream", [ROW])


@pytest.mark.parametrize(
    "change",
    [
        {"asset_uuid": None},
        {"id": None},
        {"type": None},
        {"id": "a b"},
        {"type": "Sample"},
        {"value": float("nan")},
        {"asset_uuid": "a.b"},
    ],
)
def test_a_row_that_is_no_event_is_named_and_nothing_is_written(ksql: KSQLDBClient, change: dict[str, Any]) -> None:
    wrong = {key: value for key, value in (ROW | change).items() if value is not None}
    with pytest.raises(KSQLDBClientException, match=r"Row 1 is not an event, so nothing was written"):
        ksql.insert_into_stream("assets_stream", [ROW, wrong])
    assert ksql.query("SELECT * FROM assets") == []


def test_the_cause_of_a_refusal_is_kept(ksql: KSQLDBClient) -> None:
    with pytest.raises(KSQLDBClientException) as caught:
        ksql.insert_into_stream("assets_stream", [ROW | {"value": float("nan")}])
    assert isinstance(caught.value.__cause__, InvalidEventError)


def test_a_closed_client_says_so(ksql: KSQLDBClient) -> None:
    ksql.tables()
    ksql.close()
    ksql.close()
    for use in (ksql.tables, ksql.streams, ksql.info, lambda: ksql.query("SELECT 1")):
        with pytest.raises(KSQLDBClientException, match=r"is closed\. Create a new KSQLDBClient"):
            use()


def test_closing_a_client_leaves_those_of_others_open(url: str) -> None:
    with KSQLDBClient(url) as one, Asset("MILL", one) as mill:
        with KSQLDBClient(url) as other:
            other.insert_into_stream("assets_stream", [ROW])
        one.close()
        assert mill.wait_until("x", 1, timeout=60)


def test_a_client_may_be_built_and_used_in_any_thread(url: str) -> None:
    found: list[object] = []

    def work() -> None:
        with KSQLDBClient(url) as client:
            client.insert_into_stream("assets_stream", [ROW])
            found.append(client.query("SELECT id FROM assets"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    with KSQLDBClient(url) as keeps_it_open:
        keeps_it_open.tables()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[{"ID": "x"}]] * 4
