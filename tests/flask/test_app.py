"""The class itself, in this process: its Flask app, its rules and its runs."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import inspect
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask, Response, current_app, redirect, session, url_for

import openfactory.flaskapp.app
from openfactory.apps import EventAttribute, OpenFactoryApp, OpenFactoryFlaskApp, ofa_method
from openfactory.apps.operations.listener import listening_socket
from openfactory.apps.web.app import WebApp, WebAppOptions
from openfactory.assets import Asset
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient
from running_apps import ask


class Panel(OpenFactoryFlaskApp):
    """An app with a few routes."""

    status = EventAttribute(value="idle", tag="App.Status")

    def create_flask_app(self) -> Flask:
        app = super().create_flask_app()
        app.config.update(SECRET_KEY="a test's secret", SERVER_NAME="panel.example")
        return app

    def configure_routes(self) -> None:
        @self.app.route("/")
        def root() -> Any:
            return {"status": current_app.ofa_app.status.value}  # type: ignore[attr-defined]

        @self.app.route("/start")
        def start() -> Any:
            session["started"] = "yes"
            self.status = self.call("start", sender_uuid="HMI")
            return redirect(url_for("root"))

    @ofa_method(description="Start")
    def start(self) -> str:
        return "busy"


Build = Callable[..., Any]


@pytest.fixture
def build() -> Iterator[Build]:
    """Build an app in test mode, and shut it down at the end."""
    with ExitStack() as stack:

        def make(app_class: type[OpenFactoryFlaskApp], **options: Any) -> OpenFactoryFlaskApp:
            options = {"test_mode": True, "ksqlClient": None, "host": "127.0.0.1", **options}
            app = app_class(app_uuid=f"PANEL-{uuid4().hex}", **options)
            stack.callback(app.shutdown)
            return app

        yield make


# Where it is found


def test_every_path_leads_to_the_same_class() -> None:
    real = importlib.import_module("openfactory.flaskapp")
    fixed_path = importlib.import_module("openfactory.apps.ofa_flask_app")
    assert real.OpenFactoryFlaskApp is fixed_path.OpenFactoryFlaskApp is OpenFactoryFlaskApp
    assert fixed_path.__all__ == real.__all__
    assert all(getattr(fixed_path, name) is getattr(real, name) for name in real.__all__)
    assert issubclass(OpenFactoryFlaskApp, OpenFactoryApp)


def test_the_example_in_the_documentation_runs() -> None:
    assert doctest.testmod(openfactory.flaskapp.app).attempted > 0


# In test mode


def test_a_test_client_reaches_routes_attributes_and_methods_without_a_server(build: Build) -> None:
    client = build(Panel).app.test_client()
    assert client.get("/").json == {"status": "idle"}
    assert client.get("/start").headers["Location"] == "/"
    assert client.get("/").json == {"status": "busy"}


# APPLICATION_ROOT


@pytest.mark.parametrize(
    ("variable", "own", "root"),
    [
        (None, "/", "/"),
        ("", "/", "/"),
        ("/my-app", "/", "/my-app"),
        ("my-app/", "/", "/my-app"),
        ("/my-app", "/own", "/own"),
    ],
)
def test_the_application_root_comes_from_the_environment_unless_the_user_sets_it(
    build: Build, monkeypatch: pytest.MonkeyPatch, variable: str | None, own: str, root: str
) -> None:
    class Rooted(Panel):
        def create_flask_app(self) -> Flask:
            app = super().create_flask_app()
            app.config["APPLICATION_ROOT"] = own
            return app

    if variable is not None:
        monkeypatch.setenv("OPENFACTORY_ROOT_PATH", variable)
    app = build(Rooted).app
    assert app.config["APPLICATION_ROOT"] == root
    with app.app_context():
        assert url_for("root") == f"http://panel.example{root.rstrip('/')}/"
    assert f"Path={root}" in app.test_client().get("/start").headers["Set-Cookie"]


# The Flask app


def test_the_flask_app_is_that_of_the_users_module(build: Build) -> None:
    assert build(Panel).app.import_name == __name__


def test_the_app_is_complete_when_it_makes_its_flask_app(build: Build) -> None:
    class Curious(OpenFactoryFlaskApp):
        status = EventAttribute(value="idle", tag="App.Status")

        def create_flask_app(self) -> Flask:
            self.logger.debug("%s has %s", self.asset_uuid, self.ksql)
            app = Flask(__name__)
            app.config["STATUS"] = self.status.value
            return app

    assert build(Curious).app.config["STATUS"] == "idle"


def test_a_factory_that_returns_no_flask_app_is_refused() -> None:
    class Forgetful(OpenFactoryFlaskApp):
        def create_flask_app(self) -> Flask:
            return None  # type: ignore[return-value]

    with pytest.raises(TypeError, match=r"create_flask_app of Forgetful returned None\. Return the Flask app"):
        Forgetful(None, test_mode=True)


# Rules


def test_a_main_loop_that_is_mixed_in_is_refused_too() -> None:
    class Loop:
        def main_loop(self) -> None: ...

    with pytest.raises(TypeError, match="async_main_loop"):

        class Mixed(Loop, OpenFactoryFlaskApp): ...


# Runs


class Visited(Panel):
    """Asks itself for a page as soon as its main loop runs, then returns or raises."""

    failure: Exception | None = None
    answer: bytes | None = None

    async def async_main_loop(self) -> None:
        self.answer = await asyncio.to_thread(self._visit)
        if self.failure is not None:
            raise self.failure

    def _visit(self) -> bytes:
        assert self._server is not None
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=10) as connection:
            connection.sendall(b"GET /?x=%1b HTTP/1.1\r\nHost: panel.example\r\nConnection: close\r\n\r\n")
            return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]


@pytest.fixture
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")


@pytest.mark.usefixtures("any_port")
def test_run_returns_when_the_main_loop_returns(eventually: Callable[..., None]) -> None:
    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        app = Visited(client, app_uuid=f"PANEL-{uuid4().hex}", host="127.0.0.1")
        with Asset(app.asset_uuid, client) as panel:
            app.run()
            assert app.answer == b'{"status":"idle"}\n'
            eventually(lambda: panel.avail.value == "UNAVAILABLE")
            assert panel.type == "UNAVAILABLE"


def test_the_options_of_the_server_are_arguments_of_the_app(build: Build) -> None:
    app = build(Panel, silence_timeout=0.2, max_connections_per_address=1)
    server = app._create_server(listening_socket("127.0.0.1", 0))
    server.start(pytest.fail)
    first, second = (socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(2))
    with first, second:
        assert first.recv(1) == b""  # the second takes its place
        assert second.recv(1) == b""  # it is silent
    server.stop(60)


def test_an_upgraded_connection_is_logged_and_counted_as_one(build: Build, caplog: pytest.LogCaptureFixture) -> None:
    class Upgraded(Response):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            environ["werkzeug.socket"].sendall(b"welcome")
            raise ConnectionError  # as libraries for WebSocket end their connection

    class Live(Panel):
        def configure_routes(self) -> None:
            self.app.add_url_rule("/live", view_func=Upgraded)

    app = build(Live)
    server = app._create_server(listening_socket("127.0.0.1", 0))
    server.start(pytest.fail)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: panel.example\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(100), b"")) == b"welcome"
    server.stop(60)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO][-1:] == [
        '127.0.0.1 "GET /live HTTP/1.1" 101 -'
    ]
    metrics = app.test_client().get("/metrics").text
    assert 'status="101"} 1' in metrics
    assert "openfactory_http_request_seconds_count{" not in metrics  # its time would be that of the connection


def test_a_response_that_the_server_refuses_is_logged_and_counted_as_an_error(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    class Refused(Response):
        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            start_response("200 OK", [("X-Name", "two\nlines")])
            return []

    class Broken(Panel):
        def configure_routes(self) -> None:
            self.app.add_url_rule("/refused", view_func=Refused)

    app = build(Broken)
    server = app._create_server(listening_socket("127.0.0.1", 0))
    server.start(pytest.fail)
    assert ask(server.port, "/refused").status == 500
    server.stop(60)
    assert '127.0.0.1 "GET /refused HTTP/1.1" 500 -' in caplog.messages
    metrics = app.test_client().get("/metrics").text
    assert 'route="/refused",status="500"} 1' in metrics
    assert 'route="/refused",status="200"' not in metrics


def test_the_options_that_are_passed_on_are_those_of_every_web_app() -> None:
    parameters = inspect.signature(WebApp.__init__).parameters.values()
    assert WebAppOptions.__annotations__.keys() == {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}


@pytest.mark.parametrize("option", ["silence_timeout", "max_connections_per_address"])
def test_an_option_that_would_serve_nobody_is_refused(option: str) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(ConfigurationError, match=rf"{option} is 0\. Pass a number above 0"):
        Panel(None, test_mode=True, **options)


def test_a_page_that_uses_a_missing_storage_logs_that_it_is_not_set(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    class Recipes(Panel):
        def configure_routes(self) -> None:
            @self.app.get("/recipes")
            def recipes() -> str:
                return str(self.storage.get("recipes").root)

    assert build(Recipes).test_client().get("/recipes").status_code == 500
    assert "app.storage is None, because STORAGE is not set." in caplog.text
