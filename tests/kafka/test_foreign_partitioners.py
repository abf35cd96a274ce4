"""Devices whose writers choose partitions in their own way: nothing of them is missed, in no engine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from confluent_kafka import Producer

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset
from openfactory.engines import Engine, open_engine
from openfactory.engines.base import LogPosition, Servers
from openfactory.engines.kafka_engine.partitioning import usual_partitions_of
from openfactory.events.event import AssetEvent, new_event
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker, NatsServer, Toxiproxy

pytestmark = pytest.mark.timeout(120)

WORLDS = ["kafka", "ksqldb", "nats"]


class ForeignWriter:
    """A program that writes to a factory's log with librdkafka as it comes, or with a partition of its own choice."""

    def __init__(self, factory: KsqlDBFactory) -> None:
        self.topic = f"{factory.prefix}ofa_assets"
        self.producer = Producer({"bootstrap.servers": factory.bootstrap_servers})
        self.partitions: set[int] = set()

    def write(self, asset_uuid: str, value: object, attribute_id: str = "x", partition: int = -1) -> None:
        attributes = {"timestamp": f"2026-01-01T00:00:{float(str(value)):06.3f}Z", "ingestion_timestamp": "later"}
        message = {"ID": attribute_id, "VALUE": value, "TAG": "Test", "TYPE": "Events", "attributes": attributes}
        self.producer.produce(
            self.topic,
            json.dumps(message).encode(),
            asset_uuid.encode(),
            partition,
            on_delivery=lambda _error, message: self.partitions.add(message.partition() or 0),
        )
        assert not self.producer.flush(30)


@pytest.fixture(scope="module")
def factory(kafka_broker: KafkaBroker, nats_server: NatsServer) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url, partitions=3) as factory:
        yield factory


@pytest.fixture
def writer(factory: KsqlDBFactory) -> ForeignWriter:
    return ForeignWriter(factory)


@pytest.fixture(params=WORLDS)
def engine(request: pytest.FixtureRequest, factory: KsqlDBFactory) -> Iterator[Engine]:
    """An engine of each kind, on the same log of three partitions."""
    servers = Servers(factory.bootstrap_servers, factory.router.url if request.param == "nats" else None)
    url = f"kafka://{factory.bootstrap_servers}?prefix={factory.prefix}" if request.param == "kafka" else factory.url
    with open_engine(url, servers) as reference:
        yield reference.engine


def device(name: str) -> str:
    """An asset for which librdkafka chooses another partition than OpenFactory."""
    return next(uuid for n in range(100) if len(usual_partitions_of(uuid := f"{name}-{n}", 3)) == 2)


def third_partition_of(asset_uuid: str) -> int:
    return next(number for number in range(3) if number not in usual_partitions_of(asset_uuid, 3))


def values(events: list[AssetEvent]) -> list[object]:
    return [event.value for event in events]


def test_history_of_a_device_is_whole(engine: Engine, writer: ForeignWriter, request: pytest.FixtureRequest) -> None:
    asset_uuid = device(f"WHOLE-{request.node.name[-5:-1]}")
    for value in range(5):
        writer.write(asset_uuid, value)
    assert writer.partitions == {usual_partitions_of(asset_uuid, 3)[1]}
    engine.publish(new_event(asset_uuid, "x", 5, "Events", "Test")).wait()
    writer.write(asset_uuid, 6)
    assert values(engine.history(asset_uuid)) == list(range(7))
    assert values(engine.history(asset_uuid, "x", limit=3)) == [4, 5, 6]
    assert engine.history(asset_uuid)[0].attributes == {"ingestion_timestamp": "later"}


def test_history_of_a_device_in_a_partition_of_its_own_choice_is_whole(
    engine: Engine, writer: ForeignWriter, request: pytest.FixtureRequest
) -> None:
    asset_uuid = device(f"CHOICE-{request.node.name[-5:-1]}")
    for value in range(3):
        writer.write(asset_uuid, value, partition=third_partition_of(asset_uuid))
    assert values(engine.history(asset_uuid, "x")) == [0, 1, 2]


def test_snapshot_and_subscription_of_a_device_follow_on_each_other(
    engine: Engine, writer: ForeignWriter, request: pytest.FixtureRequest
) -> None:
    asset_uuid = device(f"FOLLOWS-{request.node.name[-5:-1]}")
    for value in range(3):
        writer.write(asset_uuid, value)
    snapshot = engine.snapshot([asset_uuid])
    assert str(snapshot.events[asset_uuid][-1].value) == "2"
    assert isinstance(snapshot.position, LogPosition)
    for value in range(3, 6):
        writer.write(asset_uuid, value)
    heard: list[AssetEvent] = []
    engine.subscribe(asset_uuid, heard.append, from_position=snapshot.position)
    eventually(lambda: len(heard) >= 3, 30)
    writer.write(asset_uuid, 6)
    eventually(lambda: len(heard) >= 4, 30)
    assert values(heard) == [3, 4, 5, 6]


def test_subscription_after_a_position_of_the_own_partition_hears_the_device_from_that_time_on(
    engine: Engine, writer: ForeignWriter, request: pytest.FixtureRequest
) -> None:
    asset_uuid = device(f"FROM-{request.node.name[-5:-1]}")
    writer.write(asset_uuid, 0)
    with_gap = time.time() + 0.01
    eventually(lambda: time.time() > with_gap)  # the records have times of their own
    position = engine.publish(new_event(asset_uuid, "own", 1, "Events", "Test")).wait()
    writer.write(asset_uuid, 2)
    heard: list[AssetEvent] = []
    engine.subscribe(asset_uuid, heard.append, from_position=position)
    eventually(lambda: heard, 30)
    writer.write(asset_uuid, 3)
    eventually(lambda: len(heard) >= 2, 30)
    assert values(heard) == [2, 3]


@pytest.mark.parametrize(
    "events", [6, pytest.param(30, marks=[pytest.mark.thorough, pytest.mark.timeout(200)])], ids=["short", "long"]
)
@pytest.mark.parametrize(("choice", "ours"), [("librdkafka", False), ("its own", True)])
def test_device_is_heard_whole_and_in_order_across_a_cut_of_nats(
    kafka_broker: KafkaBroker, nats_server: NatsServer, toxiproxy: Toxiproxy, choice: str, ours: bool, events: int
) -> None:
    """Two events a second, during the cut too; after it, the asset shows the last."""
    asset_uuid = device("CUT")
    partition = -1 if choice == "librdkafka" else third_partition_of(asset_uuid)
    with ExitStack() as stack:
        proxy = stack.enter_context(toxiproxy.proxy(nats_server.url.removeprefix("nats://")))
        factory = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url, 3, ours=ours))
        factory.router.nats_url = f"nats://{proxy.address}"
        client = stack.enter_context(
            KSQLDBClient(factory.url, bootstrap_servers=factory.bootstrap_servers, asset_router_url=factory.router.url)
        )
        writer, second, heard = ForeignWriter(factory), threading.Event(), list[object]()
        asset = stack.enter_context(Asset(asset_uuid, client))
        asset.subscribe_to_attribute("x", lambda _subject, message: heard.append(message["VALUE"]))
        nats = client.engine._nats  # type: ignore[attr-defined]
        eventually(lambda: nats._assets[asset_uuid].live, 30)
        for value in range(3):
            writer.write(asset_uuid, value, partition=partition)
        eventually(lambda: len(heard) == 3, 30)
        proxy.cut()
        for value in range(3, 3 + events):
            writer.write(asset_uuid, value, partition=partition)
            second.wait(0.5)
        proxy.restore()
        eventually(lambda: nats._assets[asset_uuid].live, 60)
        writer.write(asset_uuid, 3 + events, partition=partition)
        eventually(lambda: heard[-1:] == [3 + events], 30)
        assert heard == list(range(4 + events))
        assert asset.x.value == 3 + events
        assert values(client.engine.history(asset_uuid, "x")) == heard


def test_what_a_forwarder_repeats_after_a_crash_is_heard_once(
    kafka_broker: KafkaBroker, nats_server: NatsServer
) -> None:
    asset_uuid = device("TWICE")
    with (
        KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url, partitions=3) as factory,
        KSQLDBClient(
            factory.url, bootstrap_servers=factory.bootstrap_servers, asset_router_url=factory.router.url
        ) as client,
        Asset(asset_uuid, client) as asset,
    ):
        heard: list[object] = []
        asset.subscribe_to_attribute("x", lambda _subject, message: heard.append(message["VALUE"]))
        nats = client.engine._nats  # type: ignore[attr-defined]
        eventually(lambda: nats._assets[asset_uuid].live, 30)
        writer, forwarder = ForeignWriter(factory), factory.forwarder
        assert forwarder is not None
        before = dict(forwarder._next_offsets)
        for value in range(5):
            writer.write(asset_uuid, value)
        eventually(lambda: len(heard) == 5, 30)
        forwarder.stop()
        forwarder._next_offsets = before
        writer.write(asset_uuid, 5)
        forwarder.start()
        eventually(lambda: 5 in heard, 30)
        writer.write(asset_uuid, 6)
        eventually(lambda: heard[-1:] == [6], 30)
        assert heard == list(range(7))
        assert asset.x.value == 6
