"""A log that has lost what was not read yet, and the state file that remembers what the log has lost."""

from __future__ import annotations

import json
import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from app_processes import freeze
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.past_state import PastState
from openfactory.engines.kafka_engine.replay import Replay
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import EngineUnavailableError
from openfactory.testing import eventually
from servers import KafkaBroker
from workers.bare_log import append
from workers.started import started


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What was said at a level."""
    caplog.set_level(logging.INFO, "openfactory")

    def said(level: int) -> list[str]:
        ours = (record for record in caplog.records if not record.name.endswith(".librdkafka"))  # which nobody hears
        return [record.getMessage() for record in ours if record.levelno == level]

    return said


def number(uuid: str, value: Any, attribute_id: str = "number") -> AssetEvent:
    return new_event(uuid, attribute_id, value, "Events", "Number")


def lose(broker: KafkaBroker, topic: str, partition: int = 0) -> int:
    """Have the broker delete all that stands in a partition, as its retention does; up to where."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    place = TopicPartition(topic, partition, -1)  # its end
    [lost] = admin.delete_records([place]).values()
    return int(lost.result(60).low_watermark)


@contextmanager
def opened(url: str) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(url)
    try:
        yield engine
    finally:
        engine.close()


# A reader that lags


def test_a_reader_that_was_too_slow_hears_the_latest_and_says_what_is_lost(
    kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str, tmp_path: Path
) -> None:
    topic = f"{topic_prefix}ofa_assets"
    with started(tmp_path) as start, opened(kafka_url) as engine:
        engine.publish(number("A", 0))
        engine.flush()
        watcher = start("hearing.py", "A", KSQLDB_URL=kafka_url)
        watcher.until("watching")
        engine.publish(number("A", 1))
        engine.flush()
        watcher.until("heard 1\n")
        freeze(watcher.process)
        for value in range(2, 50_000):  # more than stands in its connection already
            engine.publish(number("A", value))
        engine.flush(timeout=30)
        lost_before = lose(kafka_broker, topic)
        engine.publish(number("A", "new"))
        engine.publish(number("END", 1))
        engine.flush()
        watcher.process.send_signal(signal.SIGCONT)
        watcher.until("{")
        assert watcher.ended() == 0
    heard = json.loads(watcher.lines()[-1])["A"]
    assert heard[0] == 1
    assert heard[-1] == "new"
    assert heard[:-1] == list(range(1, len(heard)))  # in order, then what was kept
    assert f"{topic}, partition 0, was read up to offset" in watcher.err
    assert str(lost_before) in watcher.err
    assert "--retention-hours" in watcher.err


def test_a_start_takes_what_is_left(kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str) -> None:
    with opened(kafka_url) as engine:
        engine.publish(number("A", 1))
        engine.flush()
        assert engine.snapshot().events.keys() == {"A"}  # the engine has read it
        lose(kafka_broker, f"{topic_prefix}ofa_assets")
        engine.publish(number("B", 2))
        engine.flush()
        assert engine.snapshot().events.keys() == {"A", "B"}
        assert [event.value for event in engine.history("B")] == [2]
        assert engine.history("A") == []
    with opened(kafka_url) as engine:
        assert engine.snapshot().events.keys() == {"B"}
        heard: list[AssetEvent] = []
        engine.subscribe("B", heard.append, from_position=0)
        eventually(lambda: [event.value for event in heard] == [2])


# The state file


@pytest.fixture(params=[1, 3], ids=["one-partition", "three-partitions"])
def state_url(
    request: pytest.FixtureRequest, kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str, tmp_path: Path
) -> str:
    servers = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(servers, TOPICS, prefix=topic_prefix, partitions=request.param)
    return f"{kafka_url}&state={tmp_path}/state.db"


def fill(engine: KafkaEngine) -> None:
    for value in range(20):
        for uuid in ("A", "B", "C", "D"):
            engine.publish(number(uuid, value))
            engine.publish(number(uuid, [value, {"é": None}], "more.of.it"))
    engine.register(Registration("A", "Device", "a", uns_id="acme/a", uns_levels={"line": "L1"}))
    engine.register(Registration("B", "Device", "b"))
    engine.deregister("B")
    engine.publish(new_event("A", "cut_CMD", "{}", "OpenFactory", "Method.Command"))
    engine.flush()


def all_that_is_known(engine: KafkaEngine) -> dict[str, Any]:
    return {
        "snapshot": {uuid: {one.id: one for one in events} for uuid, events in engine.snapshot().events.items()},
        "types": engine.types(),
        "places": engine.uns_map(),
        "commands": engine.history("A", tag="Method.Command"),
        "rows": sorted(map(str, engine.query("SELECT * FROM assets"))),
        "position": engine.snapshot().position,
    }


def lose_all(broker: KafkaBroker, prefix: str, url: str) -> None:
    with opened(url.partition("&")[0]) as engine:
        count = len(engine._partitions)
    for partition in range(count):
        lose(broker, f"{prefix}ofa_assets", partition)


def test_a_restart_reads_only_what_is_new(kafka_broker: KafkaBroker, topic_prefix: str, state_url: str) -> None:
    with opened(state_url) as engine:
        fill(engine)
        known = all_that_is_known(engine)
    lose_all(kafka_broker, topic_prefix, state_url)  # so that all that is known now comes from the file
    with opened(state_url) as engine:
        assert all_that_is_known(engine) == known
        heard: list[AssetEvent] = []
        engine.subscribe(None, heard.append)
        engine.publish(number("A", "new"))
        engine.flush()
        eventually(lambda: [event.value for event in heard] == ["new"])
    with opened(state_url) as engine:
        values = {event.id: event.value for event in engine.snapshot(["A"]).events["A"]}
    assert values["number"] == "new"


def test_a_state_file_with_the_former_columns_gets_the_present_ones_and_loses_nothing(
    kafka_broker: KafkaBroker, topic_prefix: str, state_url: str, tmp_path: Path
) -> None:
    with opened(state_url) as engine:
        fill(engine)
        known = all_that_is_known(engine)
        [place] = engine.query("SELECT * FROM asset_to_uns_map WHERE asset_uuid = 'A'")
    lose_all(kafka_broker, topic_prefix, state_url)  # so that all that is known now comes from the file
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
        connection.executescript("ALTER TABLE last DROP COLUMN attributes; PRAGMA user_version = 2;")
        connection.executescript("DROP VIEW asset_to_uns_map; DROP VIEW assets_uns;")
        connection.execute("CREATE VIEW asset_to_uns_map AS SELECT asset_uuid, uns_id, uns_levels, updated_at FROM uns")
    with opened(state_url) as owner, opened(state_url) as reader:
        for engine in (owner, reader):
            assert all_that_is_known(engine) == known
            assert engine.query("SELECT * FROM asset_to_uns_map WHERE asset_uuid = 'A'") == [place]
            assert engine.query("SELECT key FROM assets_uns WHERE id = 'line'") == [{"KEY": "acme/a|line"}]


def test_what_others_wrote_while_we_were_away_is_read(
    kafka_broker: KafkaBroker, topic_prefix: str, state_url: str
) -> None:
    with opened(state_url) as engine:
        fill(engine)
    message = {"ID": "number", "VALUE": "theirs", "TAG": "Number", "TYPE": "Events", "attributes": {"timestamp": "t"}}
    records = [(uuid, json.dumps(message).encode()) for uuid in ("A", "B", "new-one")]
    append(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets", *records)
    with opened(state_url) as engine:
        for uuid in ("A", "B", "new-one"):
            values = {event.id: event.value for event in engine.snapshot([uuid]).events[uuid]}
            assert values["number"] == "theirs"


def test_a_process_that_is_killed_leaves_a_state_that_is_sound(
    kafka_broker: KafkaBroker, state_url: str, tmp_path: Path
) -> None:
    with started(tmp_path) as start:
        for seed in range(3):
            writer = start("counting.py", "A", seed, tmp_path / "never", KSQLDB_URL=state_url)
            writer.until("acknowledged 2")
            time.sleep(0.2 * seed)
            writer.process.kill()
            writer.ended()
    with opened(state_url) as engine:
        [event] = engine.snapshot(["A"]).events["A"]
        assert event.value == engine.history("A")[-1].value


def test_a_file_that_another_process_keeps_is_read_and_left_alone(
    state_url: str, tmp_path: Path, logged: Callable[[int], list[str]]
) -> None:
    with opened(state_url) as engine:
        fill(engine)
        known = all_that_is_known(engine)
    with opened(state_url) as engine, opened(state_url) as other:
        assert all_that_is_known(other) == known
        assert any("in use by another process" in line for line in logged(logging.INFO))
        other.publish(number("A", "new"))
        other.flush()
        for one in (engine, other):
            values = {event.id: event.value for event in one.snapshot(["A"]).events["A"]}
            assert values["number"] == "new"
    with opened(state_url) as engine:
        values = {event.id: event.value for event in engine.snapshot(["A"]).events["A"]}
        assert values["number"] == "new"


def test_a_state_of_another_cluster_is_not_believed(
    state_url: str, tmp_path: Path, logged: Callable[[int], list[str]]
) -> None:
    with opened(state_url) as engine:
        fill(engine)
        known = all_that_is_known(engine)
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute("UPDATE log SET id = 'another'")
        connection.execute("UPDATE last SET value = '\"theirs\"'")
    with opened(state_url) as engine:
        assert all_that_is_known(engine) == known
    assert [line for line in logged(logging.WARNING) if "another cluster" in line]


@pytest.mark.parametrize("ends", [True, False])
def test_closing_while_or_after_a_log_is_read_anew_leaves_a_state_file_that_is_sound(
    kafka_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    url = f"{kafka_url}&state={tmp_path}/state.db"
    with opened(url) as engine:
        fill(engine)
        known = all_that_is_known(engine)
        reading, read = threading.Event(), PastState.read

        def slow(self: PastState, *arguments: Any, is_needed: Callable[[], bool], **keywords: Any) -> Replay:
            reading.set()
            eventually(lambda: ends or not is_needed())
            return read(self, *arguments, is_needed=is_needed, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(PastState, "read", slow)
            engine._read_anew(engine._identity, "The log has lost records, as it seems")
            assert reading.wait(60)
            if ends:
                assert all_that_is_known(engine).keys() == known.keys()
            engine.close()
    if ends:
        with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
            marks = dict(connection.execute("SELECT topic, last_offset FROM folded"))
        assert None not in marks.values()
        assert len(marks) == 2
    with opened(url) as engine:
        assert all_that_is_known(engine) == known


def damage(file: Path, kind: str) -> None:
    if kind == "text":
        file.write_text("this is no database, and long enough to be read as one\n" * 200)
    elif kind == "another database":
        file.unlink()
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("CREATE TABLE theirs (id)")
    elif kind == "half":
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
    elif kind == "zeros in the middle":
        whole = file.read_bytes()
        file.write_bytes(whole[:4096] + bytes(len(whole) - 8192) + whole[-4096:])
    elif kind == "no JSON in a row":
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE last SET value = 'no JSON'")
    else:
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize(
    "kind", ["text", "another database", "half", "zeros in the middle", "no JSON in a row", "a folder"]
)
def test_a_file_that_cannot_be_used_is_one_sentence(kafka_url: str, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "state.db"
    url = f"{kafka_url}&state={file}"
    with opened(url) as engine:
        for value in range(300):
            engine.publish(number(f"A-{value}", "x" * 100))
        engine.flush()
        engine.snapshot()  # so that all of it is in the file
    damage(file, kind)
    with pytest.raises(EngineUnavailableError, match=r"state\.db") as caught:
        KafkaEngine(url)
    assert "state=" in str(caught.value)
    if file.is_dir():
        file.rmdir()
    for left in tmp_path.glob("state.db*"):
        left.unlink()
    with opened(url) as engine:
        assert len(engine.snapshot().events) == 300


def test_a_topic_that_was_made_anew_is_read_from_its_start(
    kafka_broker: KafkaBroker, topic_prefix: str, kafka_url: str, tmp_path: Path, logged: Callable[[int], list[str]]
) -> None:
    url = f"{kafka_url}&state={tmp_path}/state.db"
    with opened(url) as engine:
        fill(engine)
        engine.snapshot()  # so that all of it is in the file
    servers: dict[str, Any] = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    admin = AdminClient(servers)
    topic = f"{topic_prefix}ofa_assets"
    [deleted] = admin.delete_topics([topic]).values()
    deleted.result(60)
    eventually(lambda: topic not in admin.list_topics(timeout=5).topics)
    create_topics(servers, TOPICS, prefix=topic_prefix)
    message = {"ID": "number", "VALUE": "first", "TAG": "Number", "TYPE": "Events", "attributes": {"timestamp": "t"}}
    append(kafka_broker.bootstrap_servers, topic, ("Z", json.dumps(message).encode()))
    with opened(url) as engine:
        assert engine.snapshot().events.keys() == {"Z"}
        assert engine.uns_map() == {"A": "acme/a"}
        assert {row["ASSET_UUID"] for row in engine.query("SELECT * FROM assets")} == {"Z"}
    assert [line for line in logged(logging.WARNING) if "made anew" in line]
    with opened(url) as engine:
        assert engine.snapshot().events.keys() == {"Z"}
