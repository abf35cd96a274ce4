"""What a process does not read back from a file: its own writes, where all its subscriptions know them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from openfactory.assets import Asset, AssetAttribute, Factory
from openfactory.engines import Engine
from openfactory.engines.embedded import EmbeddedEngine
from openfactory.events.event import new_event
from openfactory.kafka import KSQLDBClient

Eventually = Callable[..., None]


@pytest.fixture
def client(file_url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(file_url) as client:
        yield client


@pytest.fixture
def mill(client: KSQLDBClient) -> Iterator[Asset]:
    with Asset("MILL", client) as mill:
        mill.add_attribute(AssetAttribute(id="load", value=0, type="Samples", tag="Load"))
        mill.flush()
        yield mill


@pytest.fixture
def other(file_url: str) -> Iterator[Engine]:
    """An engine as another process has it."""
    engine = EmbeddedEngine(file_url)
    yield engine
    engine.close()


def foreign(other: Engine, value: object) -> int:
    return other.publish(new_event("MILL", "load", value, "Samples", "Load")).wait()


def delivered(client: KSQLDBClient) -> int:
    return client.engine.health().counters["delivered"]


def test_own_writes_that_nothing_hears_are_not_delivered(
    client: KSQLDBClient, mill: Asset, other: Engine, eventually: Eventually
) -> None:
    before = delivered(client)
    for number in range(5_000):
        mill.load = number
    mill.flush()
    foreign(other, "theirs")
    eventually(lambda: mill.load.value == "theirs")
    assert delivered(client) - before < 2_500  # a write is delivered if few are committed, or its state comes later


@pytest.mark.parametrize("seed", range(3))
def test_own_writes_and_those_of_others_are_read_in_their_order(
    client: KSQLDBClient, mill: Asset, other: Engine, eventually: Eventually, seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(200):
        if chance.random() < 0.3:
            foreign(other, f"theirs {number}")
        else:
            mill.load = f"ours {number}"
        if chance.random() < 0.2:
            mill.flush()
    mill.flush()
    last = client.engine.history("MILL", "load")[-1]
    eventually(lambda: mill.load.value == last.value)
    position = foreign(other, "the last one")
    eventually(lambda: mill.load.value == "the last one")
    event = mill._state.get("load")
    assert event is not None
    assert event.position == position


def test_whoever_hears_own_writes_hears_each_of_them_once(
    client: KSQLDBClient, mill: Asset, eventually: Eventually
) -> None:
    numbers, heard = list(range(500)), list[object]()
    with Asset("MILL", client) as second, Factory(client) as factory, factory.watch(attributes=["load"]) as changes:
        second.subscribe_to_attribute("load", lambda _subject, message: heard.append(message["VALUE"]))
        for number in numbers:
            mill.load = number
        eventually(lambda: len(heard) == len(numbers))
        assert heard == numbers
        events = [changes.get(60) for _ in numbers]
        assert [event.value for event in events if event is not None] == numbers
        assert second.load.value == 499


def test_a_subscription_that_begins_later_reads_what_was_not_delivered(
    client: KSQLDBClient, mill: Asset, eventually: Eventually
) -> None:
    position = client.engine.snapshot(["MILL"]).position
    for number in range(100):
        mill.load = number
    mill.flush()
    heard: list[object] = []
    client.engine.subscribe("MILL", lambda event: heard.append(event.value), from_position=position)
    eventually(lambda: len(heard) == 100)
    assert heard == list(range(100))
