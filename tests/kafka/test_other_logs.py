"""A log that another log replaces: a topic made anew, partitions added, records replaced behind the reader."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from openfactory.assets.asset_class import Asset
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.partitioning import partition_of
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.events.attribute import UNAVAILABLE, AssetAttribute
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker
from workers.bare_log import append

ASSETS = [f"MILL-{number}" for number in range(8)]


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """The warnings that contain a text."""
    caplog.set_level(logging.WARNING, "openfactory")

    def containing(text: str) -> list[str]:
        return [message for record in caplog.records if text in (message := record.getMessage())]

    return containing


@pytest.fixture
def client(kafka_url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(kafka_url) as client:
        yield client


def look(client: KSQLDBClient) -> None:
    """Have the engine look at the log now, and not within seconds."""
    engine = client.engine
    assert isinstance(engine, KafkaEngine)
    engine._watch.look(30)


def theirs(value: Any, attribute_id: str = "count") -> bytes:
    attributes = {"timestamp": "2026-01-02T03:04:05.678Z"}
    return json.dumps(
        {"ID": attribute_id, "VALUE": value, "TAG": "Count", "TYPE": "Events", "attributes": attributes}
    ).encode()


def make_anew(broker: KafkaBroker, prefix: str) -> None:
    servers: dict[str, Any] = {"bootstrap.servers": broker.bootstrap_servers}
    admin = AdminClient(servers)
    topic = f"{prefix}ofa_assets"
    [deleted] = admin.delete_topics([topic]).values()
    deleted.result(60)
    eventually(lambda: topic not in admin.list_topics(timeout=5).topics)
    create_topics(servers, TOPICS[:1], prefix=prefix)


def add_partitions(broker: KafkaBroker, prefix: str, count: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    [added] = admin.create_partitions([NewPartitions(f"{prefix}ofa_assets", count)]).values()
    added.result(60)
    eventually(lambda: len(admin.list_topics(timeout=5).topics[f"{prefix}ofa_assets"].partitions) == count)


def add(asset: Asset, value: Any, attribute_id: str = "count") -> None:
    asset.add_attribute(AssetAttribute(id=attribute_id, value=value, type="Events", tag="Count"))


def test_a_topic_that_is_made_anew_while_apps_run_is_read_anew_and_told_once(
    kafka_broker: KafkaBroker, topic_prefix: str, client: KSQLDBClient, warnings: Callable[[str], list[str]]
) -> None:
    with Asset("MILL", client) as mill, Asset("MILL", client) as watcher:
        heard: list[Any] = []
        watcher.subscribe_to_attribute("count", lambda _, message: heard.append(message["VALUE"]))
        add(mill, "former log", "only_there")
        for value in range(5):
            add(mill, value)
        eventually(lambda: heard == [0, 1, 2, 3, 4])
        make_anew(kafka_broker, topic_prefix)
        append(  # at once more than the former log had, so that no offset tells the difference
            kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets", *(("MILL", theirs(n)) for n in range(100, 150))
        )
        look(client)
        eventually(lambda: heard[-1] == 149)
        for asset in (watcher, mill):  # each is told on its own
            assert asset.wait_until("count", 149, timeout=60)
            assert asset.wait_until("only_there", UNAVAILABLE, timeout=60)
        assert {row["ID"]: row["VALUE"] for row in client.query("SELECT * FROM assets")} == {"count": "149"}
        add(mill, "after")
        assert mill["count"].value == "after"
        eventually(lambda: heard[-1] == "after")
        assert [event.value for event in client.engine.history("MILL", limit=2)] == [149, "after"]
        # Between its making and the first record, the new log may be read without any value.
        values = [one for one in heard if one != UNAVAILABLE]
        assert values[:-1] == sorted(values[:-1])
        look(client)
        assert len(warnings("made anew")) == 1
        assert not warnings("No new records")


def test_a_read_after_an_acknowledged_write_never_returns_the_former_log(
    kafka_broker: KafkaBroker, topic_prefix: str, client: KSQLDBClient, warnings: Callable[[str], list[str]]
) -> None:
    with Asset("MILL", client) as mill:
        for value in range(20):
            add(mill, value)
        make_anew(kafka_broker, topic_prefix)
        look(client)
        add(mill, "new")  # its offset is far below those of the former log
        assert [row["VALUE"] for row in client.query("SELECT VALUE FROM assets WHERE id = 'count'")] == ["new"]
        assert mill["count"].value == "new"
        assert len(warnings("made anew")) == 1


def test_partitions_that_are_added_move_assets_and_lose_nothing(
    kafka_broker: KafkaBroker,
    topic_prefix: str,
    kafka_url: str,
    tmp_path: Path,
    warnings: Callable[[str], list[str]],
) -> None:
    url = f"{kafka_url}&state={tmp_path}/state.db"
    with KSQLDBClient(url) as client, Asset(ASSETS[0], client) as mill:
        for uuid in ASSETS:
            for value in range(20):
                client.engine.produce("ofa_assets", uuid, theirs(value))
            client.engine.produce("ofa_assets", uuid, theirs("kept", "other"))
        client.engine.flush()
        heard: list[Any] = []
        mill.subscribe_to_attribute("count", lambda _, message: heard.append(message["VALUE"]))
        add_partitions(kafka_broker, topic_prefix, 5)
        look(client)
        assert len({partition_of(uuid, 5) for uuid in ASSETS}) > 1
        for uuid in ASSETS:
            client.engine.produce("ofa_assets", uuid, theirs("new"))
        client.engine.flush()
        eventually(lambda: heard[-1:] == ["new"])
        assert mill["count"].value == "new"
        assert len(warnings("5 partitions")) == 1
        known = values_in(client)
        assert known == {uuid: {"count": "new", "other": "kept"} for uuid in ASSETS}
    with KSQLDBClient(url) as client:  # from the state file, then without it
        assert values_in(client) == known
        assert not warnings("belongs to another")
    with KSQLDBClient(kafka_url) as client, Asset(ASSETS[1], client) as other:
        assert values_in(client) == known
        add(other, "newer")
        assert other["count"].value == "newer"


def values_in(client: KSQLDBClient) -> dict[str, dict[str, Any]]:
    snapshot = client.engine.snapshot().events
    return {uuid: {event.id: event.value for event in events} for uuid, events in sorted(snapshot.items())}


@pytest.mark.parametrize("difference", ["topic", "records", "version"])
def test_a_state_file_of_another_log_is_discarded(
    kafka_broker: KafkaBroker,
    topic_prefix: str,
    kafka_url: str,
    tmp_path: Path,
    warnings: Callable[[str], list[str]],
    difference: str,
) -> None:
    url = f"{kafka_url}&state={tmp_path}/state.db"
    with KSQLDBClient(url) as client:
        client.engine.produce("ofa_assets", "MILL", theirs("true"))
        client.engine.flush()
        client.engine.snapshot()
    records = [("MILL", theirs("true")), *(("SAW", theirs(value)) for value in range(9))]
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute("UPDATE last SET value = '\"of another log\"'")
        if difference == "records":  # as after the election of a broker that lacked them
            connection.execute("UPDATE folded SET last_milliseconds = last_milliseconds - 1")
        elif difference == "version":
            connection.execute("PRAGMA user_version = 1")
    if difference == "topic":
        make_anew(kafka_broker, topic_prefix)
    append(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets", *records[difference != "topic" :])
    for _ in range(2):
        with KSQLDBClient(url) as client:
            assert values_in(client) == {"MILL": {"count": "true"}, "SAW": {"count": 8}}
            assert [row["VALUE"] for row in client.query("SELECT VALUE FROM assets ORDER BY key")] == ["true", "8"]
    assert len(warnings("read from its start")) == (difference != "version")
