"""Objects that are not closed receive events as long as the program uses them, and no longer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from openfactory.assets import Asset, AssetAttribute, Factory
from openfactory.assets.asset_uns_class import AssetUNS
from openfactory.assets.event_buffer import EventBuffer
from openfactory.engines import Engine
from openfactory.events.registration import Registration
from openfactory.kafka import KSQLDBClient

Eventually = Callable[..., None]


@pytest.fixture
def client(url: str) -> KSQLDBClient:
    return KSQLDBClient(url)


@pytest.fixture
def mill(client: KSQLDBClient) -> Asset:
    mill = Asset("MILL", client)
    mill.add_attribute(AssetAttribute(id="n", value=0, type="Samples", tag="Number"))
    return mill


def subscribed(engine: Engine) -> int:
    """The number of subscriptions, once another asset has been opened."""
    gc.collect()
    Asset("ANOTHER", KSQLDBClient(engine.url)).close()
    return len(list(engine._tail._dispatcher.subscriptions()))  # type: ignore[attr-defined]


def test_assets_that_are_used_once_end(mill: Asset, client: KSQLDBClient) -> None:
    before = subscribed(mill._engine)
    for _ in range(20):
        assert Asset("MILL", client).n.value == 0
    assert subscribed(mill._engine) == before
    mill.close()


def test_the_asset_of_a_place_that_is_used_once_ends(mill: Asset, client: KSQLDBClient, eventually: Eventually) -> None:
    mill._engine.register(Registration("MILL", "Device", uns_id="hall/mill"))
    mill._engine.flush()
    before = subscribed(mill._engine)
    for _ in range(5):
        assert AssetUNS("hall/mill", client).n.value == 0
    eventually(lambda: subscribed(mill._engine) == before)
    mill.close()


def test_an_asset_with_a_callback_receives_events_without_a_variable(
    mill: Asset, client: KSQLDBClient, eventually: Eventually
) -> None:
    heard: list[object] = []
    unnamed = Asset("MILL", client)
    unnamed.subscribe_to_attribute("n", lambda subject, message: heard.append(message["VALUE"]))
    reference = weakref.ref(unnamed)
    del unnamed
    gc.collect()
    mill.n = 7
    eventually(lambda: heard == [7.0])
    asset = reference()
    assert asset is not None
    asset.stop_attribute_subscription("n")
    del asset
    gc.collect()
    eventually(lambda: gc.collect() is not None and reference() is None)
    assert subscribed(mill._engine) == 1
    mill.close()


def test_a_buffer_keeps_its_asset(mill: Asset, client: KSQLDBClient) -> None:
    events = EventBuffer(Asset("MILL", client))
    gc.collect()
    with events:
        gc.collect()
        mill.n = 7
        event = events.get(timeout=60)
        assert event is not None
        assert event.value == 7.0
    del events
    assert subscribed(mill._engine) == 1
    mill.close()


def test_a_buffer_that_is_not_closed_ends(mill: Asset, client: KSQLDBClient) -> None:
    before = subscribed(mill._engine)
    with Factory(client.ksqldb_url) as factory:
        for _ in range(5):
            EventBuffer(mill).open()
            factory.watch().open()
        assert subscribed(mill._engine) == before
        mill.n = 7
        mill.flush()
    mill.close()


def test_a_task_without_a_variable_watches_on(mill: Asset, client: KSQLDBClient) -> None:
    heard: list[object] = []

    async def follow() -> None:
        async for event in Asset("MILL", client).watch("n"):
            heard.append(event.value)
            if event.value == 8.0:
                return

    async def write() -> None:
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, follow())
        for value in (7, 8):
            await asyncio.sleep(0.01)
            gc.collect()
            mill.n = value
            async with asyncio.timeout(60):
                while float(value) not in heard:
                    await asyncio.sleep(0.01)

    asyncio.run(write())
    assert subscribed(mill._engine) == 1
    mill.close()
