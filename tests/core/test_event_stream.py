"""watch(): the events of an asset for coroutines, in order, bounded, and told when they are lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from logging import LogRecord
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.assets.event_stream import EventStream
from openfactory.events.event import AssetEvent
from openfactory.exceptions import SubscriptionError

pytestmark = pytest.mark.smoke

Open = Callable[..., Asset]
Eventually = Callable[..., None]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 20))


async def take(stream: EventStream, count: int) -> list[AssetEvent]:
    taken = []
    async for event in stream:
        taken.append(event)
        if len(taken) == count:
            break
    return taken


async def settled(asset: Asset) -> None:
    """Wait until all that was written has come to the streams of this loop."""
    async with asset.watch("settled") as stream:
        asset.add_attribute(AssetAttribute("settled", True, "Events", "Test"))
        await take(stream, 1)


def test_the_events_of_an_attribute_come_in_order(mill: Asset, open_asset: Open) -> None:
    writer = open_asset()

    async def watch() -> list[AssetEvent]:
        async with mill.watch("status") as stream:
            for n in range(50):
                writer.status = n
                writer.speed = n
            return await take(stream, 50)

    events = run(watch())
    assert [event.value for event in events] == list(range(50))
    assert {(event.asset_uuid, event.id, event.type, event.tag) for event in events} == {
        ("MILL", "status", "Events", "Status")
    }
    positions = [event.position for event in events]
    assert positions == sorted(set(positions), key=lambda position: position or 0)


def test_the_events_of_a_whole_asset_come_in_order(mill: Asset, open_asset: Open) -> None:
    open_asset("ROBOT").add_attribute(AssetAttribute("status", "idle", "Events", "Status"))

    async def watch() -> list[AssetEvent]:
        async with mill.watch() as stream:
            mill.status = "busy"
            open_asset("ROBOT").status = "busy"
            mill.speed = "200"
            return await take(stream, 2)

    assert [(event.asset_uuid, event.id, event.value) for event in run(watch())] == [
        ("MILL", "status", "busy"),
        ("MILL", "speed", 200.0),  # a sample reads as a float
    ]


def test_a_loop_goes_on_while_it_waits_for_an_event(mill: Asset, open_asset: Open) -> None:
    async def watch() -> list[AssetEvent]:
        stream = mill.watch("status")
        waiting = asyncio.create_task(take(stream, 1))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.to_thread(setattr, open_asset(), "status", "busy")
        return await waiting

    [event] = run(watch())
    assert event.value == "busy"


def test_a_reader_that_lags_gets_the_newest_and_is_told_what_it_lost(mill: Asset, logged: list[LogRecord]) -> None:
    async def watch() -> tuple[list[object], int]:
        async with mill.watch("status", max_queued=5) as stream:
            for n in range(12):
                mill.status = n
            await settled(mill)
            return [event.value for event in await take(stream, 5)], stream.lost

    assert run(watch()) == ([7, 8, 9, 10, 11], 7)
    [record] = [record for record in logged if "lags" in record.getMessage()]  # once, whatever the number
    assert "A reader of MILL.status lags: 5 events wait" in record.getMessage()
    assert "max_queued" in record.getMessage()


def test_a_reader_that_keeps_up_loses_nothing(mill: Asset, logged: list[LogRecord]) -> None:
    async def watch() -> tuple[list[object], int]:
        values: list[object] = []
        async with mill.watch("status", max_queued=1) as stream:
            for n in range(20):
                mill.status = n
                values += [event.value for event in await take(stream, 1)]
            return values, stream.lost

    assert run(watch()) == (list(range(20)), 0)
    assert not [record for record in logged if "lags" in record.getMessage()]


@pytest.mark.parametrize("max_queued", [0, -1])
def test_a_stream_in_which_nothing_may_wait_is_refused(mill: Asset, max_queued: int) -> None:
    async def watch() -> None:
        mill.watch("status", max_queued=max_queued)

    with pytest.raises(SubscriptionError, match=r"leaves no room for an event\. Pass 1 or more"):
        run(watch())


def test_two_streams_hear_each_all_of_it(mill: Asset) -> None:
    async def watch() -> list[list[object]]:
        async with mill.watch("status") as one, mill.watch("status", max_queued=2) as lagging, mill.watch() as all_:
            for n in range(6):
                mill.status = n
            await settled(mill)
            taken = [await take(one, 6), await take(lagging, 2), await take(all_, 6)]
            assert (one.lost, lagging.lost, all_.lost) == (0, 4, 0)
            return [[event.value for event in events] for events in taken]

    assert run(watch()) == [[0, 1, 2, 3, 4, 5], [4, 5], [0, 1, 2, 3, 4, 5]]


def test_after_its_close_a_stream_gives_what_is_queued_and_ends(mill: Asset) -> None:
    async def watch() -> list[object]:
        stream, other = mill.watch("status"), mill.watch("status")
        mill.status = "one"
        mill.status = "two"
        await settled(mill)
        stream.close()
        stream.close()
        mill.status = "three"
        await settled(mill)
        assert [event.value for event in await take(other, 3)] == ["one", "two", "three"]
        return [event.value async for event in stream]

    assert run(watch()) == ["one", "two"]


@pytest.mark.parametrize("end", ["the stream", "the asset"])
def test_closing_ends_who_waits(mill: Asset, end: str) -> None:
    async def watch() -> list[object]:
        stream = mill.watch("status")

        async def read() -> list[object]:
            return [event.value async for event in stream]

        waiting = asyncio.create_task(read())
        await asyncio.sleep(0)
        await asyncio.to_thread(stream.close if end == "the stream" else mill.close)
        return await waiting

    assert run(watch()) == []


def test_a_stream_whose_loop_has_ended_harms_nobody(
    mill: Asset, logged: list[LogRecord], eventually: Eventually
) -> None:
    async def watch() -> EventStream:
        return mill.watch("status")

    heard: list[str] = []
    mill.subscribe_to_attribute("status", lambda subject, message: heard.append(subject))
    stream = run(watch())
    mill.status = "busy"
    eventually(lambda: heard)
    stream.close()
    stream.close()
    run(watch())
    mill.close()  # with a stream of an ended loop in it
    assert not logged


def test_without_a_running_loop_it_is_refused_with_the_other_way(mill: Asset) -> None:
    with pytest.raises(SubscriptionError, match=r"needs a running event loop.*subscribe_to_attribute\(\)"):
        mill.watch("status")


def test_a_stream_needs_no_thread_of_its_own(mill: Asset) -> None:
    async def watch() -> None:
        before = threading.active_count()
        streams = [mill.watch("status") for _ in range(50)]
        mill.status = "busy"
        for stream in streams:
            [event] = await take(stream, 1)
            assert event.value == "busy"
        assert threading.active_count() == before

    run(watch())
