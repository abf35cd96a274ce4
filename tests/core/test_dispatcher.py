"""The dispatcher hands each event on once and in order, whatever subscribers do in their calls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.engines.base import LogPosition, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt


def event(position: int | None, asset_uuid: str = "MILL") -> AssetEvent:
    return AssetEvent(asset_uuid, "x", position, "Events", "Test", "2026-01-01T00:00:00.000Z", position)


@pytest.fixture
def dispatcher() -> Dispatcher:
    return Dispatcher()


def deliver(dispatcher: Dispatcher, *events: AssetEvent, partition: int = 0) -> None:
    with dispatcher.lock:
        for one in events:
            dispatcher.deliver(one, partition)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30))), st.dictionaries(st.integers(0, 2), st.integers(0, 20))
)
def test_each_event_is_heard_once_and_behind_the_position(handed: list[tuple[int, int]], start: dict[int, int]) -> None:
    dispatcher = Dispatcher()
    heard: list[tuple[int, int]] = []
    now = 0
    dispatcher.add(None, lambda one: heard.append((now, one.position or 0)), None, LogPosition.of(start))
    for now, position in handed:
        deliver(dispatcher, event(position), partition=now)
    for number in range(3):
        positions = [position for partition, position in heard if partition == number]
        assert positions == sorted(set(positions))
        assert all(position > start.get(number, 0) for position in positions)
        due = [position for partition, position in handed if partition == number and position > start.get(number, 0)]
        assert positions[:1] == due[:1]


def test_event_goes_to_those_who_hear_its_asset_and_to_those_who_hear_all(dispatcher: Dispatcher) -> None:
    heard: list[str] = []
    dispatcher.add("MILL", lambda _: heard.append("mill"), None, 0)
    dispatcher.add("SAW", lambda _: heard.append("saw"), None, 0)
    dispatcher.add(None, lambda _: heard.append("all"), None, 0)
    deliver(dispatcher, event(1))
    assert heard == ["mill", "all"]
    assert dispatcher.counters["delivered"] == 2
    assert dispatcher.has_subscribers("MILL")
    assert not dispatcher.has_subscribers("ROBOT")
    assert dispatcher.is_needed("ROBOT")


def test_event_without_a_position_is_always_due(dispatcher: Dispatcher) -> None:
    heard: list[AssetEvent] = []
    dispatcher.add("MILL", heard.append, None, 5)
    deliver(dispatcher, event(None), event(None))
    assert len(heard) == 2


def test_subscriber_that_fails_is_logged_and_the_others_hear(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: AssetEvent) -> None:
        raise ValueError("on purpose")

    heard: list[AssetEvent] = []
    dispatcher.add("MILL", fail, None, 0)
    dispatcher.add("MILL", heard.append, None, 0)
    with caplog.at_level(logging.ERROR):
        deliver(dispatcher, event(1), event(2))
    assert [one.position for one in heard] == [1, 2]
    assert dispatcher.counters["failed_deliveries"] == 2
    assert "position 1 (MILL.x)" in caplog.text


def closing(dispatcher: Dispatcher, heard: list[int]) -> Callable[[AssetEvent], None]:
    """A subscriber that ends all subscriptions when it hears the first event."""

    def on_event(one: AssetEvent) -> None:
        heard.append(one.position or 0)
        for subscription in list(dispatcher.subscriptions()):
            subscription.close()

    return on_event


def test_what_is_closed_in_a_call_hears_no_more(dispatcher: Dispatcher) -> None:
    heard: list[int] = []
    for _ in range(3):
        dispatcher.add("MILL", closing(dispatcher, heard), None, 0)
    deliver(dispatcher, event(1), event(2))
    assert heard == [1]
    assert not dispatcher.is_needed("MILL")
    assert dispatcher.assets() == []


def test_who_subscribes_in_a_call_hears_what_comes_next(dispatcher: Dispatcher) -> None:
    heard: list[int] = []

    def subscribe(one: AssetEvent) -> None:
        if one.position == 1:
            dispatcher.add("MILL", lambda one: heard.append(one.position or 0), None, 1)

    dispatcher.add("MILL", subscribe, None, 0)
    deliver(dispatcher, event(1), event(2))
    assert heard == [2]


def test_closing_a_subscription_twice_leaves_others_alone(dispatcher: Dispatcher) -> None:
    heard: list[AssetEvent] = []
    first = dispatcher.add("MILL", heard.append, None, 0)
    dispatcher.add("MILL", heard.append, None, 0)
    first.close()
    first.close()
    deliver(dispatcher, event(1))
    assert len(heard) == 1


def test_after_a_gap_events_go_on_behind_what_was_read_again(dispatcher: Dispatcher) -> None:
    heard: list[int] = []
    subscription = dispatcher.add("MILL", lambda one: heard.append(one.position or 0), lambda: 10, 0)
    dispatcher.notify_gap(subscription)
    deliver(dispatcher, event(9), event(10), event(11))
    assert heard == [11]
    assert dispatcher.counters["gaps"] == 1


def test_subscriber_that_fails_to_read_again_is_logged_and_goes_on(
    dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> int:
        raise ValueError("on purpose")

    heard: list[int] = []
    subscription = dispatcher.add("MILL", lambda one: heard.append(one.position or 0), fail, 0)
    dispatcher.notify_gap(subscription)
    deliver(dispatcher, event(1))
    assert heard == [1]
    assert "The gap callback of a subscription to MILL failed" in caplog.text


def test_subscriptions_come_and_go_while_events_are_handed_on(dispatcher: Dispatcher) -> None:
    ended = threading.Event()
    heard: list[int] = []
    dispatcher.add("MILL", lambda one: heard.append(one.position or 0), None, 0)

    def come_and_go() -> None:
        while not ended.is_set():
            subscriptions: list[Subscription] = [dispatcher.add("MILL", lambda _: None, None, 0) for _ in range(5)]
            for subscription in subscriptions:
                subscription.close()

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for position in range(1, 3_000):
        deliver(dispatcher, event(position))
    ended.set()
    for thread in threads:
        thread.join(60)
    assert heard == list(range(1, 3_000))
    assert len(list(dispatcher.subscriptions())) == 1


def test_an_echo_is_delivered_to_those_who_do_not_know_it(dispatcher: Dispatcher) -> None:
    heard: list[tuple[str, int | None]] = []
    own = dispatcher.add("MILL", lambda one: heard.append(("own", one.position)), None, 0)
    dispatcher.add("MILL", lambda one: heard.append(("other", one.position)), None, 0)
    dispatcher.add(None, lambda one: heard.append(("all", one.position)), None, 0)
    receipt = Receipt(1, lambda receipt, timeout: receipt.settled)
    own.knows = lambda known: known is receipt
    with dispatcher.lock:
        for _ in range(2):  # the record may be read again
            dispatcher.deliver_echo(event(5), receipt)
    assert heard == [("other", 5), ("all", 5)]
    assert own.position == 5
    deliver(dispatcher, event(5))
    assert len(heard) == 2
