"""The state keeper: a start with its topic sees exactly what a start sees that reads the whole log."""

from __future__ import annotations

import base64
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from kept import Kept, by_state, by_whole_log, history, keeping, seen, written
from openfactory.engines.kafka_engine import engine as kafka_engine
from openfactory.engines.kafka_engine import keeper_session
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.kept_state import KeptState
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.recent_commands import MAX_COMMANDS
from openfactory.engines.kafka_engine.state_records import MARKER_KEY, Key, Marker
from openfactory.engines.kafka_engine.state_writer import StateWriter, WriterReplacedError
from openfactory.engines.kafka_engine.topics import STATE_TOPIC, TOPICS, create_topics
from openfactory.events.event import COMMAND_TAG, AssetEvent, new_event
from openfactory.events.message import encode_message
from openfactory.events.registration import deregistration_event
from openfactory.settings.credentials import Credentials
from openfactory.testing import eventually
from servers import KafkaBroker
from test_other_logs import add_partitions, make_anew
from workers.bare_log import append, read_topic

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def short_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the broker notice the end of a keeper soon."""
    monkeypatch.setattr(keeper_session, "_SESSION_SECONDS", 3.0)


@pytest.fixture
def kept(kafka_broker: KafkaBroker, topic_prefix: str) -> Kept:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS[:2], prefix=topic_prefix)
    return Kept(kafka_broker, topic_prefix)


def sample(number: int, asset: str = "MILL") -> AssetEvent:
    return new_event(asset, "speed", number, "Samples", "Speed")


@pytest.mark.parametrize(
    ("partitions", "seed"),
    [(1, 1), *(pytest.param(*one, marks=pytest.mark.thorough) for one in ((1, 2), (3, 3), (3, 4)))],
)
def test_a_start_with_the_state_equals_a_start_that_reads_the_whole_log(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, partitions: int, seed: int
) -> None:
    servers = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(servers, TOPICS[:2], prefix=topic_prefix, partitions=partitions)
    kept, chance = Kept(kafka_broker, topic_prefix), random.Random(seed)
    for _ in range(3):  # each keeper takes over from the one before
        with keeping(kafka_url):
            for _ in range(3):
                written(kafka_broker, topic_prefix, history(chance, 150), chance if partitions > 1 else None)
            kept.wait()
        written(kafka_broker, topic_prefix, history(chance, 20), chance if partitions > 1 else None)
        with_state = by_state(kafka_url)
        assert with_state.differences(by_whole_log(kafka_url)) == []
        assert with_state.events
    assert kept.lag() <= 20


def test_a_start_reads_the_state_and_the_log_behind_it_only(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    with keeping(kafka_url) as keeper:
        written(kafka_broker, topic_prefix, [sample(number) for number in range(500)])
        kept.wait()
        assert keeper.counters == {"read": 500, "written": keeper.counters["written"], "unreadable": 0}
        assert keeper.counters["written"] < 50  # one record in an interval, and not one for each event
        eventually(lambda: keeper.lag() == {0: 0})
    written(kafka_broker, topic_prefix, [sample(number) for number in range(500, 530)])
    with closing(KafkaEngine(kafka_url)) as engine:
        assert engine.snapshot(["MILL"]).events["MILL"][-1].value == 529
        assert engine.health().counters["records_read"] < 200
        eventually(lambda: engine.health().keeper_lag == 30, timeout=60)  # the keeper is stopped
        with keeping(kafka_url):
            eventually(lambda: engine.health().keeper_lag == 0, timeout=60)


def test_a_keeper_that_is_ahead_of_a_reader_adds_nothing_twice(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    def command(number: int) -> AssetEvent:
        return new_event("MILL", "start_CMD", {"number": number}, "Method", COMMAND_TAG)

    with keeping(kafka_url):
        written(kafka_broker, topic_prefix, [make(number) for number in range(10) for make in (sample, command)])
        kept.wait()
    partition = Partition(f"{topic_prefix}ofa_assets", 0)
    with closing(KafkaEngine(kafka_url)) as engine:
        past = engine._state._past
        in_parts = past.read({partition: (10, 20)}, None, past.read({partition: (0, 10)}, None)).fold
        with patch.object(KeptState, "read", lambda *_: None):
            whole = past.read({partition: (0, 20)}, None).fold
    assert in_parts.events() == whole.events()
    key = ("MILL", COMMAND_TAG)
    assert [event.position for event in in_parts.commands[key]] == [event.position for event in whole.commands[key]]


def test_without_a_state_topic_nothing_is_as_with_it(kafka_url: str) -> None:
    with closing(KafkaEngine(kafka_url)) as engine:
        assert engine.health().keeper_lag is None


def test_the_state_of_some_assets_has_no_other(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    with keeping(kafka_url):
        written(kafka_broker, topic_prefix, [sample(1, "A"), sample(2, "B"), deregistration_event("C")])
        kept.wait()
    with kept._open() as (state, _):
        some = state.read(0, ["A", "C"])
        assert some is not None
        assert [(one.event.asset_uuid, one.event.value) for one in some.events] == [("A", 1)]
        assert {asset: position for asset, (position, _) in some.deregistered.items()} == {"C": 3}
        assert some.marker.offset == 3


def test_commands_stay_within_their_limits(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    def commands(count: int, size: int) -> list[AssetEvent | bytes]:
        text = "x" * size
        values = [f'{{"header": {{"correlation_id": "{number}"}}, "arguments": "{text}"}}' for number in range(count)]
        return [new_event("MILL", "start_CMD", value, "Method", COMMAND_TAG) for value in values]

    with keeping(kafka_url):
        written(kafka_broker, topic_prefix, commands(8, 200_000))
        kept.wait()
        assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
        written(kafka_broker, topic_prefix, commands(MAX_COMMANDS, 10))
        kept.wait()
        assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
    with keeping(kafka_url):  # it knows the commands of the one before
        written(kafka_broker, topic_prefix, commands(100, 10))
        kept.wait()
    assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
    assert len([key for key in kept.present() if key.offset is not None]) == MAX_COMMANDS


def test_an_event_as_large_as_the_log_permits_is_kept(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    frame = encode_message(new_event("MILL", "text", "", "Events", "Text"))
    text = base64.b64encode(random.Random(8).randbytes(780_000))[: 1_040_000 - len(frame)]  # which cannot be compressed
    largest = frame.replace(b'"VALUE":""', b'"VALUE":"%b"' % text)
    writer = Producer({"bootstrap.servers": kafka_broker.bootstrap_servers, "message.max.bytes": 1_048_000})
    with keeping(kafka_url):
        writer.produce(f"{topic_prefix}ofa_assets", largest, "MILL")
        assert writer.flush(30) == 0
        kept.wait()
    with closing(KafkaEngine(kafka_url)) as engine:
        eventually(lambda: engine.health().keeper_lag == 0, timeout=60)
        assert seen(engine).events["MILL", "text"].value == text.decode()


def test_a_keeper_that_is_killed_loses_nothing(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept, keepers: Callable[[], Any]
) -> None:
    def differ(before: dict[int, int]) -> bool:
        return kept.markers() != before

    chance = random.Random(5)
    for _ in range(3):
        keeper = keepers()
        before = kept.markers()
        for _ in range(5):
            written(kafka_broker, topic_prefix, history(chance, 200))
        eventually(partial(differ, before), timeout=60)  # it is at work
        keeper.kill()
        keeper.wait()
        assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
    keepers()
    kept.wait()
    assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []


def test_two_keepers_share_the_partitions_and_take_over_from_each_other(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, keepers: Callable[[], Any]
) -> None:
    servers = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(servers, TOPICS[:2], prefix=topic_prefix, partitions=4)
    kept, chance = Kept(kafka_broker, topic_prefix), random.Random(6)
    with keeping(kafka_url) as first:
        written(kafka_broker, topic_prefix, history(chance, 200))
        kept.wait()
        assert len(first.lag()) == 4
        with keeping(kafka_url) as second:
            eventually(lambda: len(first.lag()) == len(second.lag()) == 2, timeout=60)
            written(kafka_broker, topic_prefix, history(chance, 200))
            kept.wait()
            assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
        written(kafka_broker, topic_prefix, history(chance, 200))
        kept.wait()
        assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
        assert len(first.lag()) == 4


def test_what_a_keeper_still_writes_after_it_was_replaced_does_not_count(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept, keepers: Callable[[], Any]
) -> None:
    frozen = keepers()
    written(kafka_broker, topic_prefix, [sample(number) for number in range(100)])
    kept.wait()
    written(kafka_broker, topic_prefix, [sample(number) for number in range(100, 5_100)])
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        keepers()
        written(kafka_broker, topic_prefix, [sample(number) for number in range(5_100, 5_200)])
        kept.wait()
        newest = by_state(kafka_url)
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    written(kafka_broker, topic_prefix, [sample(5_200, "OTHER")])
    kept.wait()
    assert by_state(kafka_url).events["MILL", "speed"] == newest.events["MILL", "speed"]
    assert newest.events["MILL", "speed"].value == 5_199
    assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []


def test_only_the_newest_writer_of_a_partition_can_write(
    kafka_broker: KafkaBroker, topic_prefix: str, kept: Kept
) -> None:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, [STATE_TOPIC], prefix=topic_prefix)
    connection = BrokerConnection(kafka_broker.bootstrap_servers, Credentials())
    older, newer = (StateWriter(connection, Partition(f"{topic_prefix}ofa_assets_state", 0)) for _ in range(2))
    older.take_over()
    assert older.write([(b'["A","x"]', b"older")], Marker(log="log", offset=1)) == 1
    newer.take_over()
    newer.write([(b'["A","x"]', b"newer")], Marker(log="log", offset=3))
    with pytest.raises(WriterReplacedError, match="not the newest any more"):
        older.write([(b'["A","x"]', b"late")], Marker(log="log", offset=2))
    newer.write([], Marker(log="log", offset=4))
    records = read_topic(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets_state")
    assert [record.value for record in records if record.key != MARKER_KEY] == [b"older", b"newer"]
    assert [record.said["offset"] for record in records if record.key == MARKER_KEY] == [1, 3, 4]


def test_a_transaction_that_is_left_open_is_ended_by_the_next_keeper(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    topic = f"{topic_prefix}ofa_assets_state"
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, [STATE_TOPIC], prefix=topic_prefix)
    left = Producer(
        {"bootstrap.servers": kafka_broker.bootstrap_servers, "transactional.id": f"{topic}-0", "log_level": 0}
    )
    left.init_transactions()
    left.begin_transaction()
    left.produce(topic, b'{"offset":7,"time":0}\n{}', b'["GHOST","x"]', partition=0)
    left.flush()
    written(kafka_broker, topic_prefix, [sample(1)])
    assert set(by_state(kafka_url).events) == {("MILL", "speed")}  # no reader waits for its end
    with keeping(kafka_url):
        kept.wait()
    assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
    assert set(by_state(kafka_url).events) == {("MILL", "speed")}
    left.purge()


def test_the_state_of_a_log_that_was_made_anew_is_written_anew(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    written(kafka_broker, topic_prefix, [sample(1, "FORMER"), *(sample(number) for number in range(50))])
    with keeping(kafka_url):
        kept.wait()
        make_anew(kafka_broker, topic_prefix)
        assert by_state(kafka_url).events == {}  # before the keeper has noticed, or after
        written(kafka_broker, topic_prefix, [sample(number) for number in range(100, 200)])
        kept.wait()
        assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []
        assert kept.present() == {Key("MILL", "speed")}


def test_the_state_of_a_former_log_is_ignored(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    written(kafka_broker, topic_prefix, [sample(1, "FORMER")])
    with keeping(kafka_url):
        kept.wait()
    make_anew(kafka_broker, topic_prefix)
    written(kafka_broker, topic_prefix, [sample(2), sample(3)])
    with closing(KafkaEngine(kafka_url)) as engine:
        assert set(seen(engine).events) == {("MILL", "speed")}
        eventually(lambda: engine.health().keeper_lag == 2, timeout=60)


def test_partitions_that_are_added_get_their_state(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    chance = random.Random(7)
    written(kafka_broker, topic_prefix, history(chance, 100))
    with keeping(kafka_url):
        kept.wait()
        add_partitions(kafka_broker, topic_prefix, 3)
        written(kafka_broker, topic_prefix, history(chance, 200))
        kept.wait()
        eventually(lambda: len(kept.markers()) == 3, timeout=60)
        assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []


def delete_records(broker: KafkaBroker, prefix: str, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    [deleted] = admin.delete_records([TopicPartition(f"{prefix}ofa_assets", 0, before)]).values()
    deleted.result(60)


def test_values_that_are_older_than_the_log_are_in_the_state(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept
) -> None:
    written(kafka_broker, topic_prefix, [sample(1, "OLD"), *(sample(number) for number in range(50))])
    with keeping(kafka_url):
        kept.wait()
    written(kafka_broker, topic_prefix, [sample(number) for number in range(50, 100)])
    delete_records(kafka_broker, topic_prefix, 80)  # beyond the offset of the state
    found = by_state(kafka_url).events
    assert (found["OLD", "speed"].value, found["MILL", "speed"].value) == (1, 99)
    assert ("OLD", "speed") not in by_whole_log(kafka_url).events
    with keeping(kafka_url):
        kept.wait()
    assert by_state(kafka_url).events == found


def test_a_deregistered_asset_is_dropped_when_the_log_has_nothing_of_it(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_session, "_GONE_SECONDS", 0.2)
    command = new_event("GONE", "start_CMD", "{}", "Method", COMMAND_TAG)
    known, back = (new_event(asset, "AssetType", "Mill", "OpenFactory", "AssetType") for asset in ("KNOWN", "BACK"))
    gone = [sample(1, "GONE"), command, deregistration_event("GONE"), deregistration_event("BACK"), back, known]
    written(kafka_broker, topic_prefix, [*gone, sample(2)])
    stay = {("KNOWN", "AssetType"), ("BACK", "AssetType"), ("MILL", "speed")}
    with keeping(kafka_url):
        kept.wait()
        assert {key.asset_uuid for key in kept.present()} == {"GONE", "KNOWN", "BACK", "MILL"}
        delete_records(kafka_broker, topic_prefix, len(gone))
        eventually(lambda: {key.parts for key in kept.present()} == {*stay, ("BACK",)}, timeout=60)
    found = by_state(kafka_url)
    assert set(found.events) == stay
    assert found.types == {"KNOWN": "Mill", "BACK": "Mill"}


def test_a_state_that_cannot_be_read_is_not_used_and_written_anew(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    written(kafka_broker, topic_prefix, [sample(number) for number in range(20)])
    with keeping(kafka_url):
        kept.wait()
    topic = f"{topic_prefix}ofa_assets_state"
    append(kafka_broker.bootstrap_servers, topic, ("unknown", b"x"), (b'["MILL","speed"]', b"not a value"))
    assert by_state(kafka_url).events["MILL", "speed"].value == 19
    assert "is not readable" in caplog.text
    with keeping(kafka_url):
        eventually(lambda: kept.markers() == {0: 20}, timeout=60)
    with kept._open() as (state, _):
        assert state.read(0) is not None


@pytest.mark.parametrize("marker", ["beyond the end", "of another record"])
def test_a_state_that_does_not_fit_the_log_is_not_used_and_written_anew(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, kept: Kept, marker: str
) -> None:
    written(kafka_broker, topic_prefix, [sample(number) for number in range(20)])
    with keeping(kafka_url):
        kept.wait()
    with kept._open() as (state, _):
        found = state.read(0)
        assert found is not None
    last = found.marker.last
    assert last is not None
    others = {"beyond the end": (1_000, (999, last[1])), "of another record": (20, (last[0], last[1] - 5_000))}
    other = Marker(log=found.marker.log, offset=others[marker][0], last=others[marker][1])
    topic, ghost = f"{topic_prefix}ofa_assets_state", b'{"offset":7,"time":0}\n' + encode_message(sample(1, "GHOST"))
    append(kafka_broker.bootstrap_servers, topic, (b'["GHOST","speed"]', ghost), (MARKER_KEY, other.encode()))
    assert set(by_state(kafka_url).events) == {("MILL", "speed")}
    with keeping(kafka_url):
        eventually(lambda: kept.present() == {Key("MILL", "speed")}, timeout=60)
        kept.wait()
    assert by_state(kafka_url).differences(by_whole_log(kafka_url)) == []


def test_a_state_file_that_is_far_behind_gives_way(
    kafka_broker: KafkaBroker,
    kafka_url: str,
    topic_prefix: str,
    kept: Kept,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"{kafka_url}&state={tmp_path / 'state.db'}"
    written(kafka_broker, topic_prefix, [sample(1, "OTHER"), sample(2)])
    by_state(url)
    written(kafka_broker, topic_prefix, [sample(number) for number in range(100)])
    with keeping(kafka_url):
        kept.wait()
    with patch.object(KeptState, "read", side_effect=AssertionError("the state file is not far behind")):
        by_state(url)
    written(kafka_broker, topic_prefix, [sample(number) for number in range(100, 150)])
    monkeypatch.setattr(kafka_engine, "_MANY_RECORDS", 10)
    with closing(KafkaEngine(url)) as engine:
        found = seen(engine)
        assert engine.query("SELECT VALUE FROM assets WHERE id = 'speed' ORDER BY asset_uuid") == [
            {"VALUE": "149"},
            {"VALUE": "1"},
        ]
    assert found == by_state(url) == by_whole_log(kafka_url)


@pytest.mark.thorough
def test_a_keeper_survives_an_outage_of_the_broker(own_kafka_broker: KafkaBroker, topic_prefix: str) -> None:
    url = f"kafka://{own_kafka_broker.bootstrap_servers}?prefix={topic_prefix}"
    create_topics({"bootstrap.servers": own_kafka_broker.bootstrap_servers}, TOPICS[:2], prefix=topic_prefix)
    kept = Kept(own_kafka_broker, topic_prefix)
    with keeping(url):
        written(own_kafka_broker, topic_prefix, [sample(number) for number in range(50)])
        kept.wait()
        own_kafka_broker.kill()
        own_kafka_broker.start()
        written(own_kafka_broker, topic_prefix, [sample(number) for number in range(50, 100)])
        kept.wait()
        assert by_state(url).differences(by_whole_log(url)) == []


@pytest.fixture
def keepers(kafka_url: str) -> Iterator[Callable[[], Any]]:
    """Start state keepers, each in a process of its own."""
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).parent / "workers" / "keeping.py"), kafka_url, "3"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "keeping\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()
