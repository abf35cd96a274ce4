"""The app behind the gateway of these tests, as a user would write it."""

from __future__ import annotations

import os
from typing import Any

from flask import Blueprint, Flask, Response, redirect, render_template, request, session, url_for

from openfactory.apps import EventAttribute, OpenFactoryFlaskApp
from openfactory.flaskapp import current_ofa_app, sse
from openfactory.kafka import KSQLDBClient

parts = Blueprint("parts", __name__, url_prefix="/parts")


@parts.route("/")
def listed() -> dict[str, str]:
    return {"first": url_for(".part", number=1), "home": url_for("home")}


@parts.route("/<int:number>")
def part(number: int) -> dict[str, int]:
    return {"number": number}


class Panel(OpenFactoryFlaskApp):
    status = EventAttribute(value="idle", tag="Panel.Status")

    def create_flask_app(self) -> Flask:
        app = Flask(__name__)
        app.secret_key = "a secret of the tests"
        return app

    def configure_routes(self) -> None:
        app = self.app
        app.register_blueprint(parts)

        @app.route("/")
        def home() -> str:
            return render_template("home.html", status=self.status.value)

        @app.route("/status/<value>", methods=["POST"])
        def set_status(value: str) -> Response:
            current_ofa_app(Panel).status = value
            return redirect(url_for("home"), 303)  # type: ignore[return-value]

        @app.route("/elsewhere")
        def elsewhere() -> Response:
            return redirect(url_for("parts.listed", _external=True))  # type: ignore[return-value]

        @app.route("/visits")
        def visits() -> dict[str, int]:
            session["visits"] = session.get("visits", 0) + 1
            return {"visits": session["visits"]}

        @app.route("/events")
        def events() -> Response:
            return sse(self, attributes=["status"])

        @app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
        def echo() -> dict[str, Any]:
            return {"method": request.method, "body": request.get_data(as_text=True), "query": request.args.to_dict()}

        @app.route("/upload", methods=["POST"])
        def upload() -> dict[str, int]:
            return {"bytes": len(request.get_data())}

        @app.route("/seen")
        def seen() -> dict[str, Any]:
            return {
                "client": request.remote_addr,
                "scheme": request.scheme,
                "host": request.host,
                "prefix": request.script_root,
                "path": request.path,
                "home": url_for("home", _external=True),
            }

        @app.route("/named/<name>")
        def named(name: str) -> str:
            return name


if __name__ == "__main__":
    Panel(
        KSQLDBClient(os.environ["KSQLDB_URL"]),
        max_request_bytes=int(os.environ["MAX_REQUEST_BYTES"]),
    ).run()
