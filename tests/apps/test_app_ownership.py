"""An app that others have taken for ended, for example because it was frozen, owns its UUID again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.apps import ownership as module
from openfactory.assets import Asset
from openfactory.concurrency import pauses
from openfactory.concurrency.boot_clock import boot_seconds
from openfactory.engines import Engine, Snapshot
from openfactory.events.event import OWNER_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.ownership import Owner, end_event, owned
from openfactory.events.receipt import Receipt
from openfactory.exceptions import AssetOwnedError
from openfactory.kafka import KSQLDBClient

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


class Mill(OpenFactoryApp):
    @ofa_method()
    def stroke(self) -> str:
        return "done"


@pytest.fixture
def mill(start: Start, url: str) -> Any:
    mill = start(Mill, url, app_uuid="MILL")
    mill["avail"] = "AVAILABLE"
    mill.flush()
    return mill


def call_dead(engine: Engine, owner: Owner | None) -> None:
    """Write the end of the app as another process does, and more replies that the app has written before."""
    assert owner is not None
    engine.publish(end_event("MILL", owner, None, "it gave no sign of life"))
    for _ in range(200):
        engine.publish(owned(new_event("MILL", "stroke_REPLY", "{}", "OpenFactory", REPLY_TAG), owner.epoch))


def test_an_app_that_was_taken_for_ended_is_available_again(
    mill: Any, engine: Engine, watch: Watch, eventually: Eventually, log: pytest.LogCaptureFixture
) -> None:
    watched = watch("MILL")
    heard: list[object] = []
    watched.subscribe_to_attribute("avail", lambda _, message: heard.append(message["VALUE"]))
    for times in range(1, 4):
        call_dead(engine, mill.owner)
        eventually(lambda: len(heard) == 2 * times)  # noqa: B023 - it waits within the turn
    assert heard == 3 * ["UNAVAILABLE", "AVAILABLE"]
    assert watched.call("stroke", sender_uuid="HMI") == "done"
    assert "was taken over" not in log.text


def test_of_several_claims_whose_writing_takes_long_the_first_one_counts(
    mill: Any, engine: Engine, watch: Watch, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claims are all of this app, so it has not lost its UUID to another one."""
    claims: list[AssetEvent] = []
    publish = engine.publish

    def publish_later(event: AssetEvent) -> Receipt:
        if event.tag != OWNER_TAG:
            return publish(event)
        claims.append(event)
        if len(claims) < 3:
            return Receipt(0, lambda *_: False, event)  # it is on its way for long
        return [publish(claim) for claim in claims][-1]

    monkeypatch.setattr(module, "_CLAIM_SECONDS", 0.1)
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(engine, "publish", publish_later)
    watched = watch("MILL")
    call_dead(engine, mill.owner)
    eventually(lambda: watched.avail.value == "AVAILABLE" and len(claims) == 3)
    assert watched.owner is not None
    assert watched.owner.event("MILL").value == claims[0].value
    assert watched.call("stroke", sender_uuid="HMI") == "done"


def test_an_error_that_keeps_an_app_from_its_uuid_is_logged(
    mill: Any, engine: Engine, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no place")

    assert engine.liveness is not None
    monkeypatch.setattr(engine.liveness, "join", fail)
    call_dead(engine, mill.owner)
    eventually(lambda: "MILL could not deal with the loss of its UUID. Restart it." in log.text)
    assert "ValueError: no place" in log.text


def test_an_app_asks_for_its_owner_after_a_pause_if_there_can_be_other_processes(
    mill: Any, engine: Engine, url: str, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch("MILL")
    asked: list[object] = []
    snapshot = engine.snapshot

    def note_and_ask(asset_uuids: Collection[str] | None = None) -> Snapshot:
        asked.append(asset_uuids)
        return snapshot(asset_uuids)

    monkeypatch.setattr(engine, "snapshot", note_and_ask)
    monkeypatch.setattr(pauses, "boot_seconds", lambda: boot_seconds() + 60)
    assert watched.call("stroke", sender_uuid="HMI") == "done"
    assert asked == ([] if url.startswith("memory:") else [["MILL"]])


def test_of_apps_that_start_at_once_in_one_process_one_owns_the_uuid(url: str) -> None:
    def start() -> Any:
        try:
            return Mill(KSQLDBClient(url), app_uuid="MILL")
        except AssetOwnedError as error:
            return error

    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            started = [future.result(60) for future in [pool.submit(start) for _ in range(4)]]
        [mill] = [app for app in started if not isinstance(app, AssetOwnedError)]
        for error in started:
            assert error is mill or (error.asset_uuid, error.owner) == ("MILL", mill.owner)
        assert mill.call("stroke", sender_uuid="HMI") == "done"
        mill.shutdown()


def test_an_app_that_is_taken_over_in_its_process_stops_and_leaves_the_asset(
    start: Start, url: str, watch: Watch, eventually: Eventually
) -> None:
    older = start(Mill, url, app_uuid="MILL")
    older["avail"] = "AVAILABLE"
    newer = start(Mill, url, app_uuid="MILL", take_over=True)
    newer["avail"] = "AVAILABLE"
    newer.flush()
    eventually(lambda: older._lifecycle.done)
    assert older._lifecycle.status == 1
    watched = watch("MILL")
    assert (watched.avail.value, watched.type, watched.owner) == ("AVAILABLE", "OpenFactoryApp", newer.owner)
    assert watched.call("stroke", sender_uuid="HMI", timeout=60) == "done"


@pytest.mark.parametrize("newer", ["2", "3", None])
def test_an_app_takes_over_from_no_higher_generation(
    start: Start, url: str, monkeypatch: pytest.MonkeyPatch, newer: str | None
) -> None:
    def start_generation(number: str | None) -> Any:
        if number is None:
            monkeypatch.delenv("APP_GENERATION")
        else:
            monkeypatch.setenv("APP_GENERATION", number)
        return start(Mill, url, app_uuid="MILL", take_over=True)

    assert start_generation("2").owner.generation == 2
    with pytest.raises(AssetOwnedError, match=r"as generation 2, and this is generation 1\. Stop.* `ofa apps up`"):
        start_generation("1")
    last = start_generation(newer)
    assert last.owner.generation == (None if newer is None else int(newer))
    last.shutdown()
    start_generation("1")  # nobody has the UUID now


def test_an_app_that_is_taken_over_ends_its_main_loop_with_the_error(url: str) -> None:
    class Patient(Mill):
        async def async_main_loop(self) -> None:
            await asyncio.Event().wait()

    async def take_over() -> None:
        older = Patient(KSQLDBClient(url), app_uuid="MILL")
        running = asyncio.ensure_future(older.async_run())
        assert await asyncio.to_thread(older.wait_until, "avail", "AVAILABLE", timeout=60)
        newer = await asyncio.to_thread(lambda: Mill(KSQLDBClient(url), app_uuid="MILL", take_over=True))
        with pytest.raises(AssetOwnedError, match="MILL was taken over by process"):
            await asyncio.wait_for(running, 60)
        assert newer.owner is not None
        assert newer.owner.ended is None
        await asyncio.to_thread(newer.shutdown)

    asyncio.run(take_over())
