"""A process reads what it needs of the log, and knows all that it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.engines import Engine, open_engine
from openfactory.engines.base import Servers
from openfactory.engines.kafka_engine import interest, log_engine
from openfactory.engines.kafka_engine.log_reader import LogReader
from openfactory.engines.kafka_engine.partitioning import partition_of, usual_partitions_of
from openfactory.engines.kafka_engine.tables import FoldedTables
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.registration import Registration
from openfactory.testing import eventually
from servers import KafkaBroker
from test_foreign_partitioners import ForeignWriter
from workers.bare_log import append

pytestmark = pytest.mark.timeout(120)

PARTITIONS = 4


@pytest.fixture(scope="module")
def factory(kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, partitions=PARTITIONS) as factory:
        yield factory


@pytest.fixture
def url(kafka_broker: KafkaBroker) -> str:
    """A factory of its own on Kafka alone, with several partitions."""
    prefix = f"r{uuid4().hex[:8]}_"
    servers: dict[str, Any] = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(servers, TOPICS, prefix=prefix, partitions=PARTITIONS)
    return f"kafka://{kafka_broker.bootstrap_servers}?prefix={prefix}"


@contextmanager
def opened(url: str, servers: Servers = Servers()) -> Iterator[Engine]:  # noqa: B008 - immutable
    with open_engine(url, servers) as reference:
        yield reference.engine


@pytest.fixture
def others(kafka_broker: KafkaBroker, url: str) -> ForeignWriter:
    """Other programs of the factory, which do not read."""
    return ForeignWriter(_Place(kafka_broker.bootstrap_servers, url.partition("prefix=")[2]))  # type: ignore[arg-type]


class _Place:
    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.prefix = prefix


def write(others: ForeignWriter, asset_uuid: str, *values: int) -> None:
    """Write to the partition of an asset."""
    for value in values:
        others.write(asset_uuid, value, partition=partition_of(asset_uuid, PARTITIONS))


def read_by(engine: Engine) -> int:
    return engine.health().counters["records_read"]


def followed_by(engine: Engine) -> int:
    return engine.health().counters["partitions_followed"]


def values_of(engine: Engine, asset_uuid: str) -> list[object]:
    return [event.value for event in engine.snapshot([asset_uuid]).events.get(asset_uuid, [])]


def asset_in(partition: int, name: str, *, only: bool = False) -> str:
    """An asset of a partition, to which librdkafka writes too, or does not."""
    for number in range(1_000):
        usual = usual_partitions_of(uuid := f"{name}-{number}", PARTITIONS)
        if usual[0] == partition and (len(usual) == 1) == only:
            return uuid
    raise AssertionError("No name has this partition. Try more names.")


def test_a_process_that_only_writes_reads_nothing(url: str, others: ForeignWriter) -> None:
    write(others, "OTHER", *range(20))
    with opened(url) as engine:
        for value in range(20):
            engine.publish(new_event("MILL", "x", value, "Events", "Test"))
        engine.flush()
        write(others, "OTHER", *range(20))
        time.sleep(0.5)
        assert read_by(engine) == followed_by(engine) == 0


@pytest.mark.parametrize("kind", ["kafka", "ksqldb"])
def test_a_process_that_watches_one_asset_follows_its_partition_and_skips_others(
    factory: KsqlDBFactory, kind: str
) -> None:
    writer = ForeignWriter(factory)
    mill = asset_in(1, f"MILL-{kind}", only=True)
    neighbours = [asset_in(partition, f"NEXT-{kind}", only=True) for partition in range(PARTITIONS)]
    place = f"kafka://{factory.bootstrap_servers}?prefix={factory.prefix}" if kind == "kafka" else factory.url
    heard: list[AssetEvent] = []
    with opened(place, Servers(factory.bootstrap_servers)) as engine:
        engine.subscribe(mill, heard.append)
        eventually(lambda: followed_by(engine) == 1)
        before = engine.health().counters
        for value in range(10):
            for uuid in neighbours:
                write(writer, uuid, value)
        write(writer, mill, 5)
        eventually(lambda: [event.value for event in heard] == [5])
        after = engine.health().counters
        assert after["records_read"] - before["records_read"] == 11
        assert after["records_skipped"] - before["records_skipped"] == 10
        assert followed_by(engine) == 1


def test_a_start_reads_nothing_and_an_asset_is_known_as_soon_as_it_is_asked_for(
    url: str, others: ForeignWriter
) -> None:
    mill, saw = asset_in(0, "MILL"), asset_in(0, "SAW")
    write(others, mill, 1, 2)
    write(others, saw, 3)
    with opened(url) as engine:
        assert read_by(engine) == 0
        assert values_of(engine, mill) == [2]
        write(others, mill, 4)
        write(others, saw, 5)
        assert values_of(engine, mill) == [4]
        assert values_of(engine, saw) == [5]
        assert engine.types([mill]) == {}


def test_who_asks_about_all_is_told_all_then_and_later(url: str, others: ForeignWriter) -> None:
    assets = [asset_in(partition, "ANY") for partition in range(PARTITIONS)]
    with opened(url) as writer, opened(url.replace("127.0.0.1", "localhost")) as engine:
        for uuid in assets:
            write(others, uuid, 1)
        writer.register(Registration("PUMP", "Device", uns_id="acme/pump", uns_levels={}))
        writer.flush()
        assert values_of(engine, assets[1]) == [1]
        assert engine.uns_map() == {"PUMP": "acme/pump"}
        assert engine.snapshot().events.keys() == {*assets, "PUMP"}
        for uuid in assets:
            write(others, uuid, 2)
        rows = engine.query("SELECT asset_uuid, value FROM assets WHERE id = 'x'")
        assert {row["ASSET_UUID"]: row["VALUE"] for row in rows} == dict.fromkeys(assets, "2")
        assert engine.types() == {"PUMP": "Device"}
        assert followed_by(engine) == PARTITIONS * 2  # of the events and of the places


def test_what_nothing_needs_any_more_is_let_go_and_known_again_when_it_is_asked_for(
    url: str, others: ForeignWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interest, "_KEPT_SECONDS", 1)
    monkeypatch.setattr(log_engine, "_LET_GO_SECONDS", 0.1)
    mill, saw = asset_in(0, "MILL", only=True), asset_in(1, "SAW", only=True)
    write(others, mill, 1)
    write(others, saw, 1)
    heard: list[object] = []
    with opened(url) as engine:
        engine._let_go_at = 0  # type: ignore[attr-defined]
        engine.subscribe(mill, lambda event: heard.append(event.value))
        assert engine.snapshot().events.keys() == {mill, saw}
        eventually(lambda: followed_by(engine) == 1 + PARTITIONS, 30)  # its partition, and those of the few places
        write(others, mill, 2)
        write(others, saw, 2)
        eventually(lambda: heard == [2])
        rows = engine.query("SELECT asset_uuid, value FROM assets ORDER BY asset_uuid")
        assert [(row["ASSET_UUID"], float(row["VALUE"])) for row in rows] == [(mill, 2), (saw, 2)]
        eventually(lambda: followed_by(engine) == 1 + PARTITIONS, 30)
        assert values_of(engine, saw) == [2]
        write(others, mill, 3)
        eventually(lambda: heard == [2, 3])


def test_an_answer_from_the_tables_lacks_nothing_while_another_asset_is_let_go(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {"MILL": "Device", "SAW": "Device"}
    with opened(url) as reference:
        engine: Any = reference
        for uuid in types:
            engine.register(Registration(uuid, "Device"))
        engine.flush()
        assert engine.types(["MILL", "SAW"]) == types
        pairs = FoldedTables.pairs

        def pairs_later(self: FoldedTables, *arguments: Any) -> dict[str, str]:
            engine._interest._asked["MILL"] = engine._let_go_at = 0
            engine._let_go()
            return pairs(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(FoldedTables, "pairs", pairs_later)
            assert engine.types(["SAW"]) == {"SAW": "Device"}
        assert engine._interest.assets.keys() == {"SAW"}
        assert engine._tables.pairs("assets_type", "type") == {"SAW": "Device"}
        assert engine.types() == types


def test_reading_the_past_of_an_asset_delays_no_other_and_loses_nothing(
    url: str, others: ForeignWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill, saw = asset_in(0, "MILL"), asset_in(0, "SAW")
    write(others, saw, 1, 2)
    begun, released = threading.Event(), threading.Event()
    read = LogReader.read

    def slow(self: LogReader, partition: Any, start: int, end: int, keys: Any = None) -> Iterator[Any]:
        if keys == {saw.encode()}:
            begun.set()
            assert released.wait(60)
        return read(self, partition, start, end, keys)

    monkeypatch.setattr(LogReader, "read", slow)
    heard: dict[str, list[object]] = {mill: [], saw: []}

    def hear(event: AssetEvent) -> None:
        heard[event.asset_uuid].append(event.value)

    with opened(url) as engine:
        engine.subscribe(mill, hear)

        def watch() -> None:
            engine.subscribe(saw, hear, None, engine.snapshot([saw]).position)

        watching = threading.Thread(target=watch)
        watching.start()
        assert begun.wait(60)
        write(others, saw, 3)
        write(others, mill, 4)
        write(others, saw, 5)
        eventually(lambda: heard[mill] == [4])
        assert heard[saw] == []
        released.set()
        watching.join(60)
        assert values_of(engine, saw) == [5]
        write(others, saw, 6)
        eventually(lambda: heard[saw][-1:] == [6])
        assert heard[saw] in ([6], [3, 5, 6])  # after the snapshot that was read meanwhile


@pytest.mark.parametrize(
    ("kind", "with_places"), [("kafka", False), ("kafka", True), ("ksqldb", False)], ids=["kafka", "places", "ksqldb"]
)
def test_the_first_event_in_an_unexpected_partition_is_heard_and_the_partition_followed(
    factory: KsqlDBFactory, kind: str, with_places: bool
) -> None:
    writer = ForeignWriter(factory)
    mill = asset_in(2, f"FIRST-{kind}-{with_places}")
    place = f"kafka://{factory.bootstrap_servers}?prefix={factory.prefix}" if kind == "kafka" else factory.url
    heard: list[object] = []
    with opened(place, Servers(factory.bootstrap_servers)) as engine:
        engine.subscribe(mill, lambda event: heard.append(event.value))
        write(writer, mill, 1)
        eventually(lambda: heard == [1])
        if with_places:
            engine.uns_map()  # has the partitions of the places followed whole
        followed = 1 + PARTITIONS * with_places
        eventually(lambda: followed_by(engine) == followed)
        writer.write(mill, 2)  # as librdkafka chooses
        if kind == "kafka":
            assert values_of(engine, mill) == [2]  # at once
        eventually(lambda: heard == [1, 2])
        eventually(lambda: followed_by(engine) == followed + 1)
        writer.write(mill, 3)
        eventually(lambda: heard == [1, 2, 3])


@pytest.mark.parametrize("aside", [False, True], ids=["followed", "aside"])
def test_a_callback_that_asks_for_another_asset_misses_none_of_its_records_around(
    url: str, others: ForeignWriter, aside: bool
) -> None:
    mill, *saws = assets_in_unexpected(1, 6)
    heard: list[tuple[str, object]] = []

    def hear(event: AssetEvent) -> None:
        heard.append((event.asset_uuid, event.value))

    def watch_saws(event: AssetEvent) -> None:
        hear(event)
        if event.value == 1:
            for saw in saws:
                engine.subscribe(saw, hear, None, engine.snapshot([saw]).position)

    with opened(url) as engine:
        engine.subscribe(mill, watch_saws)
        write(others, mill, 0)
        eventually(lambda: heard == [(mill, 0)] and followed_by(engine) == 1)
        with engine._dispatcher.lock:  # type: ignore[attr-defined] # all records are read at once afterwards
            if not aside:
                write(others, mill, 0)
                time.sleep(0.5)  # the feed has this one, and waits for the lock
            for value, uuids in enumerate((saws, [mill], saws)):
                for uuid in uuids:
                    others.write(uuid, value, partition=-1 if aside else partition_of(mill, PARTITIONS))
            time.sleep(0.5)  # the feed has them
        eventually(lambda: (mill, 1) in heard)
        eventually(lambda: all((saw, 2) in heard for saw in saws))
        assert [one for one in heard if one[0] != mill] == [(saw, 2) for saw in saws]
        assert all(values_of(engine, saw) == [2] for saw in saws)


def assets_in_unexpected(partition: int, count: int) -> list[str]:
    """Assets of one partition, for which librdkafka chooses another one."""
    places: dict[tuple[int, ...], list[str]] = {}
    for number in range(1_000):
        usual = tuple(usual_partitions_of(uuid := f"BATCH-{number}", PARTITIONS))
        if usual[0] == partition and len(usual) == 2:
            places.setdefault(usual, []).append(uuid)
    return next(uuids[:count] for uuids in places.values() if len(uuids) >= count)


def test_an_asset_that_is_only_in_a_partition_of_its_own_choice_is_found(url: str, others: ForeignWriter) -> None:
    device = asset_in(0, "DEVICE")
    choice = next(number for number in range(PARTITIONS) if number not in usual_partitions_of(device, PARTITIONS))
    others.write(device, 1, partition=choice)
    heard: list[object] = []
    with opened(url) as engine:
        snapshot = engine.snapshot([device])
        assert [event.value for event in snapshot.events[device]] == [1]
        engine.subscribe(device, lambda event: heard.append(event.value), None, snapshot.position)
        others.write(device, 2, partition=choice)
        eventually(lambda: heard == [2])


def test_many_assets_are_read_together(url: str, kafka_broker: KafkaBroker, others: ForeignWriter) -> None:
    topic, message = others.topic, b'{"ID": "x", "VALUE": 1, "TAG": "T", "TYPE": "Events", "attributes": {}}'
    assets = [f"MANY-{number}" for number in range(200)]
    append(kafka_broker.bootstrap_servers, topic, *((uuid, message) for uuid in assets))
    with opened(url) as engine:
        assert all(values_of(engine, uuid) == [1] for uuid in assets)
        assert read_by(engine) < 20 * len(assets)


@pytest.mark.parametrize("about_all", [False, True])
def test_assets_that_are_asked_for_while_they_are_written_are_heard_whole(url: str, about_all: bool) -> None:
    assets = [f"BUSY-{number}" for number in range(6)]
    ended = threading.Event()
    heard: dict[str, list[object]] = {}
    first: dict[str, object] = {}

    def hear(event: AssetEvent) -> None:
        heard[event.asset_uuid].append(event.value)

    with opened(url) as engine, opened(url.replace("127.0.0.1", "localhost")) as writer:

        def write_all(value: int) -> None:
            for uuid in assets:
                writer.publish(new_event(uuid, "x", value, "Events", "Test"))

        def run() -> None:
            value = 0
            while not ended.wait(0.002):
                write_all(value := value + 1)
            writer.flush(30)

        write_all(0)
        writer.flush(60)
        writing = threading.Thread(target=run)
        writing.start()
        try:
            for uuid in assets:
                time.sleep(0.1)
                snapshot = engine.snapshot(None if about_all and uuid == assets[3] else [uuid])
                first[uuid] = snapshot.events[uuid][0].value
                heard[uuid] = []
                engine.subscribe(uuid, hear, None, snapshot.position)
        finally:
            ended.set()
            writing.join(60)
        last = writer.snapshot(assets).events
        eventually(lambda: all([first[uuid], *heard[uuid]][-1] == last[uuid][0].value for uuid in assets), 60)
        for uuid in assets:
            begin, end = first[uuid], last[uuid][0].value
            assert isinstance(begin, int)
            assert isinstance(end, int)
            assert heard[uuid] == list(range(begin + 1, end + 1))
            assert values_of(engine, uuid) == [end]
