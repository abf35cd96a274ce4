"""The testing client of openfactory.testing with an app that has web pages: routes, commands and the asset together."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from flask import Flask, session

from openfactory.apps import EventAttribute, OpenFactoryApp, OpenFactoryFlaskApp, ofa_method
from openfactory.assets import AssetAttribute
from openfactory.exceptions import CommandRejected
from openfactory.testing import AppClient

RunApp = Callable[..., AppClient[Any]]
Eventually = Callable[..., None]


class Panel(OpenFactoryFlaskApp):
    status = EventAttribute(value="idle", tag="App.Status")
    crash: Exception | None = None

    def create_flask_app(self) -> Flask:
        app = super().create_flask_app()
        app.config["SECRET_KEY"] = "a test's secret"
        return app

    def configure_routes(self) -> None:
        @self.app.route("/status")
        def status() -> dict[str, Any]:
            return {"status": self.status.value}

        @self.app.route("/start", methods=["POST"])
        def start() -> str:
            self.status = "started by a visitor"
            return "started"

        @self.app.route("/visits")
        def visits() -> dict[str, int]:
            session["visits"] = session.get("visits", 0) + 1
            return {"visits": session["visits"]}

    @ofa_method()
    def start(self, speed: int) -> str:
        self.status = f"busy at {speed}"
        return "at once"

    @ofa_method()
    async def finish(self) -> None:
        self.finished.set()

    async def async_main_loop(self) -> None:
        self.finished = asyncio.Event()
        self.status = "running"
        await self.finished.wait()
        if self.crash is not None:
            raise self.crash


@pytest.fixture
def panel(run_app: RunApp) -> AppClient[Panel]:
    return run_app(Panel, app_uuid="PANEL", host="127.0.0.1", port=0)


def _threads(*names: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


# Without a server


def test_a_route_shows_what_a_command_has_done(panel: AppClient[Panel]) -> None:
    assert panel.http.get("/status").json == {"status": "idle"}
    assert panel.call("start", speed="7") == "at once"
    assert panel.http.get("/status").json == {"status": "busy at 7"}
    with pytest.raises(CommandRejected):
        panel.call("start", speed="fast")


def test_the_asset_shows_what_a_route_has_done(panel: AppClient[Panel]) -> None:
    assert panel.http.post("/start").text == "started"
    panel.wait_until("status", "started by a visitor", timeout=60)
    assert panel.asset.status.value == "started by a visitor"
    assert panel.said("status") == ["idle", "started by a visitor"]


def test_cookies_are_kept_from_one_request_to_the_next(panel: AppClient[Panel]) -> None:
    assert [panel.http.get("/visits").json for _ in range(3)] == [{"visits": n} for n in (1, 2, 3)]
    assert panel.app.test_client().get("/visits").json == {"visits": 1}  # another visitor


def test_two_apps_of_a_test_have_their_own_cookies(panel: AppClient[Panel], run_app: RunApp) -> None:
    panel.http.get("/visits")
    assert run_app(Panel).http.get("/visits").json == {"visits": 1}


def test_the_client_of_flask_takes_its_keywords(panel: AppClient[Panel]) -> None:
    client = panel.app.test_client(use_cookies=False)
    assert [client.get("/visits").json for _ in range(2)] == [{"visits": 1}] * 2


def test_there_is_no_server_before_the_app_runs(panel: AppClient[Panel], eventually: Eventually) -> None:
    panel.http.get("/status")
    panel.call("start", speed=1)
    assert _threads("openfactory-http", "openfactory-request", "openfactory-test") == []
    panel.run()
    eventually(lambda: _threads("openfactory-http") == ["openfactory-http"])


def test_an_app_without_pages_has_nothing_to_ask(run_app: RunApp) -> None:
    class Mill(OpenFactoryApp):
        pass

    mill = run_app(Mill)
    with pytest.raises(TypeError) as caught:
        mill.http  # noqa: B018 - reading it is what fails
    assert str(caught.value) == ("Mill has no web pages. Derive it from OpenFactoryFlaskApp or OpenFactoryFastAPIApp.")


def test_an_app_that_says_something_of_a_test_client_has_no_pages_by_that(run_app: RunApp) -> None:
    """An asset has every attribute that it is asked for, so that is no sign of pages."""

    class Mill(OpenFactoryApp):
        pass

    mill = run_app(Mill)
    mill.app.add_attribute(AssetAttribute("test_client", "somebody", "Events", "Client"))
    with pytest.raises(TypeError, match="Mill has no web pages"):
        mill.http  # noqa: B018


# With one


def _port(panel: AppClient[Panel], eventually: Eventually) -> int:
    eventually(lambda: panel.http.get("/health/ready").status_code == 200)
    assert panel.app._server is not None
    return panel.app._server.port


def test_the_main_loop_and_the_server_run_beside_the_test(panel: AppClient[Panel], eventually: Eventually) -> None:
    panel.run()
    panel.wait_until("status", "running", timeout=60)
    with closing(http.client.HTTPConnection("127.0.0.1", _port(panel, eventually), timeout=30)) as connection:
        connection.request("GET", "/status")
        assert connection.getresponse().read() == b'{"status":"running"}\n'
    assert panel.http.get("/status").json == {"status": "running"}
    panel.call("finish")
    panel.wait_until("avail", "UNAVAILABLE", timeout=60)
    eventually(lambda: _threads("openfactory-http", "openfactory-test") == [])


def test_a_main_loop_that_goes_on_ends_with_the_test(eventually: Eventually) -> None:
    with AppClient(Panel, app_uuid="PANEL", host="127.0.0.1", port=0) as panel:
        panel.run()
        panel.wait_until("status", "running", timeout=60)
    eventually(lambda: _threads("openfactory-http", "openfactory-test", "openfactory-request") == [])


def test_a_crash_of_the_main_loop_fails_the_test_at_its_end(eventually: Eventually) -> None:
    panel: AppClient[Panel] = AppClient(Panel, app_uuid="PANEL", host="127.0.0.1", port=0)
    panel.__enter__()
    panel.app.crash = ValueError("out of oil")
    panel.run()
    panel.wait_until("status", "running", timeout=60)
    panel.call("finish")
    eventually(lambda: _threads("openfactory-test") == [])
    with pytest.raises(AssertionError) as caught:
        panel.__exit__(None, None, None)
    assert str(caught.value) == "PANEL crashed: ValueError('out of oil'). Its traceback is in the log."
    assert caught.value.__cause__ is panel.app.crash


def test_a_port_that_cannot_be_opened_fails_the_test_at_its_end(eventually: Eventually) -> None:
    panel: AppClient[Panel] = AppClient(Panel, app_uuid="PANEL", host="192.0.2.1", port=0)  # of another machine
    panel.__enter__()
    panel.run()
    eventually(lambda: _threads("openfactory-test") == [])
    with pytest.raises(AssertionError, match="PANEL crashed"):
        panel.__exit__(None, None, None)
