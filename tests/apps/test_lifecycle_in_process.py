"""From start to stop within one process: what happens, in which order, and that nothing prevents the rest."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.engines import Engine
from openfactory.exceptions import EngineClosedError

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


def test_stopping_twice_stops_once(start: Start) -> None:
    app = start(Quiet)
    threads = [threading.Thread(target=app.shutdown) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    app.shutdown()
    app.close()
    assert app.calls == [RUN[2]]


def test_who_stops_second_waits_until_it_is_done(start: Start, eventually: Eventually) -> None:
    reached, go_on = threading.Event(), threading.Event()

    class Slow(Quiet):
        def app_event_loop_stopped(self) -> None:
            reached.set()
            go_on.wait(10)
            super().app_event_loop_stopped()

    app = start(Slow, stop_timeout=30)
    first = threading.Thread(target=app.shutdown)
    first.start()
    reached.wait(10)
    second = threading.Thread(target=app.shutdown)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    second.join(10)
    assert app.calls == [RUN[2]]
    first.join()


def test_the_steps_of_a_stop_come_in_order(start: Start, watch: Watch, engine: Engine, url: str) -> None:
    """Commands end, it is UNAVAILABLE, it is off the register, all that is acknowledged, the hook, the end."""
    order: list[object] = []

    class Ordered(Quiet):
        @ofa_method()
        def work(self) -> str:
            began.set()
            time.sleep(0.1)
            order.append(("work ends", engine.availability(), engine.types()))
            self["avail"] = "AVAILABLE"
            return "worked"

        def app_event_loop_stopped(self) -> None:
            [last] = [event for event in engine.snapshot(["MILL"]).events["MILL"] if event.id == "avail"]
            order.append(("hook", last.value, engine.availability(), engine.types()))
            self.add_attribute(self["avail"])  # the connection is still there

    began = threading.Event()
    app = start(Ordered, url, app_uuid="MILL", stop_timeout=10)
    watch("MILL").work(sender_uuid="HMI")
    assert began.wait(10)
    app.shutdown()
    assert order == [
        ("work ends", {"MILL": "UNAVAILABLE"}, {"MILL": "OpenFactoryApp"}),
        ("hook", "UNAVAILABLE", {}, {}),
    ]
    assert watch("MILL")["work_REPLY"].value.count("worked") == 1


def test_a_hook_that_raises_is_logged_and_the_stop_goes_on(start: Start, log: pytest.LogCaptureFixture) -> None:
    for error in (ValueError("on purpose"), SystemExit(3)):

        class Failing(Quiet):
            error_to_raise = error

            def app_event_loop_stopped(self) -> None:
                raise self.error_to_raise

        log.clear()
        start(Failing, app_uuid="MILL").shutdown()
        assert any("app_event_loop_stopped" in message for message in log.messages)


def test_a_hook_that_does_not_return_is_left_behind_in_time(start: Start, log: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()

    class Hanging(Quiet):
        def app_event_loop_stopped(self) -> None:
            go_on.wait(30)

    app = start(Hanging, app_uuid="MILL", stop_timeout=0.5)
    started = time.monotonic()
    app.shutdown()
    assert time.monotonic() - started < 2
    assert any("stop_timeout" in message for message in log.messages)
    go_on.set()


def test_the_hook_may_close_the_client_as_on_the_page(start: Start, engine: Engine, url: str) -> None:
    class Page(Quiet):
        def app_event_loop_stopped(self) -> None:
            self.ksql.close()

    start(Page, url, app_uuid="MILL").run()
    assert engine.types() == {}


def test_a_stop_goes_on_when_the_place_of_the_data_is_gone(
    start: Start, tmp_path: Path, log: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    app = start(Quiet, f"sqlite:///{tmp_path}/factory.db", app_uuid="MILL")
    for path in tmp_path.glob("factory.db*"):
        if path.is_file():
            path.unlink()
    eventually(lambda: not app._engine.health().connected)
    app.shutdown()
    assert [call[0] for call in app.calls] == ["stopped"]


def test_a_method_that_blocks_does_not_hold_up_the_stop(start: Start, watch: Watch, url: str) -> None:
    go_on, began = threading.Event(), threading.Event()

    class Blocking(Quiet):
        @ofa_method()
        def block(self) -> None:
            began.set()
            go_on.wait(30)

    app = start(Blocking, url, app_uuid="MILL", stop_timeout=1)
    watch("MILL").block(sender_uuid="HMI")
    assert began.wait(10)
    started = time.monotonic()
    app.shutdown()
    assert time.monotonic() - started < 3
    assert app.calls == [RUN[2]]
    go_on.set()


def test_outside_the_main_thread_an_app_works_and_says_that_it_has_no_signal_handlers(
    start: Start, log: pytest.LogCaptureFixture
) -> None:
    apps: list[Quiet] = []

    def work() -> None:
        apps.append(start(Quiet, app_uuid="MILL"))
        apps[0].run()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert apps[0].calls == RUN
    assert sum("no signal handlers" in message for message in log.messages) == 1


def test_a_stopped_app_writes_no_more(start: Start) -> None:
    app = start(Quiet)
    app.shutdown()
    with pytest.raises(EngineClosedError):
        app["avail"] = "AVAILABLE"
