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
from uuid import uuid4

import pytest
from flask import Blueprint, Flask, abort
from werkzeug.test import TestResponse

from openfactory.apps import OpenFactoryFlaskApp
from openfactory.assets import Asset
from openfactory.exceptions import ConfigurationError
from openfactory.kafka import KSQLDBClient
from openfactory.testing import AppClient

if TYPE_CHECKING:
    from tests.flask.conftest import StartApp

Eventually = Callable[..., None]
Routes = Callable[[Flask], object]
Asked = Callable[..., TestResponse]

RunApp = Callable[..., AppClient[Any]]


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


# What is said


def test_an_app_that_does_not_run_yet_is_alive_and_not_ready(ask: Callable[..., Asked]) -> None:
    panel = ask()
    live = panel("GET", "/health/live")
    assert (live.status_code, live.mimetype, live.json) == (200, "application/json", {"status": "alive"})
    ready = panel("GET", "/health/ready")
    assert (ready.status_code, ready.mimetype) == (503, "application/json")
    assert ready.json == {
        "status": "not ready",
        "reasons": ["The web server does not accept requests.", "PANEL is UNAVAILABLE."],
    }


def test_nobody_on_the_way_keeps_an_answer(ask: Callable[..., Asked]) -> None:
    panel = ask()
    assert panel("GET", "/health/ready").headers["Cache-Control"] == "no-store"


def test_a_running_app_is_ready_as_long_as_it_says_that_it_is_available(
    run_app: RunApp, eventually: Eventually
) -> None:
    panel = run_app(OpenFactoryFlaskApp, app_uuid="PANEL", host="127.0.0.1", port=0)
    panel.run()
    eventually(lambda: panel.http.get("/health/ready").status_code == 200)
    assert panel.http.get("/health/ready").json == {"status": "ready"}
    panel.app.avail = "UNAVAILABLE"
    ready = panel.http.get("/health/ready")
    assert (ready.status_code, ready.json["reasons"]) == (503, ["PANEL is UNAVAILABLE."])
    assert panel.http.get("/health/live").status_code == 200
    panel.app.avail = "AVAILABLE"
    assert panel.http.get("/health/ready").status_code == 200


def test_an_app_that_has_stopped_is_not_ready_and_says_so_without_an_error(ask: Callable[..., Asked]) -> None:
    panels: list[OpenFactoryFlaskApp] = []
    panel = ask(lambda app: panels.append(app.ofa_app))
    panels[0].shutdown()
    ready = panel("GET", "/health/ready")
    assert ready.status_code == 503
    assert ready.json is not None
    assert "The engine is closed." in ready.json["reasons"]


def test_an_app_gives_its_own_health() -> None:
    panel = OpenFactoryFlaskApp(None, test_mode=True, app_uuid="PANEL")
    health = panel.app_health()
    assert (health.asset_uuid, health.availability, health.serving) == ("PANEL", "UNAVAILABLE", False)
    assert (health.connections, health.streams, health.waiting_commands) == (0, 0, 0)
    assert health.engine.connected
    assert health.reasons == ["The web server does not accept requests.", "PANEL is UNAVAILABLE."]
    panel.avail = "AVAILABLE"
    assert panel.app_health().reasons == ["The web server does not accept requests."]
    assert health.availability == "UNAVAILABLE"  # it is a value, and stays as it was
    panel.shutdown()


# How it is asked


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_head_is_get_without_a_body(ask: Callable[..., Asked], path: str) -> None:
    panel = ask()
    head, get = panel("HEAD", path), panel("GET", path)
    assert (head.status, head.data) == (get.status, b"")
    assert head.headers == get.headers
    assert int(get.headers["Content-Length"]) == len(get.data) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_the_apps(ask: Callable[..., Asked], method: str) -> None:
    assert ask()(method, "/health/live").status_code == 404

    def ready(app: Flask) -> None:
        app.add_url_rule("/health/ready", view_func=lambda: "the user's", methods=["PATCH"])

    own = ask(ready)(method, "/health/ready")
    assert own.status_code == (200 if method == "OPTIONS" else 405)
    assert set(own.headers["Allow"].split(", ")) == {"OPTIONS", "PATCH"}


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/live/", "/health/lively", "/health/live/x"])
def test_paths_beside_them_are_the_apps(ask: Callable[..., Asked], path: str) -> None:
    assert ask()("GET", path).status_code == 404


def test_behind_a_gateway_they_are_under_its_prefix(ask: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFACTORY_ROOT_PATH", "/my-app")
    panel = ask()
    assert panel("GET", "/health/live", headers={"X-Forwarded-Prefix": "/my-app"}).status_code == 200
    assert panel("GET", "/health/live").status_code == 200  # an orchestrator comes past the gateway


def test_they_may_be_elsewhere(ask: Callable[..., Asked]) -> None:
    panel = ask(health_path="/-/state")
    assert panel("GET", "/-/state/live").json == {"status": "alive"}
    assert panel("GET", "/-/state/ready").status_code == 503
    assert panel("GET", "/health/live").status_code == panel("GET", "/health/ready").status_code == 404


def test_they_may_be_nowhere(ask: Callable[..., Asked]) -> None:
    panel = ask(health_path=None)
    assert panel("GET", "/health/live").status_code == panel("GET", "/health/ready").status_code == 404
    assert panel("GET", "/metrics").status_code == 200  # this one is switched off by itself


@pytest.mark.parametrize("option", ["health_path", "metrics_path"])
@pytest.mark.parametrize("path", ["state", "/", "", "/state/", "//state"])
def test_a_path_that_nothing_can_be_served_at_is_refused_before_anything_is_announced(option: str, path: str) -> None:
    uuid = f"PANEL-{uuid4().hex}"
    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        with pytest.raises(ConfigurationError, match=f"{option} is '{path}', .*None"):
            OpenFactoryFlaskApp(client, app_uuid=uuid, **{option: path})  # type: ignore[arg-type]
        with Asset(uuid, client) as panel:
            assert panel.attributes() == []


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


def test_only_the_path_of_the_users_own_is_theirs(ask: Callable[..., Asked]) -> None:
    panel = ask(_own)
    assert panel("GET", "/health/live").text == "the user's"
    assert panel("GET", "/health/ready").json is not None


def test_one_that_takes_only_posts_is_theirs_as_a_whole(ask: Callable[..., Asked]) -> None:
    panel = ask(lambda app: app.add_url_rule("/health/live", view_func=lambda: "the user's", methods=["POST"]))
    assert panel("POST", "/health/live").text == "the user's"
    assert panel("GET", "/health/live").status_code == 405


def test_one_for_other_methods_than_a_route_for_every_path_is_theirs_too(ask: Callable[..., Asked]) -> None:
    def routes(app: Flask) -> None:
        _single_page(app, "/<path:page>", methods=["POST", "PUT"])
        app.add_url_rule("/health/live", view_func=lambda: "the user's", methods=["PATCH"])

    panel = ask(routes)
    assert panel("PATCH", "/health/live").text == "the user's"
    assert panel("GET", "/health/live").status_code == 405


def test_one_with_a_slash_at_its_end_is_theirs_and_redirects_as_ever(ask: Callable[..., Asked]) -> None:
    panel = ask(lambda app: app.add_url_rule("/health/live/", view_func=lambda: "the user's"))
    redirect = panel("GET", "/health/live", headers={"X-Forwarded-Prefix": "/my-app"})
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "http://localhost/my-app/health/live/")
    assert panel("GET", "/health/live/").text == "the user's"


def test_one_that_leads_elsewhere_is_theirs(ask: Callable[..., Asked]) -> None:
    panel = ask(lambda app: app.add_url_rule("/health/live", "moved", redirect_to="/alive"))
    redirect = panel("GET", "/health/live")
    assert (redirect.status_code, redirect.headers["Location"]) == (308, "http://localhost/alive")


def test_one_that_comes_later_counts_too(ask: Callable[..., Asked]) -> None:
    """Flask takes routes until it has answered its first request, and the pages of this module are none to it."""
    apps: list[Flask] = []
    panel = ask(apps.append)
    assert panel("GET", "/health/live").json == {"status": "alive"}
    _own(apps[0])
    assert panel("GET", "/health/live").text == "the user's"


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


def test_a_login_that_the_app_asks_for_does_not_reach_them(ask: Callable[..., Asked]) -> None:
    def only_with_login(app: Flask) -> None:
        app.before_request(lambda: abort(401))
        app.add_url_rule("/", view_func=lambda: "a secret")

    panel = ask(only_with_login)
    assert panel("GET", "/").status_code == 401
    assert panel("GET", "/health/live").status_code == 200
    assert panel("GET", "/health/ready").status_code == 503


def test_a_login_guards_a_page_of_the_users_own(ask: Callable[..., Asked]) -> None:
    def only_with_login(app: Flask) -> None:
        app.before_request(lambda: abort(401))
        _own(app)

    assert ask(only_with_login)("GET", "/health/live").status_code == 401


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
