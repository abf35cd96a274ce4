"""Tests of subscriptions: each event after a position arrives once, and in the order of its asset."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from openfactory.engines import Engine, Subscription
from openfactory.engines.base import OnEvent
from openfactory.events.event import AssetEvent, new_event
from openfactory.testing.waiting import eventually

__all__ = ["WatchingConformance"]

# So many that an engine may handle them differently from a few.
_MANY_ASSETS = 60


def _append_to(values: list[object], asset_uuid: str | None = None) -> OnEvent:
    """Return a callback that appends the value of each event to a list. Without an asset UUID, all assets count."""

    def append(event: AssetEvent) -> None:
        if asset_uuid in (None, event.asset_uuid):
            values.append(event.value)

    return append


def _publish(engine: Engine, asset_uuid: str, value: object) -> int:
    return engine.publish(new_event(asset_uuid, "n", value, "Events", "Test")).wait()


class WatchingConformance:
    """Tests of `subscribe`."""

    def test_a_subscription_receives_the_events_of_its_asset(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[AssetEvent] = []
        engine.subscribe(asset_uuid, seen.append)
        _publish(engine, f"{asset_uuid}-2", "other")
        position = _publish(engine, asset_uuid, "own")
        eventually(lambda: seen)
        assert [(event.asset_uuid, event.value, event.position) for event in seen] == [(asset_uuid, "own", position)]

    def test_a_subscription_to_all_assets_receives_all_events(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[tuple[str, object]] = []
        engine.subscribe(None, lambda event: seen.append((event.asset_uuid, event.value)))
        assets = [asset_uuid, f"{asset_uuid}-2", f"{asset_uuid}-new"]
        for number, asset in enumerate(assets):
            _publish(engine, asset, number)
        eventually(lambda: len(seen) >= 3)
        # Only the order of each asset is fixed: a log of several partitions has no order over all assets.
        assert sorted(pair for pair in seen if pair[0] in assets) == sorted(zip(assets, range(3), strict=True))

    @pytest.mark.parametrize("beside_all", [False, True])
    def test_many_subscriptions_each_receive_their_own_asset(
        self, engine: Engine, asset_uuid: str, beside_all: bool
    ) -> None:
        if beside_all:
            engine.subscribe(None, lambda _event: None)
        seen: dict[str, list[object]] = {f"{asset_uuid}-{number}": [] for number in range(_MANY_ASSETS)}
        for asset, values in seen.items():
            engine.subscribe(asset, _append_to(values))
        for n in range(3):
            for asset in seen:
                engine.publish(new_event(asset, "n", (asset, n), "Events", "Test"))
        eventually(lambda: all(len(values) >= 3 for values in seen.values()))
        assert seen == {asset: [[asset, n] for n in range(3)] for asset in seen}

    def test_each_subscription_to_an_asset_receives_its_events(self, engine: Engine, asset_uuid: str) -> None:
        received: list[list[object]] = [[], [], []]
        for values in received:
            engine.subscribe(asset_uuid, _append_to(values))
        for n in range(10):
            _publish(engine, asset_uuid, n)
        eventually(lambda: all(len(values) >= 10 for values in received))
        assert received == [list(range(10))] * 3

    def test_a_subscription_starts_after_its_position(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[object] = []
        _publish(engine, asset_uuid, "before")
        position = engine.snapshot([asset_uuid]).position
        _publish(engine, asset_uuid, "after")
        engine.subscribe(asset_uuid, _append_to(seen), from_position=position)
        _publish(engine, asset_uuid, "later")
        eventually(lambda: "later" in seen)
        assert seen == ["after", "later"]

    def test_without_a_position_only_new_events_are_received(self, engine: Engine, asset_uuid: str) -> None:
        # In each round the engine is awake already, and has just acknowledged an event.
        engine.subscribe(asset_uuid, lambda _event: None)
        for n in range(30):
            seen: list[object] = []
            _publish(engine, asset_uuid, f"before {n}")
            subscription = engine.subscribe(asset_uuid, _append_to(seen))
            _publish(engine, asset_uuid, f"after {n}")
            eventually(partial(seen.__contains__, f"after {n}"))
            subscription.close()
            assert seen == [f"after {n}"]

    @pytest.mark.parametrize("watched", ["one asset", "all assets"])
    def test_no_event_is_lost_or_repeated_after_a_snapshot(self, engine: Engine, asset_uuid: str, watched: str) -> None:
        ended = threading.Event()

        def write() -> None:
            n = 0
            while not ended.is_set() and n < 100_000:
                engine.publish(new_event(asset_uuid, "n", n, "Events", "Test"))
                n += 1
                if n % 100 == 0:
                    engine.flush()
            engine.publish(new_event(asset_uuid, "n", "end", "Events", "Test"))
            engine.flush()

        _publish(engine, asset_uuid, -1)
        writer = threading.Thread(target=write)
        writer.start()
        received: list[tuple[object, list[object]]] = []
        subscriptions: list[Subscription] = []
        for _ in range(10):
            snapshot = engine.snapshot([asset_uuid])
            values: list[object] = []
            received.append((snapshot.events[asset_uuid][-1].value, values))
            subscriptions.append(
                engine.subscribe(
                    asset_uuid if watched == "one asset" else None,
                    _append_to(values, asset_uuid),
                    from_position=snapshot.position,
                )
            )
        ended.set()
        writer.join()
        eventually(lambda: all(values and values[-1] == "end" for _, values in received), timeout=30)
        for last, values in received:
            assert isinstance(last, int)
            assert values == [*range(last + 1, last + len(values)), "end"]
        for subscription in subscriptions:
            subscription.close()

    def test_each_asset_keeps_its_order_with_several_writers(self, engine: Engine, asset_uuid: str) -> None:
        assets = [f"{asset_uuid}-{number}" for number in range(4)]
        seen: dict[str, list[object]] = {asset: [] for asset in assets}
        engine.subscribe(None, lambda event: seen.get(event.asset_uuid, []).append(event.value))

        def write(asset: str) -> None:
            for n in range(300):
                engine.publish(new_event(asset, "n", n, "Events", "Test"))

        threads = [threading.Thread(target=write, args=(asset,)) for asset in assets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        eventually(lambda: all(len(values) >= 300 for values in seen.values()))
        assert seen == {asset: list(range(300)) for asset in assets}

    def test_a_closed_subscription_receives_no_more_events(self, engine: Engine, asset_uuid: str) -> None:
        closed_values: list[object] = []
        open_values: list[object] = []
        subscription = engine.subscribe(asset_uuid, _append_to(closed_values))
        engine.subscribe(asset_uuid, _append_to(open_values))
        _publish(engine, asset_uuid, 1)
        eventually(lambda: closed_values and open_values)
        subscription.close()
        subscription.close()
        assert subscription.closed
        _publish(engine, asset_uuid, 2)
        eventually(lambda: open_values == [1, 2])
        assert closed_values == [1]

    def test_a_callback_may_close_its_subscription(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[object] = []
        rest: list[object] = []
        subscription: Subscription

        def once(event: AssetEvent) -> None:
            seen.append(event.value)
            subscription.close()

        subscription = engine.subscribe(asset_uuid, once)
        engine.subscribe(asset_uuid, _append_to(rest))
        for n in range(3):
            engine.publish(new_event(asset_uuid, "n", n, "Events", "Test"))
        eventually(lambda: rest == [0, 1, 2])
        assert seen == [0]

    def test_an_exception_in_a_callback_loses_no_events(self, engine: Engine, asset_uuid: str) -> None:
        attempts: list[object] = []
        seen: list[object] = []

        def fail(event: AssetEvent) -> None:
            attempts.append(event.value)
            raise RuntimeError("raised on purpose by the conformance suite")

        engine.subscribe(asset_uuid, fail)
        engine.subscribe(asset_uuid, _append_to(seen))
        for n in range(3):
            _publish(engine, asset_uuid, n)
        eventually(lambda: len(seen) >= 3 and len(attempts) >= 3)
        assert seen == attempts == [0, 1, 2]

    def test_a_callback_may_publish_and_subscribe(self, engine: Engine, asset_uuid: str) -> None:
        replies: list[object] = []

        def reply(event: AssetEvent) -> None:
            engine.subscribe(f"{asset_uuid}-reply", _append_to(replies))
            engine.publish(new_event(f"{asset_uuid}-reply", "n", f"re: {event.value}", "Events", "Test"))

        engine.subscribe(asset_uuid, reply)
        _publish(engine, asset_uuid, "hello")
        eventually(lambda: replies)
        assert replies == ["re: hello"]
