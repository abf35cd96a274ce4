"""Flask, for the promises of `web_promises`."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

from flask import Blueprint, Flask, Response, abort, redirect, request, url_for

from openfactory.apps import OpenFactoryFlaskApp
from openfactory.flaskapp import send_stored_file, sse
from running_apps import Answer
from web_site import Framework, PanelCommands

__all__ = ["FLASK"]


class Panel(PanelCommands, OpenFactoryFlaskApp):
    """An app with routes and commands of all outcomes."""

    def configure_routes(self) -> None:
        self.go_on = threading.Event()
        store = Blueprint("store", __name__, url_prefix="/store")

        @self.app.route("/")
        def root() -> dict[str, str]:
            return {"status": self.status.value}

        @store.route("/bins/<name>", methods=["GET", "PUT"])
        def bin(name: str) -> str:
            return name

        @self.app.route("/parts/<int:number>")
        def part(number: int) -> str:
            return f"part {number}"

        @self.app.route("/body", methods=["POST"])
        def body() -> str:
            return str(len(request.get_data()))

        @self.app.route("/broken")
        def broken() -> str:
            raise ValueError("out of oil")

        @self.app.route("/slow")
        def slow() -> str:
            time.sleep(0.06)
            return "at last"

        @self.app.route("/live")
        def live() -> Response:
            return sse(self, heartbeat=0.05)

        @self.app.route("/seen")
        def seen() -> dict[str, Any]:
            outside = url_for("root", _external=True)
            return {"client": request.remote_addr, "scheme": request.scheme, "root": outside}

        @self.app.route("/leave")
        def leave() -> Any:
            return redirect(url_for("root"))

        @self.app.route("/slash/")
        def slash() -> str:
            return "slash"

        @self.app.route("/files/<path:name>", methods=["GET", "POST"])
        def file(name: str) -> Response:
            return send_stored_file(self.storage, name)

        @self.app.route("/download/<path:name>")
        def download(name: str) -> Response:
            options = {"mimetype": request.args.get("type"), "download_name": request.args.get("as")}
            return send_stored_file(self.storage, name, as_attachment=True, **options)

        @self.app.route("/write/<kind>")
        def write(kind: str) -> Any:
            return self.write(kind)

        self.app.register_blueprint(store)


class Patient(OpenFactoryFlaskApp):
    """An app with a route that ends when it is told to."""

    def configure_routes(self) -> None:
        self.arrived, self.opened = threading.Event(), threading.Event()

        @self.app.route("/hold")
        def hold() -> str:
            self.arrived.set()
            return "held" if self.opened.wait(60) else "given up"


GATE = """
import os
import threading
from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, ofa_method
from openfactory.kafka import KSQLDBClient

class Gate(OpenFactoryFlaskApp):
    held = EventAttribute(value="no", tag="Gate.Held")

    def configure_routes(self):
        self.opened = threading.Event()

        @self.app.route("/")
        def root():
            return "here"

        @self.app.route("/avail")
        def avail():
            return self.avail.value

        @self.app.route("/hold")
        def hold():
            self.held = "yes"
            self.opened.wait(60)
            return {"avail": self.avail.value}

        @self.app.route("/stop")
        def stop():
            self.shutdown()
            return "stopped by a route"

        @self.app.route("/cut-the-line")
        def cut_the_line():
            self._server.socket.close()
            return "cut"

    @ofa_method(description="Let the held request go on")
    def open(self):
        self.opened.set()

    def app_event_loop_stopped(self):
        print("stopped", flush=True)

app = Gate(
    KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=float(os.environ["STOP_TIMEOUT"])
)
app.run()
print("run returned")
"""

FURNACE = """
import os
from openfactory.apps import EventAttribute, OpenFactoryFlaskApp
from openfactory.flaskapp import current_ofa_app, sse
from openfactory.kafka import KSQLDBClient

class Furnace(OpenFactoryFlaskApp):
    status = EventAttribute(value="cold", tag="Furnace.Status")

    def configure_routes(self):
        @self.app.route("/events")
        def events():
            return sse(current_ofa_app(), attributes=["status"])

        @self.app.route("/open")
        def open_streams():
            unread = sum(len(events._events) for events in self.open_streams._open)
            return {"streams": len(self.open_streams), "unread": unread, "status": self.status.value[:10]}

app = Furnace(KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=20)
app.run()
"""


class _FlaskFramework(Framework):
    app_class = OpenFactoryFlaskApp
    panel_class = Panel
    patient_class = Patient
    gate = GATE
    furnace = FURNACE

    def ask(
        self, app: Any, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        # `base_url` takes the place of APPLICATION_ROOT, which the test client would add to the path.
        response = app.test_client().open(
            path, method=method, data=body, headers=dict(headers or {}), base_url="http://panel.example/"
        )
        return Answer(response.status_code, response.text, {k.lower(): v for k, v in response.headers.items()})

    def add_route(self, app: Any, path: str, text: str = "the user's", methods: Collection[str] = ("GET",)) -> None:
        flask: Flask = app.app
        rule = _rule(path)
        flask.add_url_rule(rule, f"{rule} {methods}", lambda **parts: text, methods=list(methods))

    def add_router(self, app: Any, prefix: str, path: str, text: str = "the user's") -> None:
        blueprint = Blueprint(f"router of {prefix}".replace("/", "-"), __name__, url_prefix=prefix)
        blueprint.add_url_rule(_rule(path), view_func=lambda: text)
        app.app.register_blueprint(blueprint)

    def ask_for_login(self, app: Any) -> None:
        app.app.before_request(lambda: abort(401))


def _rule(path: str) -> str:
    return re.sub(r"{(\w+)(?::(\w+))?}", lambda found: f"<{found[2] + ':' if found[2] else ''}{found[1]}>", path)


FLASK = _FlaskFramework()
