"""Factory: the assets of a factory as a whole, and one stream of the events of all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from logging import LogRecord
from pathlib import Path
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute, AssetEvent, Factory
from openfactory.assets.event_buffer import EventBuffer
from openfactory.engines import Engine
from openfactory.engines.registry import Client
from openfactory.events.event import new_event
from openfactory.exceptions import ConfigurationError, EngineClosedError, SubscriptionError
from openfactory.kafka import KSQLDBClient
from openfactory.utils import deregister_asset, register_asset

Open = Callable[..., Asset]
PATIENCE = 60.0


@pytest.fixture
def factory(url: str) -> Iterator[Factory]:
    with Factory(url) as factory:
        yield factory


def get(events: EventBuffer, count: int) -> list[AssetEvent]:
    read = [events.get(PATIENCE) for _ in range(count)]
    return [event for event in read if event is not None]


def values(events: list[AssetEvent]) -> list[tuple[str, str, Any]]:
    return [(event.asset_uuid, event.id, event.value) for event in events]


def register(url: str, **types: str) -> None:
    with KSQLDBClient(url) as client:
        for asset_uuid, asset_type in types.items():
            register_asset(asset_uuid, None, asset_type, client)


# Assets


def test_registered_assets_have_types(factory: Factory, url: str) -> None:
    assert factory.assets() == {}
    assert factory.types() == {}
    register(url, MILL="Device", HALL="OpenFactoryApp", CELL="Device")
    assert list(factory.assets().items()) == [("CELL", "Device"), ("HALL", "OpenFactoryApp"), ("MILL", "Device")]
    assert list(factory.types().items()) == [("Device", ["CELL", "MILL"]), ("OpenFactoryApp", ["HALL"])]
    with KSQLDBClient(url) as client:
        deregister_asset("MILL", client)
    assert factory.types() == {"Device": ["CELL"], "OpenFactoryApp": ["HALL"]}


def test_availability_is_by_asset(factory: Factory, open_asset: Open) -> None:
    open_asset("MILL").add_attribute(AssetAttribute("avail", "AVAILABLE", "Events", "Availability"))
    open_asset("CELL").add_attribute(AssetAttribute("avail", "UNAVAILABLE", "Events", "Availability"))
    open_asset("HALL").add_attribute(AssetAttribute("status", "idle", "Events", "Status"))
    assert factory.availability() == {"MILL": "AVAILABLE", "CELL": "UNAVAILABLE"}
    assert factory.availability(["MILL", "HALL"]) == {"MILL": "AVAILABLE"}


def test_the_last_events_are_those_of_each_attribute(factory: Factory, mill: Asset) -> None:
    mill.add_attribute(AssetAttribute(id="speed", value="7", type="Samples", tag="Speed"))
    mill["status"] = "busy"
    mill.flush()
    [(uuid, events)] = factory.last_events(["MILL"]).items()
    assert uuid == "MILL"
    assert [(event.id, event.value) for event in events if event.type != "OpenFactory"][-2:] == [
        ("speed", 7.0),
        ("status", "busy"),
    ]
    assert factory.last_events(["HALL"]) == {}
    assert factory.last_events()["MILL"] == events


def test_the_map_has_the_places(factory: Factory, url: str) -> None:
    with KSQLDBClient(url) as client:
        register_asset("MILL", {"levels": {"hall": "1"}, "uns_id": "plant/hall-1/mill"}, "Device", client)
    assert factory.uns_map() == {"MILL": "plant/hall-1/mill"}


def test_an_asset_of_it_reads_and_writes(factory: Factory, mill: Asset) -> None:
    with factory.asset("MILL") as asset:
        assert asset.status.value == "idle"
        asset.status = "busy"
        assert mill.wait_until("status", "busy", timeout=PATIENCE)


def test_the_history_has_events_with_floats(factory: Factory, mill: Asset) -> None:
    for n in range(5):
        mill.speed = n
    mill.status = "busy"
    mill.flush()
    assert values(factory.history("MILL", "speed", limit=2)) == [("MILL", "speed", 3.0), ("MILL", "speed", 4.0)]
    assert values(factory.history("MILL"))[-2:] == [("MILL", "speed", 4.0), ("MILL", "status", "busy")]
    [event] = factory.history("MILL", "status", since=mill.status.timestamp)[-1:]
    assert event.value == "busy"
    assert factory.history("none-such") == []


@pytest.mark.parametrize("given", ["url", "client", "environment"])
def test_a_url_a_client_or_the_environment_names_it(
    given: str, url: str, mill: Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSQLDB_URL", url if given == "environment" else "memory://another")
    clients: dict[str, str | Client | None] = {"url": url, "client": KSQLDBClient(url), "environment": None}
    with Factory(clients[given]) as factory:
        assert factory.url == url
        assert repr(factory) == f"Factory({url!r})"
        with factory.asset("MILL") as asset:
            assert asset.status.value == "idle"


def test_without_a_url_the_error_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="KSQLDB_URL"):
        Factory()


def test_a_closed_factory_answers_no_more(url: str) -> None:
    factory = Factory(url)
    events = factory.watch()
    factory.close()
    factory.close()
    assert events.ended
    assert events.get(PATIENCE) is None
    with pytest.raises(EngineClosedError):
        factory.assets()


# Events of all assets


def test_each_event_of_each_asset_arrives_in_order(factory: Factory, mill: Asset, open_asset: Open) -> None:
    with factory.watch() as events:
        robot = open_asset("ROBOT")
        robot.add_attribute(AssetAttribute("status", 0, "Events", "Status"))
        for n in range(1, 20):
            robot.status = n
            mill.speed = n
        mill.method("move", "HMI", {"x": 1})
        mill.status = "end"
        read: list[AssetEvent] = []
        while not any(event.value == "end" for event in read):
            read += get(events, 1)
        read += get(events, 40 - len(read))
    assert [event.value for event in read if event.asset_uuid == "ROBOT"] == list(range(20))
    assert [event.value for event in read if event.asset_uuid == "MILL"] == [*map(float, range(1, 20)), "end"]
    assert all(isinstance(event.value, float) for event in read if event.id == "speed")


def test_current_values_come_first(factory: Factory, mill: Asset, open_asset: Open) -> None:
    open_asset("ROBOT").add_attribute(AssetAttribute("status", "parked", "Events", "Status"))
    with factory.watch(current_values=True) as events:
        mill.status = "busy"
        read = values(get(events, 4))
    assert sorted(read[:3]) == [("MILL", "speed", 100.0), ("MILL", "status", "idle"), ("ROBOT", "status", "parked")]
    assert read[3] == ("MILL", "status", "busy")


def test_only_wanted_attributes_arrive(factory: Factory, mill: Asset) -> None:
    with factory.watch(attributes=["speed"], current_values=True) as events:
        mill.status = "busy"
        mill.speed = 200
        assert values(get(events, 2)) == [("MILL", "speed", 100.0), ("MILL", "speed", 200.0)]


def test_commands_arrive_if_wanted(factory: Factory, mill: Asset) -> None:
    with factory.watch(commands=True) as events:
        mill.method("move", "HMI", {"x": 1})
        mill.status = "busy"
        assert [event.id for event in get(events, 2)] == ["move_CMD", "status"]


def test_no_event_is_lost_doubled_or_moved_after_the_current_values(factory: Factory, open_asset: Open) -> None:
    writer, ended = open_asset(), threading.Event()
    writer.add_attribute(AssetAttribute("n", 0, "Events", "Test"))

    def write() -> None:
        n = 0
        while not ended.is_set():
            n += 1
            writer.n = n
            if n % 100 == 0:
                writer.flush()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(10):
            with factory.watch(current_values=True, max_queued=1_000_000) as events:
                read = [event.value for event in get(events, 50)]
            assert read == [read[0] + n for n in range(50)]
    finally:
        ended.set()
        thread.join()


def test_a_slow_reader_sees_the_newest(factory: Factory, mill: Asset, engine: Engine, logged: list[LogRecord]) -> None:
    with factory.watch(attributes=["status"], max_queued=5) as events, factory.watch(attributes=["settled"]) as settled:
        for n in range(12):
            mill.status = n
        mill.add_attribute(AssetAttribute("settled", True, "Events", "Test"))
        get(settled, 1)
        # The buffers receive an event one after the other: the second has the last one, so the first has all before it.
        assert [event.value for event in get(events, 5)] == [7, 8, 9, 10, 11]
        assert events.lost == 7
    [record] = [record for record in logged if "lags" in record.getMessage()]
    assert "A reader of all assets lags: 5 events wait" in record.getMessage()


def test_a_closed_buffer_receives_no_more(factory: Factory, mill: Asset) -> None:
    events, others = factory.watch(), factory.watch()
    mill.status = "first"
    get(others, 1)
    events.close()
    events.close()
    mill.status = "second"
    get(others, 1)
    assert values(get(events, 3)) == [("MILL", "status", "first")]
    assert events.ended


def test_a_string_of_attributes_is_refused(factory: Factory) -> None:
    with pytest.raises(SubscriptionError, match=r"Pass \['status'\]"):
        factory.watch(attributes="status")


def test_after_a_gap_the_missed_values_arrive_once(tmp_path: Path, eventually: Callable[..., None]) -> None:
    # The log keeps fewer events than are written while the delivery thread is held up.
    url = f"sqlite:///{tmp_path}/factory.db?keep_events=1000"
    held, release = threading.Event(), threading.Event()
    with Factory(url) as factory, factory.asset("MILL") as mill, factory.asset("ROBOT") as robot:
        robot.add_attribute(AssetAttribute("status", "parked", "Events", "Status"))
        mill.add_attribute(AssetAttribute("n", -1, "Events", "Test"))

        def hold(event: AssetEvent) -> None:
            if event.value == "hold":
                held.set()
                release.wait(PATIENCE)

        engine = factory._engine
        with factory.watch(current_values=True, max_queued=1_000_000) as events:
            engine.subscribe("HOLDER", hold)
            engine.publish(new_event("HOLDER", "hold", "hold", "Events", "Test")).wait()
            assert held.wait(PATIENCE)
            for n in range(8_000):
                engine.publish(new_event("MILL", "n", n, "Events", "Test"))
            engine.flush(PATIENCE)
            eventually(lambda: len(engine.history("MILL", "n", limit=8_000)) < 8_000)
            release.set()
            read: list[AssetEvent] = []
            while not any(event.value == 7_999 for event in read):
                read += get(events, 1)
            engine.publish(new_event("MILL", "n", "end", "Events", "Test"))
            read += get(events, 1)
            assert engine.health().counters["gaps"]
    numbers = [event.value for event in read if event.id == "n"]
    assert numbers[0] == -1
    assert numbers[-2:] == [7_999, "end"]
    assert len(set(numbers)) == len(numbers) < 8_000
    assert [event.value for event in read if event.asset_uuid == "ROBOT"] == ["parked"]


# Coroutines


def test_coroutines_of_any_loop_read_it(factory: Factory, mill: Asset) -> None:
    events = factory.watch(attributes=["status"])

    async def read(count: int) -> list[Any]:
        found: list[Any] = []
        async for event in events:
            found.append(event.value)
            if len(found) == count:
                break
        return found

    async def read_and_write() -> list[Any]:
        waiting = asyncio.create_task(read(2))
        await asyncio.sleep(0)
        mill.status = "first"
        mill.status = "second"
        return await asyncio.wait_for(waiting, PATIENCE)

    for _ in range(2):  # each time on a new loop
        assert asyncio.run(read_and_write()) == ["first", "second"]
    events.close()
    assert asyncio.run(read(1)) == []


def test_a_read_that_is_cancelled_loses_no_event(factory: Factory, mill: Asset) -> None:
    async def read() -> list[Any]:
        async with factory.watch(attributes=["status"]) as events:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(events), 0.01)
            mill.status = "busy"
            event = await asyncio.wait_for(anext(events), PATIENCE)
            assert not events._waiting_coroutines
            return [event.value]

    assert asyncio.run(read()) == ["busy"]


def test_a_coroutine_that_always_finds_events_lets_others_run(factory: Factory, mill: Asset) -> None:
    async def read() -> int:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with factory.watch() as events:
            for n in range(1_000):
                events.offer(new_event("MILL", "status", n, "Events", "Test"))
            other = asyncio.create_task(turn())
            for _ in range(1_000):
                await anext(events)
            other.cancel()
        return turns

    assert asyncio.run(read()) > 5


def test_the_end_wakes_threads_and_coroutines(factory: Factory) -> None:
    async def read() -> list[AssetEvent]:
        waiting = asyncio.create_task(anext_or_end(events))
        thread = asyncio.create_task(asyncio.to_thread(events.get, PATIENCE))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(events.close)
        return [event for event in (await waiting, await thread) if event is not None]

    async def anext_or_end(events: EventBuffer) -> AssetEvent | None:
        async for event in events:
            return event
        return None

    events = factory.watch()
    assert asyncio.run(asyncio.wait_for(read(), PATIENCE)) == []
