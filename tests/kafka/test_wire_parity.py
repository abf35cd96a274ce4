"""What stands in Kafka is what OpenFactory's own programs write and read: shapes, spellings, keys and partitions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from forwarder import forwarded
from openfactory.assets.asset_class import Asset
from openfactory.engines.kafka_engine.partitioning import murmur2, partition_of
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.events.attribute import AssetAttribute
from openfactory.exceptions import CommandFailed, CommandRejected
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from openfactory.utils import deregister_asset, register_asset
from servers import KafkaBroker
from workers.bare_log import Record, append, read_topic
from workers.started import started

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

# As Java's clients choose them, for ten partitions.
PLACES = {"banana": 9, "apple": 7, "carrot": 3, "A": 8, "Zebra": 3, "DEV-UUID": 8, "PROVER3018": 0}


@pytest.fixture
def client(kafka_url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(kafka_url) as client:
        yield client


@pytest.fixture
def records(kafka_broker: KafkaBroker, topic_prefix: str) -> Any:
    """Reads all records of a topic."""
    return lambda topic="ofa_assets": read_topic(kafka_broker.bootstrap_servers, topic_prefix + topic)


# Messages


@pytest.mark.parametrize(
    "value", ["busy", "", 'ünï "q" \\ \n🙂', 7, -3, 2.5, 1e-7, True, False, None, [1, {"a": None}]]
)
def test_an_attribute_is_one_message_of_the_known_shape(client: KSQLDBClient, records: Any, value: Any) -> None:
    with Asset("Mill-1", client) as mill:
        attribute = AssetAttribute(
            id="spindle.state", value=value, type="Events", tag="State", timestamp="2026-01-02T03:04:05.678Z"
        )
        mill.producer.send_asset_attribute("Mill-1", attribute)
        mill.flush()
    [record] = records()
    assert record.key == b"Mill-1"
    assert record.said == {
        "ID": "spindle.state",
        "VALUE": value,
        "TAG": "State",
        "TYPE": "Events",
        "attributes": {"timestamp": "2026-01-02T03:04:05.678Z"},
    }
    assert list(record.said) == ["ID", "VALUE", "TAG", "TYPE", "attributes"]
    assert type(record.said["VALUE"]) is type(value)


def test_writes_of_an_asset_are_stamped_in_utc_with_milliseconds(client: KSQLDBClient, records: Any) -> None:
    with Asset("MILL", client) as mill:
        mill.add_attribute(AssetAttribute(id="speed", value=1, type="Samples", tag="Speed"))
        mill.speed = 2.5
        mill.flush()
    said = [record.said for record in records()]
    assert [(one["ID"], one["VALUE"], one["TAG"], one["TYPE"]) for one in said] == [
        ("speed", 1, "Speed", "Samples"),
        ("speed", 2.5, "Speed", "Samples"),
    ]
    assert all(TIMESTAMP.fullmatch(one["attributes"]["timestamp"]) for one in said)


def test_more_attributes_travel_with_the_message_and_may_set_its_time(client: KSQLDBClient, records: Any) -> None:
    attribute = AssetAttribute(id="speed", value=1, type="Samples", tag="Speed")
    with Asset("MILL", client) as mill:
        mill.producer.send_asset_attribute(
            "MILL", attribute, {"ingestion_timestamp": "later", "timestamp": "2026-01-01T00:00:00.000Z"}
        )
        mill.flush()
    [record] = records()
    assert record.said["attributes"] == {"timestamp": "2026-01-01T00:00:00.000Z", "ingestion_timestamp": "later"}


def test_the_forwarder_makes_its_nats_message_of_ours(client: KSQLDBClient, records: Any) -> None:
    with Asset("Mill-1", client) as mill:
        mill.add_attribute(AssetAttribute(id="axis.x", value=7, type="Samples", tag="Position"))
        mill.flush()
    [record] = records()
    said = forwarded(record.key, record.value, 1, 1_700_000_000_123)
    assert said is not None
    subject, payload = said
    assert subject == "Mill-1.axis.x"
    assert list(payload) == ["VALUE", "TAG", "TYPE", "attributes"]
    assert payload["attributes"]["kafka_timestamp"] == "2023-11-14T22:13:20.123Z"
    assert payload["attributes"]["kafka_timestamp_type"] == "producer"
    assert payload["attributes"]["timestamp"] == record.said["attributes"]["timestamp"]


# Partitions


def test_murmur2_is_that_of_java() -> None:
    assert (murmur2(b"21"), murmur2(b"foobar")) == (-973932308, -790332482)
    assert {key: partition_of(key, 10) for key in PLACES} == PLACES


def test_every_message_of_an_asset_goes_where_javas_clients_put_it(
    kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str, records: Any
) -> None:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS[:1], prefix=topic_prefix, partitions=10)
    others = [f"asset-{number}-é" for number in range(40)]
    with KSQLDBClient(kafka_url) as client, Asset("A", client) as asset:
        for uuid in [*PLACES, *others] * 2:
            attribute = AssetAttribute(id="x", value=1, type="Events", tag="X")
            asset.producer.send_asset_attribute(uuid, attribute)
        asset.flush()
        register_asset("banana", {"levels": {"site": "s"}, "uns_id": "s/banana"}, "Device", client)
        assert client.engine.snapshot(others).events.keys() == set(others)
        assert [event.id for event in client.engine.history("carrot")] == ["x", "x"]
    placed = {record.key.decode(): record.partition for record in records()}
    assert {uuid: placed[uuid] for uuid in PLACES} == PLACES
    assert {uuid: placed[uuid] for uuid in others} == {uuid: partition_of(uuid, 10) for uuid in others}
    assert len({(record.key, record.partition) for record in records()}) == len(placed)
    [place] = records("asset_to_uns_map_topic")
    assert place.partition == 9  # a join reads both topics by the same key in the same partition


def test_a_foreign_writer_of_an_asset_is_read_in_its_partition(
    kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str
) -> None:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS[:1], prefix=topic_prefix, partitions=10)
    message = {"ID": "x", "VALUE": 1, "TAG": "X", "TYPE": "Events", "attributes": {"timestamp": "t"}}
    pairs = [(key, json.dumps(message).encode()) for key in PLACES]
    append(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets", *pairs)
    with KSQLDBClient(kafka_url) as client:
        for key in PLACES:
            assert [event.value for event in client.engine.history(key)] == [1]


# Registering


def said_of(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(one.said["ID"], one.said["VALUE"], one.said["TYPE"], one.said["TAG"]) for one in records]


@pytest.fixture
def all_topics(kafka_broker: KafkaBroker, topic_prefix: str) -> None:
    """As `ofa setup-kafka` makes them for a ksqlDB."""
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS, prefix=topic_prefix)


@pytest.mark.usefixtures("all_topics")
def test_a_registration_is_the_known_sequence(client: KSQLDBClient, records: Any) -> None:
    uns = {"levels": {"enterprise": "ACME", "line": "L1"}, "uns_id": "ACME/L1/MILL"}
    register_asset("MILL", uns, "Device", client, docker_service="mill")
    log = records()
    assert {record.key for record in log} == {b"MILL"}
    assert said_of(log) == [
        ("AssetType", "Device", "OpenFactory", "AssetType"),
        ("DockerService", "mill", "OpenFactory", "DockerService"),
        ("references_below", "", "OpenFactory", "AssetsReferences"),
        ("references_above", "", "OpenFactory", "AssetsReferences"),
        ("enterprise", "ACME", "OpenFactory", "UNSLevel"),
        ("line", "L1", "OpenFactory", "UNSLevel"),
        ("uns_id", "ACME/L1/MILL", "OpenFactory", "UNSId"),
    ]
    [place] = records("asset_to_uns_map_topic")
    assert place.key == b"MILL"
    assert list(place.said) == ["ASSET_UUID", "UNS_ID", "UNS_LEVELS", "UPDATED_AT"]
    assert place.said | {"UPDATED_AT": 0} == {
        "ASSET_UUID": "MILL",
        "UNS_ID": "ACME/L1/MILL",
        "UNS_LEVELS": {"enterprise": "ACME", "line": "L1"},
        "UPDATED_AT": 0,
    }
    assert isinstance(place.said["UPDATED_AT"], int)
    assert place.said["UPDATED_AT"] > 1_700_000_000_000
    assert not records("assets_types_topic")  # ksqlDB derives it


@pytest.mark.usefixtures("all_topics")
def test_a_registration_without_a_place_writes_none(client: KSQLDBClient, records: Any) -> None:
    register_asset("MILL", None, "Device", client)
    assert [one[0] for one in said_of(records())] == [
        "AssetType",
        "DockerService",
        "references_below",
        "references_above",
    ]
    assert not records("asset_to_uns_map_topic")


@pytest.mark.usefixtures("all_topics")
def test_a_deregistration_is_the_known_sequence(client: KSQLDBClient, records: Any) -> None:
    deregister_asset("MILL", client)
    assert said_of(records()) == [
        ("references_below", "", "OpenFactory", "AssetsReferences"),
        ("references_above", "", "OpenFactory", "AssetsReferences"),
        ("AssetType", "delete", "UNAVAILABLE", "AssetType"),  # of which a ksqlDB makes no row of the register
    ]
    for topic in ("assets_types_topic", "assets_avail_topic", "docker_services_topic"):
        [tombstone] = records(topic)
        assert (tombstone.key, tombstone.value) == (b"MILL", None), topic
    [place] = records("asset_to_uns_map_topic")
    assert place.key == b"MILL"
    assert list(place.said) == ["asset_uuid", "uns_id", "uns_levels", "updated_at"]
    assert place.said | {"updated_at": 0} == {
        "asset_uuid": "MILL",
        "uns_id": None,
        "uns_levels": None,
        "updated_at": 0,
    }


# Commands


@pytest.fixture
def saw(client: KSQLDBClient, tmp_path: Path) -> Iterator[Asset]:
    """The app `workers/saw.py`, which runs and counts once a minute."""
    with started(tmp_path) as start:
        app = start("saw.py", 60, APP_UUID="SAW", KSQLDB_URL=client.ksqldb_url)
        app.until("running")
        with Asset("SAW", client) as saw:
            yield saw


def of_tag(records: list[Record], tag: str) -> list[Record]:
    return [record for record in records if record.said.get("TAG") == tag]


def test_a_method_is_announced_by_its_contract(saw: Asset, records: Any) -> None:
    contracts = {record.said["ID"]: record.said for record in of_tag(records(), "Method")}
    assert contracts.keys() == {"cut", "halt"}
    assert {said["TYPE"] for said in contracts.values()} == {"Method"}
    cut = json.loads(contracts["cut"]["VALUE"])
    arguments = [{"name": "length", "description": "in millimetres"}, {"name": "name", "description": ""}]
    assert cut == {"description": "Cut a piece.", "arguments": arguments}
    assert json.loads(contracts["halt"]["VALUE"]) == {"description": "Stop the blade.", "arguments": []}
    assert all(isinstance(said["VALUE"], str) for said in contracts.values())
    (full,) = of_tag(records(), "Method.Contract")  # for our own callers, and no attribute or method for others
    assert (full.said["ID"], full.said["TYPE"]) == ("cut_CONTRACT", "OpenFactory")


def test_a_command_is_one_message_with_an_envelope_and_so_is_its_reply(saw: Asset, records: Any) -> None:
    assert saw.call("cut", length=2.5, sender_uuid="HMI") == "piece of 2.5"
    with pytest.raises(CommandFailed, match="shorter than nothing"):
        saw.call("cut", length=-1, sender_uuid="HMI")
    with pytest.raises(CommandRejected):
        saw.call("cut", length="long", sender_uuid="HMI")
    log = records()
    commands, replies = of_tag(log, "Method.Command"), of_tag(log, "Method.Reply")
    assert {record.key for record in commands + replies} == {b"SAW"}
    assert {(one.said["ID"], one.said["TYPE"]) for one in commands} == {("cut_CMD", "OpenFactory")}
    assert {(one.said["ID"], one.said["TYPE"]) for one in replies} == {("cut_REPLY", "OpenFactory")}
    sent = [json.loads(one.said["VALUE"]) for one in commands]
    for envelope in sent:  # a reader that forbids what it does not know reads it
        assert envelope.keys() == {"header", "arguments"}
        assert envelope["header"].keys() == {"correlation_id", "sender_uuid", "timestamp", "signature"}
        UUID(envelope["header"]["correlation_id"])
        assert datetime.fromisoformat(envelope["header"]["timestamp"]).tzinfo is not None
        assert (envelope["header"]["sender_uuid"], envelope["header"]["signature"]) == ("HMI", None)
    assert [envelope["arguments"] for envelope in sent] == [{"length": "2.5"}, {"length": "-1"}, {"length": "long"}]
    said = [json.loads(one.said["VALUE"]) for one in replies]
    assert [one["status"] for one in said] == ["succeeded", "failed", "rejected"]
    assert [one["correlation_id"] for one in said] == [one["header"]["correlation_id"] for one in sent]
    assert said[0]["result"] == "piece of 2.5"


@pytest.mark.parametrize(
    ("header", "spelled"),
    [
        ({}, str.upper),
        ({"timestamp": lambda: datetime.now(UTC).isoformat(timespec="seconds"), "signature": None}, str.upper),
        ({"timestamp": "2999-01-01T00:00:00Z", "signature": None}, str.upper),
        ({"timestamp": "2999-01-01T00:00:00.123456"}, str.lower),
    ],
)
def test_a_command_of_another_program_is_run_and_answered(
    saw: Asset,
    records: Any,
    kafka_broker: KafkaBroker,
    topic_prefix: str,
    header: dict[str, Any],
    spelled: Callable[[str], str],
) -> None:
    header = {"correlation_id": "11111111-2222-4333-8444-555555555555", "sender_uuid": "HMI"} | header
    header = {name: value() if callable(value) else value for name, value in header.items()}  # the present time
    envelope = json.dumps({"header": header, "arguments": {"length": " 3 "}})
    message = {"ID": "cut_CMD", "VALUE": envelope, "TAG": "Method.Command", "TYPE": "OpenFactory"}
    said = {spelled(key): value for key, value in message.items()} | {"attributes": {"timestamp": "x"}}
    append(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets", ("SAW", json.dumps(said).encode()))
    eventually(lambda: of_tag(records(), "Method.Reply"))
    reply = json.loads(of_tag(records(), "Method.Reply")[0].said["VALUE"])
    assert reply["correlation_id"] == header["correlation_id"]
    assert (reply["status"], reply["result"]) == ("succeeded", "piece of 3"), reply


def test_an_app_registers_and_deregisters_in_messages_that_others_read(
    client: KSQLDBClient, records: Any, tmp_path: Path
) -> None:
    with started(tmp_path) as start:
        app = start("saw.py", 60, APP_UUID="SAW", KSQLDB_URL=client.ksqldb_url)
        app.until("running")
        app.process.terminate()
        assert app.ended() == 0
    said = said_of(records())
    assert ("AssetType", "OpenFactoryApp", "OpenFactory", "AssetType") in said
    assert ("avail", "AVAILABLE", "Events", "Availability") in said
    assert [one[:2] for one in said if one[3] in ("Availability", "AssetType")][-2:] == [
        ("avail", "UNAVAILABLE"),
        ("AssetType", "delete"),
    ]
    assert max(Counter(record.offset for record in records()).values()) == 1
