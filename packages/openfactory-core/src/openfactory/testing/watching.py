"""Watching: every event after a position once, in order per asset, whatever other subscribers do."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from openfactory.engines import Engine, Subscription
from openfactory.engines.base import OnEvent
from openfactory.events.event import AssetEvent, new_event
from openfactory.testing.waiting import eventually

__all__ = ["WatchingConformance"]

# More than an engine may want to tell apart one by one.
_MANY_ASSETS = 60


def _into(values: list[object], asset_uuid: str | None = None) -> OnEvent:
    """What notes the values that a subscription hears, of one asset or of all."""

    def note(event: AssetEvent) -> None:
        if asset_uuid in (None, event.asset_uuid):
            values.append(event.value)

    return note


def _publish(engine: Engine, asset_uuid: str, value: object) -> int:
    return engine.publish(new_event(asset_uuid, "n", value, "Events", "Test")).wait()


class WatchingConformance:
    """What subscriptions promise."""

    def test_a_subscription_hears_one_asset(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[AssetEvent] = []
        engine.subscribe(asset_uuid, seen.append)
        _publish(engine, f"{asset_uuid}-2", "other")
        position = _publish(engine, asset_uuid, "own")
        eventually(lambda: seen)
        assert [(event.asset_uuid, event.value, event.position) for event in seen] == [(asset_uuid, "own", position)]

    def test_a_subscription_to_all_assets_hears_all(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[tuple[str, object]] = []
        engine.subscribe(None, lambda event: seen.append((event.asset_uuid, event.value)))
        assets = [asset_uuid, f"{asset_uuid}-2", f"{asset_uuid}-new"]
        for number, asset in enumerate(assets):
            _publish(engine, asset, number)
        eventually(lambda: len(seen) >= 3)
        # The order holds for each asset; a log of several partitions has none over all of them.
        assert sorted(one for one in seen if one[0] in assets) == sorted(zip(assets, range(3), strict=True))

    @pytest.mark.parametrize("beside_all", [False, True])
    def test_each_of_many_subscriptions_hears_its_own_asset(
        self, engine: Engine, asset_uuid: str, beside_all: bool
    ) -> None:
        if beside_all:
            engine.subscribe(None, lambda _event: None)
        seen: dict[str, list[object]] = {f"{asset_uuid}-{number}": [] for number in range(_MANY_ASSETS)}
        for asset, values in seen.items():
            engine.subscribe(asset, _into(values))
        for n in range(3):
            for asset in seen:
                engine.publish(new_event(asset, "n", (asset, n), "Events", "Test"))
        eventually(lambda: all(len(values) >= 3 for values in seen.values()))
        assert seen == {asset: [[asset, n] for n in range(3)] for asset in seen}

    def test_several_subscriptions_to_one_asset_all_hear_it(self, engine: Engine, asset_uuid: str) -> None:
        heard: list[list[object]] = [[], [], []]
        for values in heard:
            engine.subscribe(asset_uuid, _into(values))
        for n in range(10):
            _publish(engine, asset_uuid, n)
        eventually(lambda: all(len(values) >= 10 for values in heard))
        assert heard == [list(range(10))] * 3

    def test_a_subscription_begins_behind_its_position(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[object] = []
        _publish(engine, asset_uuid, "before")
        position = engine.snapshot([asset_uuid]).position
        _publish(engine, asset_uuid, "after")
        engine.subscribe(asset_uuid, _into(seen), from_position=position)
        _publish(engine, asset_uuid, "later")
        eventually(lambda: "later" in seen)
        assert seen == ["after", "later"]

    def test_without_a_position_a_subscription_hears_what_is_written_from_now_on(
        self, engine: Engine, asset_uuid: str
    ) -> None:
        # Each round with an engine that is awake already, and has just acknowledged an event.
        engine.subscribe(asset_uuid, lambda _event: None)
        for n in range(30):
            seen: list[object] = []
            _publish(engine, asset_uuid, f"before {n}")
            subscription = engine.subscribe(asset_uuid, _into(seen))
            _publish(engine, asset_uuid, f"after {n}")
            eventually(partial(seen.__contains__, f"after {n}"))
            subscription.close()
            assert seen == [f"after {n}"]

    @pytest.mark.parametrize("watched", ["one asset", "all assets"])
    def test_between_a_snapshot_and_its_subscription_nothing_is_lost_or_doubled(
        self, engine: Engine, asset_uuid: str, watched: str
    ) -> None:
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
        heard: list[tuple[object, list[object]]] = []
        subscriptions: list[Subscription] = []
        for _ in range(10):
            snapshot = engine.snapshot([asset_uuid])
            values: list[object] = []
            heard.append((snapshot.events[asset_uuid][-1].value, values))
            subscriptions.append(
                engine.subscribe(
                    asset_uuid if watched == "one asset" else None,
                    _into(values, asset_uuid),
                    from_position=snapshot.position,
                )
            )
        ended.set()
        writer.join()
        eventually(lambda: all(values and values[-1] == "end" for _, values in heard), timeout=30)
        for last, values in heard:
            assert isinstance(last, int)
            assert values == [*range(last + 1, last + len(values)), "end"]
        for subscription in subscriptions:
            subscription.close()

    def test_the_order_holds_per_asset_with_several_writers(self, engine: Engine, asset_uuid: str) -> None:
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

    def test_a_closed_subscription_hears_no_more(self, engine: Engine, asset_uuid: str) -> None:
        closed: list[object] = []
        going_on: list[object] = []
        subscription = engine.subscribe(asset_uuid, _into(closed))
        engine.subscribe(asset_uuid, _into(going_on))
        _publish(engine, asset_uuid, 1)
        eventually(lambda: closed and going_on)
        subscription.close()
        subscription.close()
        assert subscription.closed
        _publish(engine, asset_uuid, 2)
        eventually(lambda: going_on == [1, 2])
        assert closed == [1]

    def test_a_subscriber_may_close_its_own_subscription(self, engine: Engine, asset_uuid: str) -> None:
        seen: list[object] = []
        rest: list[object] = []
        subscription: Subscription

        def once(event: AssetEvent) -> None:
            seen.append(event.value)
            subscription.close()

        subscription = engine.subscribe(asset_uuid, once)
        engine.subscribe(asset_uuid, _into(rest))
        for n in range(3):
            engine.publish(new_event(asset_uuid, "n", n, "Events", "Test"))
        eventually(lambda: rest == [0, 1, 2])
        assert seen == [0]

    def test_a_subscriber_that_raises_stops_nobody(self, engine: Engine, asset_uuid: str) -> None:
        attempts: list[object] = []
        seen: list[object] = []

        def fail(event: AssetEvent) -> None:
            attempts.append(event.value)
            raise RuntimeError("a subscriber of the conformance suite that fails on purpose")

        engine.subscribe(asset_uuid, fail)
        engine.subscribe(asset_uuid, _into(seen))
        for n in range(3):
            _publish(engine, asset_uuid, n)
        eventually(lambda: len(seen) >= 3 and len(attempts) >= 3)
        assert seen == attempts == [0, 1, 2]

    def test_a_subscriber_may_publish_and_subscribe(self, engine: Engine, asset_uuid: str) -> None:
        answers: list[object] = []

        def answer(event: AssetEvent) -> None:
            engine.subscribe(f"{asset_uuid}-answer", _into(answers))
            engine.publish(new_event(f"{asset_uuid}-answer", "n", f"re: {event.value}", "Events", "Test"))

        engine.subscribe(asset_uuid, answer)
        _publish(engine, asset_uuid, "hello")
        eventually(lambda: answers)
        assert answers == ["re: hello"]
