"""A broker that is killed, away, silent or wrong: nothing is lost, nobody waits for ever, and it is said once."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from ksqldb_stand_in import KsqlDBStandIn
from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.assets.asset_class import Asset
from openfactory.engines.base import Engine, Servers
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.log_clock import LogClock
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.engines.ksqldb.engine import KsqlDBEngine
from openfactory.events.event import AssetEvent, new_event
from openfactory.exceptions import (
    CommandTimeout,
    DeliveryError,
    DeliveryTimeout,
    EngineUnavailableError,
    OpenFactoryError,
)
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker, Toxiproxy
from servers.ports import HOST, free_port
from workers.bare_log import read_topic
from workers.started import Worker, started

WRITERS = ("W-0", "W-1", "W-2")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    with started(tmp_path) as start:
        yield start


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What was said at a level."""
    caplog.set_level(logging.INFO, "openfactory")

    def said(level: int) -> list[str]:
        ours = (record for record in caplog.records if not record.name.endswith(".librdkafka"))  # which nobody hears
        lines = (record.getMessage() for record in ours if record.levelno == level)
        return [line for line in lines if not line.startswith("Opening ")]  # which depends on how busy the machine is

    return said


def number(uuid: str, value: Any) -> AssetEvent:
    return new_event(uuid, "number", value, "Events", "Number")


def in_log(broker: str, topic: str = "ofa_assets", attribute_id: str = "number") -> dict[str, list[Any]]:
    """What a program that knows nothing of ours reads, by asset."""
    said: dict[str, list[Any]] = {}
    for record in read_topic(broker, topic):
        assert record.key is not None
        if record.said["ID"] == attribute_id:
            said.setdefault(record.key.decode(), []).append(record.said["VALUE"])
    return said


# Killed under load


class Calls:
    """Commands without a pause, on a thread, each with an outcome and the time it took."""

    def __init__(self, saw: Asset) -> None:
        self.saw = saw
        self.outcomes: list[tuple[str, str, float]] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def count(self, outcome: str) -> int:
        return sum(one[1] == outcome for one in self.outcomes)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            token = f"piece-{len(self.outcomes)}"
            begin = time.monotonic()
            try:
                result = self.saw.call("cut", length=1, name=token, sender_uuid="HMI", timeout=2)
                outcome = "answered" if result == f"{token} of 1" else f"wrong: {result}"
            except CommandTimeout:
                outcome = "timed out"
            except Exception as error:  # noqa: BLE001 - the test looks at it
                outcome = repr(error)
            self.outcomes.append((token, outcome, time.monotonic() - begin))


def acknowledged(worker: Worker) -> list[int]:
    return [int(line.split()[1]) for line in worker.lines() if line.startswith("acknowledged ")]


@pytest.mark.thorough  # the broker is killed once in each run (away for ten seconds); random faults kill it under load
def test_kills_under_load_lose_nothing_and_double_nothing(
    own_kafka_broker: KafkaBroker, start: Callable[..., Worker], tmp_path: Path, rounds: Callable[[int, int], int]
) -> None:
    broker = own_kafka_broker
    create_topics({"bootstrap.servers": broker.bootstrap_servers}, TOPICS, partitions=3)
    url = f"kafka://{broker.bootstrap_servers}"
    stop_file = tmp_path / "stop"
    watcher = start("hearing.py", *WRITERS, KSQLDB_URL=url)
    app = start("saw.py", 0.01, KSQLDB_URL=url, APP_UUID="SAW")
    watcher.until("watching")
    app.until("running")
    with KSQLDBClient(url) as client, Asset("SAW", client) as saw:
        writers = [start("counting.py", uuid, seed, stop_file, KSQLDB_URL=url) for seed, uuid in enumerate(WRITERS)]
        calls = Calls(saw)
        try:
            for _ in range(rounds(1, 3)):
                until_all_are_further([*writers, app], calls)
                broker.kill()
                broker.start()
            until_all_are_further([*writers, app], calls)
        finally:
            calls.stop()
        stop_file.touch()
        assert [writer.ended(60) for writer in writers] == [0, 0, 0], writers[0].err
        app.process.terminate()
        assert app.ended() == 0, app.err
        client.engine.publish(number("END", 1))
        client.engine.flush()
    assert watcher.ended() == 0, watcher.err
    heard = json.loads(watcher.lines()[-1])
    log = in_log(broker.bootstrap_servers)
    for uuid, writer in zip(WRITERS, writers, strict=True):
        promised = acknowledged(writer)[-1]
        assert log[uuid] == list(range(len(log[uuid])))  # nothing is missing, doubled or out of order
        assert len(log[uuid]) > promised
        assert heard[uuid] == log[uuid]
        assert not [line for line in writer.lines() if not line.startswith("acknowledged")]
    counted = Counter(in_log(broker.bootstrap_servers, attribute_id="counted")["SAW"])
    assert not [one for one in acknowledged(app) if counted[one] != 1]
    check_commands(calls, app)


def until_all_are_further(workers: list[Worker], calls: Calls) -> None:
    def counts() -> list[int]:
        return [*(len(acknowledged(one)) for one in workers), calls.count("answered")]

    before = counts()
    eventually(lambda: all(now >= then + 5 for now, then in zip(counts(), before, strict=True)))


def check_commands(calls: Calls, app: Worker) -> None:
    """Each is answered or timed out, within its time, and ran once at most."""
    ran = Counter(line.split()[1] for line in app.lines() if line.startswith("ran "))
    assert max(ran.values()) == 1
    assert {outcome for _, outcome, _ in calls.outcomes} <= {"answered", "timed out"}
    assert all(ran[token] == 1 for token, outcome, _ in calls.outcomes if outcome == "answered")
    assert max(took for _, _, took in calls.outcomes) < 2 + 10
    assert not [line for line in app.lines() if line.startswith("slow")]


# Away at the start


@contextmanager
def nobody() -> Iterator[str]:
    yield f"{HOST}:{free_port()}"


@contextmanager
def wrong_host() -> Iterator[str]:
    yield "broker.invalid:9092"


@contextmanager
def silent_port() -> Iterator[str]:
    """It takes connections and says nothing."""
    with closing(socket.create_server((HOST, 0))) as listening:
        yield f"{HOST}:{listening.getsockname()[1]}"


@contextmanager
def another_server() -> Iterator[str]:
    """It answers, and not as a Kafka."""
    with KsqlDBStandIn(lambda sql, *parameters: []) as stand_in:
        yield stand_in.url.removeprefix("http://")


STARTS = [nobody, wrong_host, silent_port, another_server]


@pytest.mark.parametrize(
    ("kind", "addressed"),
    [
        *(("kafka", one) for one in STARTS),
        pytest.param("ksqldb", nobody, marks=pytest.mark.thorough),  # 10 s, by the same code as with a silent port
        ("ksqldb", silent_port),
    ],
)
def test_without_a_broker_the_start_ends_soon_with_one_sentence(
    addressed: Callable[[], Any], kind: str, logged: Callable[[int], list[str]]
) -> None:
    threads = set(threading.enumerate())  # those of tests before this one
    with addressed() as address, KsqlDBStandIn(lambda sql, *parameters: []) as ksqldb:
        begin = time.monotonic()
        with pytest.raises(EngineUnavailableError) as caught:
            KafkaEngine(f"kafka://{address}") if kind == "kafka" else KsqlDBEngine(ksqldb.url, Servers(address))
        assert time.monotonic() - begin < 45
    assert caught.value.address == address
    said = str(caught.value)
    assert address in said
    assert "sqlite:///" in said
    assert len(said) < 400
    assert "KafkaError{" not in said
    assert len(logged(logging.WARNING)) <= 1

    def left() -> list[threading.Thread]:
        new = set(threading.enumerate()) - threads
        return [thread for thread in new if thread.name.startswith("openfactory-")]

    eventually(lambda: not left())


def test_an_app_without_a_broker_ends_with_the_sentence(start: Callable[..., Worker]) -> None:
    app = start("saw.py", 1, KSQLDB_URL=f"kafka://{HOST}:{free_port()}")
    assert app.ended(60) != 0
    assert "sqlite:///" in app.err


# Away for a while


@contextmanager
def hearing(engine: Engine) -> Iterator[list[AssetEvent]]:
    """What it hears; a test that has failed is not held up by what it could not deliver."""
    heard: list[AssetEvent] = []
    engine.subscribe(None, heard.append)
    try:
        yield heard
    except BaseException:
        with suppress(DeliveryError, DeliveryTimeout):
            engine.close(timeout=1)
        raise
    engine.close(timeout=30)


def timed(call: Callable[[], Any]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def test_a_broker_that_is_away_for_ten_seconds(
    own_kafka_broker: KafkaBroker, logged: Callable[[int], list[str]]
) -> None:
    broker = own_kafka_broker
    address = broker.bootstrap_servers
    engine = KafkaEngine(f"kafka://{address}")
    with hearing(engine) as heard:
        engine.publish(number("A", -1))
        engine.flush()
        engine.snapshot()
        broker.kill()
        away = time.monotonic()
        assert timed(lambda: [engine.publish(number("A", value)) for value in range(5_000)]) < 30
        eventually(lambda: not engine.health().connected)
        assert address in engine.health().reason
        assert engine.health().queued == 5_000
        for read in (engine.snapshot, engine.types, engine.uns_map, lambda: engine.query("SELECT * FROM assets")):
            assert timed(read) < 20
        with pytest.raises(EngineUnavailableError, match=address):
            engine.history("A")
        assert [event.value for event in engine.snapshot(["A"]).events["A"]] == [-1]  # what is acknowledged
        begin = time.monotonic()
        with pytest.raises(DeliveryTimeout, match=address) as caught:
            engine.flush(timeout=1)
        assert time.monotonic() - begin < 30
        assert caught.value.pending == 5_000
        while time.monotonic() - away < 10:
            assert not engine.health().connected
            time.sleep(0.1)
        with pytest.raises(DeliveryTimeout):
            engine.flush(timeout=0)
        assert len(logged(logging.WARNING)) == 1, logged(logging.WARNING)
        assert address in logged(logging.WARNING)[0]
        broker.start()
        engine.flush(timeout=30)
        eventually(lambda: len(heard) == 5_001)
        assert [event.value for event in heard] == list(range(-1, 5_000))
        assert engine.health().connected
        assert engine.health().queued == 0
        each_outage_is_said_once(logged)
    assert in_log(address)["A"] == list(range(-1, 5_000))


def test_a_broker_that_closes_idle_connections_is_well_until_it_is_killed(
    logged: Callable[[int], list[str]],
) -> None:
    with KafkaBroker(properties={"connections.max.idle.ms": "2000"}) as broker:
        engine = KafkaEngine(f"kafka://{broker.bootstrap_servers}")
        with hearing(engine) as heard:
            engine.publish(number("A", 0)).wait()
            well_until = time.monotonic() + 5  # the broker closes each connection once or twice
            while time.monotonic() < well_until:
                assert engine.health().connected
                time.sleep(0.05)
            engine.publish(number("A", 1)).wait()
            eventually(lambda: [event.value for event in heard] == [0, 1])
            assert not logged(logging.WARNING)
            broker.kill()
            eventually(lambda: not engine.health().connected)
            assert broker.bootstrap_servers in engine.health().reason
            eventually(lambda: len(logged(logging.WARNING)) == 1)


def test_a_broker_that_is_silent_for_ten_seconds(
    own_kafka_broker: KafkaBroker, logged: Callable[[int], list[str]]
) -> None:
    broker = own_kafka_broker
    engine = KafkaEngine(f"kafka://{broker.bootstrap_servers}")
    with hearing(engine) as heard:
        engine.publish(number("A", 0))
        engine.flush()
        engine.snapshot()
        broker.suspend()
        try:
            silent = time.monotonic()
            assert timed(lambda: [engine.publish(number("A", value)) for value in range(1, 1_000)]) < 30
            assert timed(engine.snapshot) < 30
            assert [event.value for event in engine.snapshot(["A"]).events["A"]] == [0]
            assert not engine.health().connected
            with pytest.raises(EngineUnavailableError, match=broker.bootstrap_servers):
                engine.history("A")
            assert broker.bootstrap_servers in engine.health().reason
            with pytest.raises(DeliveryTimeout):
                engine.flush(timeout=0.5)
            while time.monotonic() - silent < 10:
                assert not engine.health().connected
                time.sleep(0.1)
        finally:
            broker.resume()
        engine.flush(timeout=30)
        eventually(lambda: len(heard) == 1_000)
        eventually(lambda: engine.health().connected)
        each_outage_is_said_once(logged)
    assert in_log(broker.bootstrap_servers)["A"] == list(range(1_000))


def each_outage_is_said_once(logged: Callable[[int], list[str]]) -> None:
    """A client may be answered while another one still waits: then there were two outages, each with its end."""
    ends = [line for line in logged(logging.INFO) if "can be reached again" in line]
    assert 1 <= len(logged(logging.WARNING)) == len(ends) <= 2, logged(logging.WARNING)


def test_a_cut_between_us_and_the_broker(
    toxiproxy: Toxiproxy, start: Callable[..., Worker], logged: Callable[[int], list[str]]
) -> None:
    port = free_port()
    with toxiproxy.proxy(f"{HOST}:{port}") as proxy, KafkaBroker(port=port, advertised=proxy.address) as broker:
        engine = KafkaEngine(f"kafka://{broker.bootstrap_servers}")
        with hearing(engine) as heard:
            for round in range(3):
                engine.publish(number("A", 2 * round))
                engine.flush()
                proxy.cut()
                engine.publish(number("A", 2 * round + 1))
                eventually(lambda: not engine.health().connected)
                proxy.restore()
                engine.flush(timeout=60)
            eventually(lambda: len(heard) == 6)
        assert in_log(broker.bootstrap_servers)["A"] == list(range(6)) == [event.value for event in heard]


# What cannot be delivered


class Told:
    """What the hook for failed deliveries was told."""

    def __init__(self, engine: Engine) -> None:
        self.events: list[AssetEvent] = []
        self.errors: list[OpenFactoryError] = []
        engine.on_delivery_error(self.note)

    def note(self, event: AssetEvent, error: OpenFactoryError) -> None:
        self.events.append(event)
        self.errors.append(error)


def test_a_full_queue_ends_in_an_error_and_every_event_is_accounted_for(own_kafka_broker: KafkaBroker) -> None:
    engine = KafkaEngine(f"kafka://{own_kafka_broker.bootstrap_servers}")
    told = Told(engine)
    own_kafka_broker.kill()
    published = 0

    def fill() -> None:
        nonlocal published
        for value in range(1_000):
            begin.append(time.monotonic())
            engine.publish(number("A", f"{value}-" + "x" * 200_000))
            published += 1

    begin: list[float] = []
    with pytest.raises(DeliveryTimeout, match="queue is full"):
        fill()
    assert time.monotonic() - begin[-1] < 20
    assert 100 < published < 999
    with pytest.raises((DeliveryError, DeliveryTimeout)):
        engine.close(timeout=1)
    assert [str(event.value).split("-")[0] for event in told.events] == [str(one) for one in range(published)]


def test_what_the_broker_refuses_is_told_and_the_rest_is_written(
    kafka_broker: KafkaBroker, topic_prefix: str, logged: Callable[[int], list[str]]
) -> None:
    broker = kafka_broker.bootstrap_servers
    topic = NewTopic(f"{topic_prefix}ofa_assets", 1, 1, config={"max.message.bytes": "20000"})
    admin = AdminClient({"bootstrap.servers": broker})
    [made] = admin.create_topics([topic]).values()
    made.result(60)
    engine = KafkaEngine(f"kafka://{broker}?prefix={topic_prefix}")
    with hearing(engine):
        told = Told(engine)
        receipts = {}
        for value in range(60):
            receipts[value] = engine.publish(number("A", f"{value}-" + "x" * (50_000 if value % 20 == 10 else 10)))
        with pytest.raises(DeliveryError) as caught:
            engine.flush(timeout=60)
        failed = {int(event.value.split("-")[0]) for event in caught.value.events}
        assert failed >= {10, 30, 50}
        assert {int(event.value.split("-")[0]) for event in told.events} == failed
        assert {value for value, receipt in receipts.items() if receipt.error is not None} == failed
        for value in failed:
            with pytest.raises(DeliveryError):
                receipts[value].wait(0)
        written = [int(value.split("-")[0]) for value in in_log(broker, f"{topic_prefix}ofa_assets").get("A", [])]
        assert sorted(written) == sorted(set(range(60)) - failed)
        assert logged(logging.ERROR)
        engine.flush()  # it was told
        engine.publish(number("A", "after"))
        engine.flush()
        assert engine.snapshot(["A"]).events["A"][0].value == "after"


def is_written(engine: Engine, event: AssetEvent) -> bool:
    engine.publish(event)
    try:
        engine.flush(timeout=30)
    except DeliveryError:
        return False
    return True


@pytest.mark.thorough  # librdkafka waits 30 s for a topic that is gone; test_broker_errors.py has the sentence
def test_a_topic_that_is_gone_is_told(own_kafka_broker: KafkaBroker) -> None:
    broker = own_kafka_broker.bootstrap_servers
    engine = KafkaEngine(f"kafka://{broker}")
    admin = AdminClient({"bootstrap.servers": broker})
    with hearing(engine):
        told = Told(engine)
        for value in range(50):
            engine.publish(number("A", value))
        engine.flush()
        [deleted] = admin.delete_topics(["ofa_assets"]).values()
        deleted.result(60)
        eventually(lambda: "ofa_assets" not in admin.list_topics(timeout=5).topics)
        engine.publish(number("A", "lost"))
        with pytest.raises(DeliveryError, match="setup-kafka") as caught:
            engine.flush(timeout=60)
        assert [event.value for event in caught.value.events] == ["lost"] == [event.value for event in told.events]
        create_topics({"bootstrap.servers": broker}, TOPICS[:1])
        eventually(lambda: is_written(engine, number("A", "found")))
        assert in_log(broker)["A"] == ["found"]


class Mill(OpenFactoryApp):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ran: list[int] = []

    @ofa_method()
    def start(self, n: int) -> None:
        self.ran.append(n)


@pytest.mark.parametrize("knows_time", [True, False])
def test_a_command_that_waits_for_the_broker_until_its_caller_gives_up_does_not_run(
    own_kafka_broker: KafkaBroker, knows_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        KSQLDBClient(f"kafka://{own_kafka_broker.bootstrap_servers}") as client,
        Mill(client, app_uuid="MILL") as mill,
        Asset("MILL", client) as hmi,
    ):
        if knows_time:
            while not client.engine.stamp("MILL"):  # a process that writes learns the time of the log
                hmi.call("start", sender_uuid="HMI", n=0, timeout=60)
        else:
            monkeypatch.setattr(LogClock, "latest", lambda self, now: None)
        own_kafka_broker.suspend()
        try:
            hmi.method("start", "HMI", {"n": 1}, timeout=0.5)
            with pytest.raises(CommandTimeout, match="has not been written yet"):
                hmi.call("start", sender_uuid="HMI", n=2, timeout=1)
            hmi.method("start", "HMI", {"n": 3}, timeout=60)
        finally:
            own_kafka_broker.resume()
        eventually(lambda: 3 in mill.ran)
        assert [n for n in mill.ran if n] == [3]
        counters = mill._commands.counters
        eventually(lambda: counters["expired"] + counters["cancelled"] == 2)
        assert counters["expired"] or not knows_time  # the other one too, unless its cancel is first
