"""What gateways and orchestrators ask an app for: whether it is alive, and whether it is ready."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint, Flask
from werkzeug.test import TestResponse

from openfactory.apps import OpenFactoryFlaskApp
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.flask.conftest import StartApp

Eventually = Callable[..., None]
Routes = Callable[[Flask], object]
Asked = Callable[..., TestResponse]


@pytest.fixture
def ask() -> Iterator[Callable[..., Asked]]:
    """An app with some routes, in test mode, by what asks it: `ask(routes, health_path="/state")("GET", "/state")`."""
    with ExitStack() as stack:

        def make(routes: Routes = lambda app: None, **options: Any) -> Asked:
            class Panel(OpenFactoryFlaskApp):
                def configure_routes(self) -> None:
                    routes(self.app)

            panel = Panel(None, test_mode=True, app_uuid="PANEL", **options)
            stack.callback(panel.shutdown)
            client = panel.test_client()
            return lambda method, path, **keywords: client.open(path, method=method, **keywords)

        yield make


# How it is asked


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_the_apps(ask: Callable[..., Asked], method: str) -> None:
    assert ask()(method, "/health/live").status_code == 404

    def ready(app: Flask) -> None:
        app.add_url_rule("/health/ready", view_func=lambda: "the user's", methods=["PATCH"])

    own = ask(ready)(method, "/health/ready")
    assert own.status_code == (200 if method == "OPTIONS" else 405)
    assert set(own.headers["Allow"].split(", ")) == {"OPTIONS", "PATCH"}


# The app's own routes come first


def _own(app: Flask) -> None:
    app.add_url_rule("/health/live", view_func=lambda: "the user's")


def _own_in_a_blueprint(app: Flask) -> None:
    blueprint = Blueprint("state", __name__, url_prefix="/health")
    blueprint.add_url_rule("/live", view_func=lambda: "the user's")
    app.register_blueprint(blueprint)


def _own_with_a_part_that_varies(app: Flask) -> None:
    app.add_url_rule("/health/<word>", view_func=lambda word: "the user's")


def _own_beside_a_catch_all(app: Flask) -> None:
    _single_page(app, "/<path:page>")
    _own(app)


@pytest.mark.parametrize("routes", [_own, _own_in_a_blueprint, _own_with_a_part_that_varies, _own_beside_a_catch_all])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_route_of_the_users_own_is_answered(ask: Callable[..., Asked], routes: Routes, method: str) -> None:
    panel = ask(routes)
    own = panel(method, "/health/live")
    assert (own.status_code, own.mimetype, own.headers["Content-Length"]) == (200, "text/html", "10")


def test_one_for_other_methods_than_a_route_for_every_path_is_theirs_too(ask: Callable[..., Asked]) -> None:
    def routes(app: Flask) -> None:
        _single_page(app, "/<path:page>", methods=["POST", "PUT"])
        app.add_url_rule("/health/live", view_func=lambda: "the user's", methods=["PATCH"])

    panel = ask(routes)
    assert panel("PATCH", "/health/live").text == "the user's"
    assert panel("GET", "/health/live").status_code == 405


def test_one_that_leads_elsewhere_is_theirs(ask: Callable[..., Asked]) -> None:
    panel = ask(lambda app: app.add_url_rule("/health/live", "moved", redirect_to="/alive"))
    redirect = panel("GET", "/health/live")
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "http://localhost/alive")


def test_a_folder_of_static_files_there_is_the_users(ask: Callable[..., Asked], tmp_path: Path) -> None:
    (tmp_path / "live").write_text("a file")

    class Filed(OpenFactoryFlaskApp):
        def create_flask_app(self) -> Flask:
            return Flask(__name__, static_folder=str(tmp_path), static_url_path="/health")

    panel = Filed(None, test_mode=True)
    answer = panel.test_client().get("/health/live")
    assert answer.text == "a file"
    answer.close()
    panel.shutdown()


# What is meant for all of the app's pages is not meant for these


def _single_page(app: Flask, rule: str, **options: Any) -> None:
    app.add_url_rule(rule, "page", lambda **parts: "a page", **options)


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        ("/<path:page>", {}),
        ("/<path:page>", {"methods": ["POST"]}),
        ("/<path:page>/", {}),
        ("/<folder>/<page>", {}),
        ("/<folder>/<page>/", {"methods": ["GET", "POST"]}),
    ],
)
def test_a_route_for_every_path_does_not_hide_them(
    ask: Callable[..., Asked], rule: str, options: dict[str, Any]
) -> None:
    panel = ask(lambda app: _single_page(app, rule, **options))
    assert panel("GET", "/health/live").json == {"status": "alive"}
    method = options.get("methods", ["GET"])[0]
    assert panel(method, "/any/where" + "/" * rule.endswith("/")).text == "a page"


def test_static_files_at_the_root_do_not_hide_them(ask: Callable[..., Asked], tmp_path: Path) -> None:
    class Filed(OpenFactoryFlaskApp):
        def create_flask_app(self) -> Flask:
            return Flask(__name__, static_folder=str(tmp_path), static_url_path="")

    panel = Filed(None, test_mode=True)
    assert panel.test_client().get("/health/live").json == {"status": "alive"}
    panel.shutdown()


@pytest.mark.parametrize("host", ["panel.example", "192.0.2.7:4000", "localhost"])
def test_an_app_with_a_name_answers_whoever_comes_by_another(ask: Callable[..., Asked], host: str) -> None:
    """An orchestrator asks by address, whatever SERVER_NAME says."""
    panel = ask(lambda app: app.config.update(SERVER_NAME="panel.example"))
    assert panel("GET", "/health/live", headers={"Host": host}).status_code == 200


# As a process

PANEL = """
import os
import threading
from flask import current_app
from openfactory.apps import OpenFactoryFlaskApp, ofa_method
from openfactory.kafka import KSQLDBClient

class Panel(OpenFactoryFlaskApp):
    def configure_routes(self):
        self.opened = threading.Event()

        @self.app.route("/hold")
        def hold():
            self.avail_told = self.avail.value
            self.add_attribute(held)
            self.opened.wait(60)
            return self.app.test_client().get("/health/ready").json

    @ofa_method()
    def open(self):
        self.opened.set()

from openfactory.assets import AssetAttribute
held = AssetAttribute("held", "yes", "Events", "Panel.Held")
Panel(
    ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL")),
    bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    stop_timeout=60,
).run()
"""


def test_a_process_is_ready_until_its_data_is_gone(start_app: StartApp, tmp_path: Path, eventually: Eventually) -> None:
    app = start_app(PANEL, OPENFACTORY_HOST="127.0.0.1")
    eventually(lambda: app.ask("/health/ready").status == 200)
    assert json.loads(app.ask("/health/ready").text) == {"status": "ready"}
    os.rename(tmp_path / "factory.db", tmp_path / "elsewhere.db")
    ready = app.ask("/health/ready")
    assert ready.status == 503
    [reason] = json.loads(ready.text)["reasons"]
    assert reason.startswith(f"{tmp_path}/factory.db was removed or replaced")
    assert app.ask("/health/live").status == 200
    os.rename(tmp_path / "elsewhere.db", tmp_path / "factory.db")
    assert app.ask("/health/ready").status == 200


def test_a_process_that_stops_is_no_longer_ready(start_app: StartApp, file_url: str, eventually: Eventually) -> None:
    app = start_app(PANEL, OPENFACTORY_HOST="127.0.0.1")
    eventually(lambda: app.ask("/health/ready").status == 200)
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as panel, ThreadPoolExecutor(1) as pool:
        held = pool.submit(app.ask, "/hold")
        eventually(lambda: panel.held.value == "yes")
        app.process.send_signal(signal.SIGTERM)
        eventually(app.refuses)  # whoever asks now gets no connection
        panel.call("open", sender_uuid="HMI", timeout=30)
        reasons = json.loads(held.result(timeout=30).text)["reasons"]
        assert reasons == ["The web server does not accept requests."]
    assert app.ends(60) == 0, app.log
