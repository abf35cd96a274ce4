"""AssetProducer on every engine: it writes for any asset, tells what failed, and shares the process's connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset, AssetAttribute, AssetEvent
from openfactory.exceptions import (
    ConfigurationError,
    DeliveryError,
    EngineUnavailableError,
    InvalidEventError,
    OpenFactoryError,
)
from openfactory.kafka import AssetProducer, KSQLDBClient
from servers import KafkaBroker, free_port

Eventually = Callable[..., None]

WHEN = "2026-11-21T07:30:00.000Z"
SPEED = AssetAttribute(id="speed", value=7, type="Samples", tag="Speed", timestamp=WHEN)


@pytest.fixture(params=["memory", "sqlite", "kafka", "ksqldb"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KSQLDBClient]:
    """A client of a fresh place of data, on each engine."""
    if request.param == "ksqldb":
        broker = request.getfixturevalue("kafka_broker")
        with (
            KsqlDBFactory(broker.bootstrap_servers) as factory,
            KSQLDBClient(factory.url, bootstrap_servers=factory.bootstrap_servers) as client,
        ):
            yield client
        return
    if request.param == "kafka":
        url = request.getfixturevalue("kafka_url")
    else:
        url = f"memory://{uuid4().hex}" if request.param == "memory" else f"sqlite:///{tmp_path}/factory.db"
    with KSQLDBClient(url) as client:
        yield client


def test_an_attribute_of_any_asset_is_written(client: KSQLDBClient) -> None:
    with AssetProducer(client) as producer:
        position = producer.send_asset_attribute(asset_uuid="MILL", assetAttribute=SPEED).wait()
        assert client.engine.history("MILL") == [AssetEvent("MILL", "speed", 7, "Samples", "Speed", WHEN, position)]


def test_a_message_is_written_as_it_stands_on_the_wire(client: KSQLDBClient) -> None:
    message = {"id": "status", "value": "busy", "tag": "Status", "type": "events", "ATTRIBUTES": {"timestamp": WHEN}}
    with AssetProducer(client) as producer:
        producer.produce(topic="ofa_assets", key=b"MILL", value=json.dumps(message))
        producer.flush()
        with Asset("MILL", client) as mill:
            assert (mill.status.value, mill.status.type, mill.status.timestamp) == ("busy", "Events", WHEN)


def test_what_it_writes_is_heard(client: KSQLDBClient, eventually: Eventually) -> None:
    heard: list[object] = []
    with Asset("MILL", client) as mill, AssetProducer(client) as producer:
        mill.subscribe_to_messages(lambda _, message: heard.append(message["VALUE"]))
        for value in range(50):
            producer.send_asset_attribute("MILL", AssetAttribute("n", value, "Events", "Number"))
        eventually(lambda: len(heard) == 50)
    assert heard == list(range(50))


def test_what_is_no_event_is_refused_and_nothing_is_written(client: KSQLDBClient) -> None:
    with AssetProducer(client) as producer:
        for value in ('{"ID": "status"}', "no JSON", None):
            with pytest.raises(InvalidEventError):
                producer.produce("ofa_assets", "MILL", value)
        producer.flush()
        assert client.engine.history("MILL") == []


def test_the_connection_is_that_of_the_process_and_goes_with_its_last_user(client: KSQLDBClient) -> None:
    with KSQLDBClient(client.ksqldb_url, bootstrap_servers=client.bootstrap_servers) as other:
        first, second = AssetProducer(client), AssetProducer(other)
        engine = client.engine
        assert other.engine is engine
        first.close()
        first.close()
        second.send_asset_attribute("MILL", SPEED)
    client.close()
    assert engine.health().connected  # the second producer holds it still
    second.close()
    assert not engine.health().connected
    with AssetProducer(KSQLDBClient(client.ksqldb_url, bootstrap_servers=client.bootstrap_servers)) as third:
        third.send_asset_attribute("MILL", SPEED)
        third.flush()


def test_without_a_client_the_environment_names_the_place(kafka_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSQLDB_URL", kafka_url)
    with AssetProducer(None) as producer, KSQLDBClient(kafka_url) as client:
        producer.send_asset_attribute("MILL", SPEED)
        producer.flush()
        assert client.query("SELECT value FROM assets WHERE key = ?", "MILL|speed") == [{"VALUE": "7"}]


def test_no_place_of_the_data_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="Pass ksqlClient="):
        AssetProducer(None)


def test_a_ksqldb_server_needs_a_broker_beside_it(kafka_broker: KafkaBroker) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory, KSQLDBClient(factory.url) as client:
        with pytest.raises(ConfigurationError, match="KAFKA_BROKER"):
            AssetProducer(client)
        with AssetProducer(client, factory.bootstrap_servers) as producer:
            producer.send_asset_attribute("MILL", SPEED)
            producer.flush()


def test_no_broker_is_one_sentence() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(EngineUnavailableError, match=address), KSQLDBClient(f"kafka://{address}") as client:
        AssetProducer(client)


def test_what_cannot_be_written_is_told_and_raised(
    kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str, eventually: Eventually
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_broker.bootstrap_servers})
    small = NewTopic(f"{topic_prefix}ofa_assets", 1, config={"max.message.bytes": "1000"})
    admin.create_topics([small])[small.topic].result(60)
    told: list[tuple[AssetEvent, OpenFactoryError]] = []
    with (
        KSQLDBClient(kafka_url) as client,
        AssetProducer(client, on_delivery_error=lambda event, error: told.append((event, error))) as producer,
    ):
        producer.send_asset_attribute("MILL", SPEED).wait()  # else it goes with the other one, and is refused with it
        producer.send_asset_attribute("MILL", AssetAttribute("programme", "G1 " * 1_000, "Events", "Programme"))
        with pytest.raises(DeliveryError, match="MILL"):
            producer.flush()
        eventually(lambda: told)
        producer.flush()  # it is told once
    assert [(event.asset_uuid, event.id) for event, _ in told] == [("MILL", "programme")]
