"""The stop within one process: its steps, their order, and that nothing prevents the rest."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp, lifecycle, ofa_method
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
    reached.wait(60)
    second = threading.Thread(target=app.shutdown)
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    second.join(60)
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
    assert began.wait(60)
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
    assert time.monotonic() - started < 25
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
    assert began.wait(60)
    started = time.monotonic()
    app.shutdown()
    assert time.monotonic() - started < 25
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


def test_an_error_of_a_main_loop_is_not_lost_when_a_stop_from_elsewhere_ends_first() -> None:
    class Broken(OpenFactoryApp):
        async def async_main_loop(self) -> None:
            stop = threading.Thread(target=self.shutdown)
            stop.start()
            stop.join()  # without the event loop, which has to cancel the main loop afterwards
            raise ValueError("out of oil")

    app = Broken(None, test_mode=True, app_uuid="MILL")
    with pytest.raises(ValueError, match="out of oil"):
        asyncio.run(app.async_run())


def test_the_end_keeps_what_was_printed_before_another_stream_took_the_place_of_standard_output() -> None:
    program = """
import io, sys
from openfactory.apps.lifecycle import end_process
print("kept")
sys.stdout = io.StringIO()
end_process(3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout.split()) == (3, [b"kept"])


def test_a_stopped_app_writes_no_more(start: Start) -> None:
    app = start(Quiet)
    app.shutdown()
    with pytest.raises(EngineClosedError):
        app["avail"] = "AVAILABLE"


def test_a_process_that_is_ended_by_the_time_limit_tells_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    statuses: list[int] = []
    go_on = threading.Event()
    monkeypatch.setattr(lifecycle, "end_process", statuses.append)
    monkeypatch.setattr(lifecycle, "APPS", ())
    stopping = threading.Event()

    def steps(_: float) -> None:
        stopping.set()
        go_on.wait(60)

    app = lifecycle.Lifecycle(steps, 0.1, lambda *_: None, logging.getLogger())
    thread = threading.Thread(target=app.stop)
    thread.start()
    assert stopping.wait(60)
    app.request(signal.SIGTERM)
    eventually(lambda: statuses == [1])
    go_on.set()
    thread.join(60)
    assert "The stop did not end within 0.1 s, so the process ends" in caplog.text
    assert "its last published events were not written. Set a longer stop_timeout" in caplog.text
