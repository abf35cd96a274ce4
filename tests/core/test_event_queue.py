"""EventQueue: what holds and each change after it, for a thread that takes them when it has time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from logging import LogRecord
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute, AssetEvent, EventQueue
from openfactory.exceptions import SubscriptionError

Open = Callable[..., Asset]
PATIENCE = 60.0


def take(events: EventQueue, count: int) -> list[AssetEvent]:
    taken = [events.take(PATIENCE) for _ in range(count)]
    return [event for event in taken if event is not None]


def said(events: list[AssetEvent]) -> list[tuple[str, str, Any]]:
    return [(event.asset_uuid, event.id, event.value) for event in events]


def settle(asset: Asset) -> None:
    """Wait until all that was written before has been heard by the queues that were entered before."""
    with EventQueue(asset, attributes=["settled"]) as events:
        asset.add_attribute(AssetAttribute("settled", True, "Events", "Test"))
        take(events, 1)


def test_first_comes_what_holds_then_each_change_in_order(mill: Asset, open_asset: Open) -> None:
    writer = open_asset()
    with EventQueue(mill) as events:
        for n in range(20):
            writer.status = n
        heard = said(take(events, 22))
    assert heard[:2] == [("MILL", "status", "idle"), ("MILL", "speed", 100.0)]  # a sample reads as a float
    assert heard[2:] == [("MILL", "status", n) for n in range(20)]


def test_an_own_write_that_holds_is_not_told_again_when_it_comes_back(mill: Asset) -> None:
    for n in range(50):
        mill.status = n
        with EventQueue(mill, attributes=["status", "settled"]) as events:
            mill.add_attribute(AssetAttribute("settled", f"after {n}", "Events", "Test"))
            heard: list[Any] = []
            while f"after {n}" not in heard:
                heard += [event.value for event in take(events, 1)]
        assert heard.count(n) == 1, heard


def test_only_the_attributes_that_are_asked_for_come(mill: Asset) -> None:
    with EventQueue(mill, attributes=["speed"]) as events:
        mill.status = "busy"
        mill.speed = 200
        assert said(take(events, 2)) == [("MILL", "speed", 100.0), ("MILL", "speed", 200.0)]


def test_several_assets_are_heard_by_one_queue(mill: Asset, open_asset: Open) -> None:
    robot = open_asset("ROBOT")
    robot.add_attribute(AssetAttribute("status", "parked", "Events", "Status"))
    with EventQueue(mill, robot, attributes=["status"]) as events:
        assert said(take(events, 2)) == [("MILL", "status", "idle"), ("ROBOT", "status", "parked")]
        robot.status = "moving"
        assert said(take(events, 1)) == [("ROBOT", "status", "moving")]


def test_commands_replies_and_methods_are_no_attributes(mill: Asset) -> None:
    with EventQueue(mill) as events:
        mill.method("move", "HMI", {"x": 1})
        mill.status = "busy"
        assert [event.id for event in take(events, 3)] == ["status", "speed", "status"]


def test_nothing_is_told_twice_and_nothing_left_out_while_another_writes(mill: Asset, open_asset: Open) -> None:
    writer = open_asset()
    enough = threading.Event()

    def write() -> int:
        n = 100  # what holds
        while not enough.is_set():
            n += 1
            writer.speed = n
        writer.flush()
        return n

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        heard = []
        try:
            for _ in range(20):
                with EventQueue(mill, attributes=["speed"], max_queued=1_000_000) as events:
                    heard.append([event.value for event in take(events, 50)])
        finally:
            enough.set()
        assert written.result(PATIENCE) > 150
    for values in heard:
        assert values == [values[0] + n for n in range(50)]


def test_a_reader_that_lags_gets_the_newest_and_can_tell_what_it_lost(mill: Asset, logged: list[LogRecord]) -> None:
    with EventQueue(mill, attributes=["status"], max_queued=5) as events:
        take(events, 1)
        for n in range(12):
            mill.status = n
        settle(mill)
        assert [event.value for event in take(events, 5)] == [7, 8, 9, 10, 11]
        assert events.lost == 7
    [record] = [record for record in logged if "lags" in record.getMessage()]  # once, whatever the number
    assert "A reader of MILL lags: 5 events wait" in record.getMessage()
    assert "max_queued" in record.getMessage()


def test_without_news_take_comes_back_in_time(mill: Asset) -> None:
    with EventQueue(mill, attributes=["status"]) as events:
        take(events, 1)
        assert events.take(0.01) is None
        assert not events.ended


def test_one_that_waits_is_woken_by_an_event_and_by_the_end(mill: Asset) -> None:
    with ThreadPoolExecutor(1) as pool, EventQueue(mill, attributes=["status"]) as events:
        take(events, 1)
        waiting = pool.submit(events.take)
        mill.status = "busy"
        event = waiting.result(PATIENCE)
        assert event is not None
        assert event.value == "busy"
        waiting = pool.submit(events.take)
        events.end()
        assert waiting.result(PATIENCE) is None
        assert events.ended


def test_after_its_end_it_gives_what_waits_and_no_more(mill: Asset) -> None:
    with EventQueue(mill, attributes=["status"]) as events:
        mill.status = "busy"
        settle(mill)
    mill.status = "unheard"
    settle(mill)
    assert [event.value for event in take(events, 3)] == ["idle", "busy"]
    assert events.ended
    assert mill._subscriptions._listeners == ()


def test_an_asset_that_is_closed_ends_it(open_asset: Open, mill: Asset) -> None:
    other = open_asset()
    with EventQueue(other, attributes=["status"]) as events:
        take(events, 1)
        other.close()
        assert events.take(PATIENCE) is None
        assert events.ended


def test_an_asset_that_is_closed_already_ends_it_at_once(open_asset: Open) -> None:
    other = open_asset()
    other.add_attribute(AssetAttribute("status", "idle", "Events", "Status"))
    other.close()
    with EventQueue(other, attributes=["none such"]) as events:
        assert events.take(PATIENCE) is None
        assert events.ended


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_queued": 0}, r"max_queued=0 leaves no room for an event\. Pass 1 or more"),
        ({"attributes": "status"}, r"is not a list of ids\. Pass \['status'\]"),
    ],
)
def test_what_cannot_be_heard_is_refused(mill: Asset, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SubscriptionError, match=said):
        EventQueue(mill, **options)


def test_no_asset_is_refused() -> None:
    with pytest.raises(SubscriptionError, match="EventQueue needs an asset"):
        EventQueue()
