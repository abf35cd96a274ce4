"""Asset: callbacks, in order, beside each other, whatever one of them does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from logging import LogRecord

import pytest

from openfactory.assets import Asset, AssetAttribute, EventQueue
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.exceptions import SubscriptionError
from openfactory.kafka import CaseInsensitiveDict

Open = Callable[..., Asset]
Eventually = Callable[..., None]


class Heard(list[tuple[str, object]]):
    """A callback that notes subject and value."""

    def __call__(self, subject: str, message: CaseInsensitiveDict) -> None:
        self.append((subject, message["VALUE"]))


@pytest.fixture
def mill(open_asset: Open) -> Asset:
    """An asset whose attributes were said before it is opened, so that nobody hears of that."""
    said = open_asset()
    for id, type in {
        "status": "Events",
        "n": "Events",
        "speed": "Samples",
        "coolant": "Condition",
        "AssetType": "OpenFactory",
        "move": "Method",
    }.items():
        said.add_attribute(AssetAttribute(id=id, value="", type=type, tag="Test"))
    return open_asset()


@pytest.fixture
def robot(open_asset: Open) -> Asset:
    open_asset("ROBOT").add_attribute(AssetAttribute(id="x", value="", type="Events", tag="Test"))
    return open_asset("ROBOT")


def test_a_callback_gets_the_subject_and_the_message(mill: Asset, open_asset: Open, eventually: Eventually) -> None:
    calls: list[tuple[str, CaseInsensitiveDict]] = []
    mill.subscribe_to_attribute("status", lambda subject, message: calls.append((subject, message)))
    open_asset().status = AssetAttribute("status", "busy", "Events", "Status", "2026-11-21T07:30:00.000Z")
    eventually(lambda: calls)
    [(subject, message)] = calls
    assert subject == "MILL.status"
    assert isinstance(message, CaseInsensitiveDict)
    assert dict(message) == {
        "VALUE": "busy",
        "TAG": "Status",
        "TYPE": "Events",
        "attributes": {"timestamp": "2026-11-21T07:30:00.000Z"},
    }
    assert message["value"] == message["Value"] == "busy"
    assert "ATTRIBUTES" in message


def test_what_travels_with_a_message_reaches_callbacks_queues_and_the_history(
    mill: Asset, open_asset: Open, eventually: Eventually
) -> None:
    calls: list[CaseInsensitiveDict] = []
    mill.subscribe_to_events(lambda _subject, message: calls.append(message))
    properties = {"ingestion_timestamp": "2026-11-21T07:30:00.012Z", "kafka_timestamp_type": "broker", "line": 7}
    attribute = AssetAttribute("status", "busy", "Events", "Status", "2026-11-21T07:30:00.000Z")
    with EventQueue(mill, attributes=["status"]) as queue:
        open_asset("CELL").producer.send_asset_attribute("MILL", attribute, properties).wait()
        _current, event = queue.take(timeout=60), queue.take(timeout=60)
    eventually(lambda: calls)
    assert calls[0]["attributes"] == {"timestamp": "2026-11-21T07:30:00.000Z", **properties}
    assert event is not None
    assert event.attributes == properties


def test_own_writes_are_heard_too(mill: Asset, eventually: Eventually) -> None:
    heard = Heard()
    mill.subscribe_to_attribute("status", heard)
    for n in range(100):
        mill.status = n
    eventually(lambda: len(heard) >= 100)
    assert heard == [("MILL.status", n) for n in range(100)]


def test_each_kind_of_subscription_hears_its_kind(mill: Asset, eventually: Eventually) -> None:
    kinds = ("messages", "samples", "events", "conditions")
    heard = {kind: Heard() for kind in kinds}
    for kind in kinds:
        getattr(mill, f"subscribe_to_{kind}")(heard[kind])
    mill.speed, mill.status, mill.coolant, mill.AssetType = 1, 2, 3, 4
    mill.method("move", sender_uuid="HMI")
    eventually(lambda: len(heard["messages"]) >= 5)
    assert [subject for subject, _ in heard["messages"]] == [
        "MILL.speed",
        "MILL.status",
        "MILL.coolant",
        "MILL.AssetType",
        "MILL.move_CMD",
    ]
    assert heard["samples"] == [("MILL.speed", 1)]
    assert heard["events"] == [("MILL.status", 2)]
    assert heard["conditions"] == [("MILL.coolant", 3)]


def test_several_callbacks_hear_one_attribute_in_their_order(mill: Asset, eventually: Eventually) -> None:
    order: list[tuple[str, object]] = []

    def note(name: str, subject: str, message: CaseInsensitiveDict) -> None:
        order.append((name, message["VALUE"]))

    for name in "abc":
        mill.subscribe_to_attribute("status", partial(note, name))
    mill.status, mill["status"] = 1, 2
    eventually(lambda: len(order) >= 6)
    assert order == [(name, value) for value in (1, 2) for name in "abc"]


def test_a_callback_that_raises_is_logged_and_stops_nobody(
    mill: Asset, eventually: Eventually, logged: list[LogRecord]
) -> None:
    heard = Heard()

    def fail(subject: str, message: CaseInsensitiveDict) -> None:
        raise ValueError("on purpose")

    mill.subscribe_to_attribute("status", fail)
    mill.subscribe_to_attribute("status", heard)
    mill.status, mill["status"] = 1, 2
    eventually(lambda: len(heard) >= 2)
    assert heard == [("MILL.status", 1), ("MILL.status", 2)]
    assert len(logged) == 2
    assert "fail" in logged[0].getMessage()
    assert "MILL.status" in logged[0].getMessage()
    assert logged[0].exc_info is not None
    assert isinstance(logged[0].exc_info[1], ValueError)


def test_a_blocking_callback_delays_no_other_asset(mill: Asset, robot: Asset, eventually: Eventually) -> None:
    go_on, heard = threading.Event(), Heard()
    blocked: list[object] = []

    def block(subject: str, message: CaseInsensitiveDict) -> None:
        go_on.wait(30)
        blocked.append(message["VALUE"])

    mill.subscribe_to_attribute("status", block)
    robot.subscribe_to_attribute("x", heard)
    mill.status = "busy"
    for n in range(10):
        robot.x = n
    eventually(lambda: len(heard) >= 10)
    assert blocked == []
    # Nor its own state and waiters.
    mill.status = "done"
    assert mill.wait_until("status", "done", timeout=60)
    go_on.set()
    eventually(lambda: blocked == ["busy", "done"])


def test_the_order_holds_per_asset_with_several_writers(mill: Asset, open_asset: Open, eventually: Eventually) -> None:
    heard, writer = Heard(), open_asset()
    mill.subscribe_to_messages(heard)

    def write(name: str) -> None:
        for n in range(200):
            writer[name] = n

    threads = [threading.Thread(target=write, args=(name,)) for name in ("status", "n")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(heard) >= 400)
    for name in ("status", "n"):
        assert [value for subject, value in heard if subject == f"MILL.{name}"] == list(range(200))


def test_a_callback_may_write_wait_and_call(mill: Asset, open_asset: Open, eventually: Eventually) -> None:
    """It does not run on the thread that delivers, so it cannot wait for itself."""
    other = open_asset()
    answers: list[bool] = []

    def answer(subject: str, message: CaseInsensitiveDict) -> None:
        other.speed = 7
        answers.append(mill.wait_until("speed", 7, timeout=60))

    mill.subscribe_to_attribute("status", answer)
    mill.status = "busy"
    eventually(lambda: answers)
    assert answers == [True]


def test_a_subscription_that_is_stopped_hears_no_more(mill: Asset, eventually: Eventually) -> None:
    stopped, going_on = Heard(), Heard()
    mill.subscribe_to_messages(going_on)
    mill.subscribe_to_attribute("status", stopped)
    for kind in ("samples", "events"):
        getattr(mill, f"subscribe_to_{kind}")(stopped)
    mill.stop_attribute_subscription("status")
    for kind in ("samples", "events", "conditions"):
        getattr(mill, f"stop_{kind}_subscription")()
        getattr(mill, f"stop_{kind}_subscription")()  # twice does nothing
    mill.status, mill.speed = 1, 2
    eventually(lambda: len(going_on) >= 2)
    mill.stop_messages_subscription()
    assert stopped == []


def test_a_closed_asset_calls_nobody(mill: Asset, open_asset: Open, eventually: Eventually) -> None:
    heard, still_heard = Heard(), Heard()
    mill.subscribe_to_attribute("status", still_heard)
    with open_asset() as watcher:
        watcher.subscribe_to_attribute("status", heard)
    mill.status = "busy"
    eventually(lambda: still_heard)
    assert heard == []


def test_what_cannot_be_called_is_refused(mill: Asset) -> None:
    with pytest.raises(SubscriptionError, match=r"'soon' is not callable\. Pass a function"):
        mill.subscribe_to_attribute("status", "soon")  # type: ignore[arg-type]


def test_an_async_callback_runs_on_the_loop_it_was_subscribed_in(mill: Asset) -> None:
    seen: list[object] = []

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        async def hear(subject: str, message: CaseInsensitiveDict) -> None:
            assert asyncio.get_running_loop() is loop
            await asyncio.sleep(0.001)
            seen.append(message["VALUE"])
            if len(seen) == 10:
                done.set()

        mill.subscribe_to_attribute("status", hear)
        for n in range(10):
            mill.status = n
        await asyncio.wait_for(done.wait(), 10)
        mill.stop_attribute_subscription("status")

    asyncio.run(main())
    assert seen == list(range(10))


def test_an_async_callback_without_a_loop_is_refused(mill: Asset) -> None:
    async def hear(subject: str, message: CaseInsensitiveDict) -> None: ...

    with pytest.raises(SubscriptionError, match=r"hear is an async def .* Subscribe inside a coroutine"):
        mill.subscribe_to_attribute("status", hear)


def test_an_async_callback_after_its_loop_has_ended_is_logged_and_stops_nobody(
    mill: Asset, eventually: Eventually, logged: list[LogRecord]
) -> None:
    async def hear(subject: str, message: CaseInsensitiveDict) -> None: ...

    async def main() -> None:
        mill.subscribe_to_attribute("status", hear)

    heard = Heard()
    asyncio.run(main())
    mill.subscribe_to_attribute("status", heard)
    mill.status = 1
    eventually(lambda: heard)
    assert len(logged) == 1
    assert "hear" in logged[0].getMessage()


def test_many_watched_assets_need_no_thread_more_than_one(
    mill: Asset, open_asset: Open, engine: Engine, eventually: Eventually
) -> None:
    heard: list[object] = []

    def note(subject: str, message: CaseInsensitiveDict) -> None:
        heard.append(message["VALUE"])

    threads = threading.active_count()
    watched = [open_asset(f"ASSET-{n}") for n in range(500)]
    for asset in watched:
        asset.subscribe_to_messages(note)
    assert threading.active_count() <= threads
    engine.publish(new_event("ASSET-7", "x", 7, "Events", "Test"))
    eventually(lambda: heard == [7])
