"""What an engine on a ksqlDB takes care of beside what every engine promises."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset, AssetAttribute
from openfactory.engines import open_engine
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import ConfigurationError, EngineUnavailableError, QueryError
from openfactory.kafka import KSQLDBClient
from openfactory.utils import deregister_device_connector, register_device_connector
from servers import KafkaBroker
from workers.bare_log import read_topic


@pytest.fixture(scope="module")
def factory(kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory:
        yield factory


@contextmanager
def emptied(factory: KsqlDBFactory) -> Iterator[None]:
    """For half a second the tables have no rows, and the server says nothing of it."""
    factory.ksqldb.empty = True
    timer = threading.Timer(0.5, setattr, (factory.ksqldb, "empty", False))
    timer.start()
    yield
    timer.join()


def test_tables_that_are_empty_after_a_kill_are_asked_again(
    factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openfactory.engines.ksqldb.engine.LAG_SECONDS", 0.0)  # the tables alone tell
    with open_engine(factory.entered(monkeypatch)) as reference:
        engine = reference.engine
        engine.register(Registration("OVEN", "Device", uns_id="plant/oven"))
        engine.publish(new_event("OVEN", "temperature", 180, "Samples", "Temperature"))
        engine.flush()
        with emptied(factory):
            assert engine.types(["OVEN"]) == {"OVEN": "Device"}
        with emptied(factory):
            assert "temperature" in {event.id for event in engine.snapshot(["OVEN"]).events["OVEN"]}
        with emptied(factory):
            assert engine.uns_map()["OVEN"] == "plant/oven"


def test_without_nats_the_events_come_from_the_log(factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: SimpleQueue[AssetEvent] = SimpleQueue()
    with open_engine(factory.entered(monkeypatch)) as reference:
        engine = reference.engine
        engine.subscribe("PUMP", heard.put)
        engine.register(Registration("PUMP", "Device"))
        engine.publish(new_event("PUMP", "pressure", 3.5, "Samples", "Pressure"))
        assert [heard.get(timeout=60).id for _ in range(2)] == ["AssetType", "pressure"]


def test_an_invalid_query_is_an_error_of_the_query(factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_engine(factory.entered(monkeypatch)) as reference:
        with pytest.raises(QueryError) as caught:
            reference.engine.query("SELECT * FROM NOWHERE")
        assert caught.value.statement == "SELECT * FROM NOWHERE"
        assert reference.engine.types([]) == reference.engine.availability([]) == {}


def test_without_a_broker_the_variable_is_named(factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BROKER", raising=False)
    with KSQLDBClient(factory.url) as client, pytest.raises(ConfigurationError, match=r"Set KAFKA_BROKER=host:9092"):
        Asset("MILL", client)


def test_the_broker_of_another_ksqldb_is_told_from_ours(
    factory: KsqlDBFactory, own_kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BROKER", own_kafka_broker.bootstrap_servers)
    with (
        KSQLDBClient(factory.url) as client,
        pytest.raises(EngineUnavailableError, match=r"Set KAFKA_BROKER to the broker of that ksqlDB\."),
    ):
        Asset("MILL", client)


def test_the_configuration_of_a_device_is_a_row_for_its_connector(
    factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = factory.ksqldb.tables["DEVICE_CONNECTOR_SOURCE"] = f"{factory.prefix}device_connector_topic"
    device = {"uuid": "OVEN", "connector": {"type": "opcua", "uri": "opc.tcp://oven:4840"}}
    with KSQLDBClient(factory.entered(monkeypatch)) as client:
        register_device_connector(device, client)
        deregister_device_connector("OVEN", ksqlClient=client, bootstrap_servers=factory.bootstrap_servers)
    written, removed = read_topic(factory.bootstrap_servers, topic)
    assert (written.key, removed.key, removed.value) == (b"OVEN", b"OVEN", None)
    assert written.said.keys() == {"CONNECTOR_CONFIG"}
    assert json.loads(written.said["CONNECTOR_CONFIG"]) == device


def test_a_row_of_records_with_an_empty_id_is_no_attribute(
    factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = factory.ksqldb.query
    row = {"KEY": "LATHE|", "ASSET_UUID": "LATHE", "ID": "", "VALUE": "7", "TYPE": "Events", "TAG": "X"}

    def with_the_row(sql: str) -> list[dict[str, Any]]:
        rows = query(sql)
        return [*rows, rows[0] | row] if rows and "ID" in rows[0] and "LATHE" in sql else rows

    with KSQLDBClient(factory.entered(monkeypatch)) as client:
        with Asset("LATHE", client) as lathe:
            lathe.add_attribute(AssetAttribute(id="speed", value=3, type="Samples", tag="Speed"))
        monkeypatch.setattr(factory.ksqldb, "query", with_the_row)
        monkeypatch.setattr("openfactory.engines.ksqldb.engine.LAG_SECONDS", 0.0)
        with Asset("LATHE", client) as lathe:
            assert lathe.attributes() == ["speed"]


def test_a_prefix_in_the_url_is_that_of_the_factory_on_the_server(
    factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = factory.entered(monkeypatch)
    open_engine(f"{url}?prefix={factory.prefix}").close()
    with pytest.raises(ConfigurationError, match=f"has a factory already.*Use the prefix {factory.prefix}, or"):
        open_engine(f"{url}?prefix=hall2_")
