"""Live events from NATS on real servers: subscribers that come, go and are cut hear each event once and in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.engines.base import LogPosition, Servers
from openfactory.engines.kafka_engine.log_reader import Partition
from openfactory.engines.kafka_engine.partitioning import partition_of
from openfactory.engines.ksqldb.engine import KsqlDBEngine
from openfactory.events.event import AssetEvent, new_event
from openfactory.exceptions import EngineUnavailableError
from openfactory.testing import eventually
from servers import KafkaBroker, NatsServer, Toxiproxy

pytestmark = pytest.mark.timeout(90)


def event(value: object, asset_uuid: str) -> AssetEvent:
    return new_event(asset_uuid, "x", value, "Events", "Test")


@pytest.fixture(scope="module")
def factory(kafka_broker: KafkaBroker, nats_server: NatsServer) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url, partitions=3) as factory:
        yield factory


@pytest.fixture(scope="module")
def own_factory(kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    """A factory with the router and the forwarder of OpenFactory."""
    with (
        NatsServer() as server,
        KsqlDBFactory(kafka_broker.bootstrap_servers, server.url, partitions=3, ours=True) as factory,
    ):
        yield factory


@pytest.fixture
def opened() -> Iterator[Callable[[KsqlDBFactory], KsqlDBEngine]]:
    """Engines that are closed at the end."""
    engines: list[KsqlDBEngine] = []

    def open_one(factory: KsqlDBFactory) -> KsqlDBEngine:
        engines.append(KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers, factory.router.url)))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(factory: KsqlDBFactory, opened: Callable[[KsqlDBFactory], KsqlDBEngine]) -> KsqlDBEngine:
    return opened(factory)


def live(engine: KsqlDBEngine, asset_uuid: str) -> bool:
    assert engine._nats is not None
    asset = engine._nats._assets.get(asset_uuid)
    return asset is not None and asset.live


def of_partition(number: int, name: str) -> str:
    """An asset whose events stand in one of three partitions."""
    return next(uuid for uuid in (f"{name}-{count}" for count in range(100)) if partition_of(uuid, 3) == number)


def test_position_of_several_partitions_is_understood(engine: KsqlDBEngine) -> None:
    """A snapshot of all assets tells a place in each partition; the furthest is not that of every asset."""
    few, many = of_partition(0, "FEW"), of_partition(1, "MANY")
    for value in range(50):
        engine.publish(event(value, many))
    engine.publish(event(0, few))
    engine.flush()
    position = engine.snapshot().position
    assert isinstance(position, LogPosition)
    engine.publish(event(1, few))
    engine.flush()
    heard: list[object] = []
    engine.subscribe(few, lambda one: heard.append(one.value), None, position)
    eventually(lambda: live(engine, few))
    engine.publish(event(2, few))
    eventually(lambda: heard[-1:] == [2])
    assert heard == [1, 2]


def test_asset_that_is_left_and_heard_again_at_once_is_live_again(engine: KsqlDBEngine) -> None:
    """Several threads come and go; the last that comes must not be left without NATS."""
    for round_ in range(10):
        asset_uuid = f"COMES-{round_}"

        def come_and_go(asset_uuid: str = asset_uuid) -> None:
            for _ in range(20):
                engine.subscribe(asset_uuid, lambda _: None).close()

        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        heard: list[object] = []
        engine.subscribe(asset_uuid, lambda one: heard.append(one.value))  # noqa: B023
        for thread in threads:
            thread.join(20)
        eventually(lambda: live(engine, asset_uuid))  # noqa: B023
        engine.publish(event(round_, asset_uuid))
        eventually(lambda: heard == [round_])  # noqa: B023


@pytest.mark.parametrize("ours", [False, True], ids=["guessed", "places"])
def test_position_of_own_and_other_events_is_never_too_far(
    factory: KsqlDBFactory, own_factory: KsqlDBFactory, ours: bool, opened: Callable[[KsqlDBFactory], KsqlDBEngine]
) -> None:
    """Two processes write one asset at the same time, and read it meanwhile; who hears it hears the log."""
    where = own_factory if ours else factory
    one, other = opened(where), opened(where)
    heard: list[AssetEvent] = []
    one.subscribe("BOTH", heard.append)
    eventually(lambda: live(one, "BOTH"))
    ended = threading.Event()

    def write(engine: KsqlDBEngine, name: str) -> None:
        for value in range(300):
            engine.publish(event(f"{name}{value}", "BOTH"))
            if not value % 50:
                engine.flush()

    def read() -> None:
        while not ended.is_set():
            one.snapshot(["BOTH"])

    threads = [threading.Thread(target=write, args=(one, "a")), threading.Thread(target=write, args=(one, "b"))]
    threads += [threading.Thread(target=write, args=(other, "c")), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(heard) >= 900, 40)
    ended.set()
    for thread in threads:
        thread.join(20)
    log = one.history("BOTH", limit=2_000)
    assert [one.value for one in heard] == [one.value for one in log]
    too_far = [
        (said.value, said.position, true.position)
        for said, true in zip(heard, log, strict=True)
        if (said.position or 0) > (true.position or 0)
    ]
    assert not too_far
    if ours:
        assert [one.position for one in heard] == [one.position for one in log]


def test_log_that_breaks_off_in_a_repair_tells_nothing_twice(
    kafka_broker: KafkaBroker,
    nats_server: NatsServer,
    toxiproxy: Toxiproxy,
    opened: Callable[[KsqlDBFactory], KsqlDBEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was heard before the cut is read again, and the broker fails in the midst of it."""
    with (
        toxiproxy.proxy(nats_server.url.removeprefix("nats://")) as proxy,
        KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url) as factory,
    ):
        factory.router.nats_url = f"nats://{proxy.address}"
        engine = opened(factory)
        heard: list[object] = []
        for _ in range(20):
            engine.publish(event("other", "OTHER"))  # so that estimated places are behind the true ones
        engine.subscribe("MILL", lambda one: heard.append(one.value))
        eventually(lambda: live(engine, "MILL"), 20)
        other = opened(factory)
        for value in range(10):
            other.publish(event("other", "OTHER"))
            other.publish(event(value, "MILL"))
        eventually(lambda: len(heard) == 10)
        assert engine._nats is not None
        reader: Any = engine._nats._log.reader
        read, failures = reader.read, [5, 3, 8]

        def breaking(partition: Partition, start: int, end: int) -> Iterator[Any]:
            for number, message in enumerate(read(partition, start, end)):
                if failures and number == failures[0]:
                    failures.pop(0)
                    raise EngineUnavailableError("No broker answers: a fault on purpose. Try again.", address="here")
                yield message

        monkeypatch.setattr(reader, "read", breaking)
        proxy.cut()
        eventually(lambda: not live(engine, "MILL"))
        for value in range(10, 20):
            other.publish(event(value, "MILL"))
        other.flush()
        eventually(lambda: len(heard) >= 20, 20)
        proxy.restore()
        eventually(lambda: live(engine, "MILL"), 20)
        other.publish(event(20, "MILL"))
        eventually(lambda: heard[-1:] == [20])
        assert heard == list(range(21))
        assert not failures
