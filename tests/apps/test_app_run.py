"""run() and async_run(): the main loop returns, raises, exits or is cancelled, and the app is stopped each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp
from openfactory.assets import Asset
from openfactory.engines import Engine

pytestmark = pytest.mark.smoke

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


class Quiet(OpenFactoryApp):
    """Notes what is called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[object] = []

    def welcome_banner(self) -> None:
        self.calls.append("banner")

    def main_loop(self) -> None:
        self.calls.append(("main loop", self["avail"].value))

    async def async_main_loop(self) -> None:
        self.calls.append(("async main loop", self["avail"].value))

    def app_event_loop_stopped(self) -> None:
        self.calls.append(("stopped", self["avail"].value, self.type))


RUN = ["banner", ("main loop", "AVAILABLE"), ("stopped", "UNAVAILABLE", "UNAVAILABLE")]


def availability(engine: Engine) -> list[object]:
    return [event.value for event in engine.history("MILL", "avail")]


def test_an_app_that_ends_by_itself_is_stopped(start: Start, engine: Engine, url: str) -> None:
    app = start(Quiet, url, app_uuid="MILL")
    assert app.run() is None
    assert app.calls == RUN
    assert availability(engine) == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE"]
    assert engine.types() == {}


def test_an_async_app_that_ends_by_itself_is_stopped(start: Start, engine: Engine, url: str) -> None:
    app = start(Quiet, url, app_uuid="MILL")
    asyncio.run(app.async_run())
    assert app.calls == ["banner", ("async main loop", "AVAILABLE"), RUN[-1]]
    assert availability(engine) == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE"]
    assert engine.types() == {}


def test_a_crash_is_logged_and_stops_the_app_and_ends_with_status_1(
    start: Start, engine: Engine, url: str, log: pytest.LogCaptureFixture
) -> None:
    class Crashing(Quiet):
        def main_loop(self) -> None:
            raise ValueError("on purpose")

    app = start(Crashing, url, app_uuid="MILL")
    with pytest.raises(SystemExit) as caught:
        app.run()
    assert caught.value.code == 1
    assert app.calls == [RUN[0], RUN[2]]
    assert engine.types() == {}
    [record] = [record for record in log.records if record.exc_info]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "on purpose"


def test_an_async_crash_is_logged_and_stops_the_app_and_comes_out(
    start: Start, engine: Engine, url: str, log: pytest.LogCaptureFixture
) -> None:
    class Crashing(Quiet):
        async def async_main_loop(self) -> None:
            raise ValueError("on purpose")

    app = start(Crashing, url, app_uuid="MILL")
    with pytest.raises(ValueError, match="on purpose"):
        asyncio.run(app.async_run())
    assert app.calls == [RUN[0], RUN[2]]
    assert engine.types() == {}
    assert sum(record.exc_info is not None for record in log.records) == 1


def test_a_crash_before_the_main_loop_stops_the_app_too(start: Start, engine: Engine, url: str) -> None:
    class Crashing(Quiet):
        def welcome_banner(self) -> None:
            raise ValueError("on purpose")

    app = start(Crashing, url, app_uuid="MILL")
    with pytest.raises(SystemExit) as caught:
        app.run()
    assert caught.value.code == 1
    assert app.calls == [RUN[2]]
    assert engine.types() == {}


def test_a_main_loop_that_exits_keeps_its_status(start: Start, engine: Engine, url: str) -> None:
    class Exiting(Quiet):
        def main_loop(self) -> None:
            raise SystemExit(3)

    app = start(Exiting, url, app_uuid="MILL")
    with pytest.raises(SystemExit) as caught:
        app.run()
    assert caught.value.code == 3
    assert engine.types() == {}


def test_an_app_without_a_main_loop_says_so(start: Start, log: pytest.LogCaptureFixture) -> None:
    app = start(type("Mill", (OpenFactoryApp,), {"welcome_banner": lambda self: None}), app_uuid="MILL")
    with pytest.raises(NotImplementedError, match=r"Mill has no main_loop\. Define it, or use async_run\(\)\."):
        app.main_loop()
    with pytest.raises(NotImplementedError, match=r"Mill has no async_main_loop\. Define it, or use run\(\)\."):
        asyncio.run(app.async_main_loop())
    with pytest.raises(SystemExit) as caught:
        app.run()
    assert caught.value.code == 1
    assert any(record.exc_info and isinstance(record.exc_info[1], NotImplementedError) for record in log.records)


def test_an_async_app_that_is_cancelled_is_stopped(
    start: Start, engine: Engine, url: str, eventually: Eventually
) -> None:
    class Endless(Quiet):
        async def async_main_loop(self) -> None:
            await super().async_main_loop()
            await asyncio.sleep(3600)

    app = start(Endless, url, app_uuid="MILL")

    async def main() -> None:
        running = asyncio.create_task(app.async_run())
        while len(app.calls) < 2:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert app.calls[-1] == RUN[2]
    assert engine.types() == {}
