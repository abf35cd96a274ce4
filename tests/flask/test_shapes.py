"""The three shapes of an app file: routes in the class, in a Blueprint, in a Flask app that the user makes."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.flask.conftest import StartApp

pytestmark = pytest.mark.smoke

# PORT and the rest of the environment come from the fixture; only `host` is not as a user would have it.
START = """
app = {name}(
    ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
    bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    host="127.0.0.1",
)
app.run()
"""

INLINE = """
import asyncio
import os
from flask import current_app, redirect, render_template, request, url_for
from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, ofa_method
from openfactory.kafka import KSQLDBClient

class Press(OpenFactoryFlaskApp):
    force = EventAttribute(value="none", tag="Press.Force")
    strokes = EventAttribute(value="0", tag="Press.Strokes")

    def configure_routes(self):
        @self.app.route("/")
        def root():
            ofa_app = current_app.ofa_app
            return {"force": ofa_app.force.value, "avail": ofa_app.avail.value}

        @self.app.route("/press/<force>")
        def press(force):
            current_app.ofa_app.force = force
            return redirect(url_for("root"))

        @self.app.route("/page")
        def page():
            return render_template("page.html", force=self.force.value)

        @self.app.route("/seen")
        def seen():
            return {"client": request.remote_addr, "root": url_for("root", _external=True)}

        @self.app.route("/broken")
        def broken():
            raise ValueError("the press is jammed")

    @ofa_method(description="Release the press")
    def release(self):
        self.force = "none"
        return "released"

    async def async_main_loop(self):
        strokes = 0
        while True:
            await asyncio.sleep(0.02)
            strokes += 1
            self.strokes = str(strokes)
"""

PAGE = "<p>The force is {{ force }}.</p>"


def test_routes_in_the_class_work_with_the_asset_and_beside_the_main_loop(
    start_app: StartApp, file_url: str, eventually: Callable[..., None]
) -> None:
    app = start_app(INLINE + START.format(name="Press"), {"templates/page.html": PAGE})

    assert json.loads(app.ask("/").text) == {"force": "none", "avail": "AVAILABLE"}
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as panel:
        assert app.ask("/press/high").status == 302
        eventually(lambda: panel.force.value == "high")
        assert app.ask("/page").text == "<p>The force is high.</p>"

        assert panel.call("release", sender_uuid="HMI") == "released"
        assert json.loads(app.ask("/").text)["force"] == "none"

        strokes = int(panel.strokes.value)
        eventually(lambda: int(panel.strokes.value) > strokes)

    # Behind a gateway that strips the prefix
    forwarded = {
        "X_Forwarded_For": "203.0.113.9, 192.0.2.7",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "factory.example",
        "X_Forwarded_Prefix": "/my-app",
    }
    assert json.loads(app.ask("/seen", **forwarded).text) == {
        "client": "192.0.2.7",
        "root": "https://factory.example/my-app/",
    }
    assert app.ask("/press/low", **forwarded).headers["location"] == "/my-app/"
    assert app.ask("/press/low").headers["location"] == "/"

    # A route that raises
    broken = app.ask("/broken")
    assert broken.status == 500
    assert "jammed" not in broken.text
    eventually(lambda: "ValueError: the press is jammed" in app.log)
    assert app.ask("/").status == 200

    eventually(lambda: '192.0.2.7 "GET /seen HTTP/1.1" 200' in app.log)
    app.process.send_signal(signal.SIGTERM)
    assert app.ends() == 0
    assert "[PANEL] (" in app.log


BLUEPRINT = """
import os
from openfactory.apps import OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient
from routes.root import root_bp

class Panel(OpenFactoryFlaskApp):
    def configure_routes(self):
        self.app.register_blueprint(root_bp, url_prefix="/panel")
"""

ROUTES = """
from flask import Blueprint, current_app

root_bp = Blueprint("root", __name__)

@root_bp.route("/")
def root():
    return {"availability": current_app.ofa_app.avail.value}
"""


def test_routes_in_a_blueprint_work_and_no_main_loop_is_needed(start_app: StartApp) -> None:
    app = start_app(BLUEPRINT + START.format(name="Panel"), {"routes/root.py": ROUTES})

    assert json.loads(app.ask("/panel/").text) == {"availability": "AVAILABLE"}
    assert app.ask("/").status == 404

    app.process.send_signal(signal.SIGINT)
    assert app.ends() == 0


FACTORY = """
import os
from flask import Flask, session
from openfactory.apps.ofa_flask_app import OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient

class Counter(OpenFactoryFlaskApp):
    def create_flask_app(self):
        app = Flask(__name__, static_folder="pictures")
        app.config["SECRET_KEY"] = "a test's secret"
        return app

    def configure_routes(self):
        @self.app.route("/")
        def root():
            session["visits"] = session.get("visits", 0) + 1
            return {"visits": session["visits"]}
"""


def test_a_flask_app_that_the_user_makes_keeps_its_settings(start_app: StartApp) -> None:
    source = FACTORY + START.format(name="Counter")
    app = start_app(source, {"pictures/logo.txt": "a logo"}, OPENFACTORY_ROOT_PATH="/my-app")

    assert app.ask("/pictures/logo.txt").text == "a logo"
    first = app.ask("/", X_Forwarded_Prefix="/my-app")
    cookie, *rest = first.headers["set-cookie"].split("; ")
    assert "Path=/my-app" in rest
    assert json.loads(app.ask("/", Cookie=cookie).text) == {"visits": 2}

    app.process.send_signal(signal.SIGTERM)
    assert app.ends() == 0
