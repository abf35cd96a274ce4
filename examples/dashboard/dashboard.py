"""A dashboard with one page, which shows a mill live, draws its samples, and commands it.

ofa run examples/mill.py
ofa run examples/dashboard/dashboard.py

Then open http://localhost:4000/ in a browser.
"""

import os
from typing import Any

from flask import Blueprint, Response, abort, jsonify, render_template, request

from openfactory.apps import EventAttribute
from openfactory.assets import Asset, current_timestamp
from openfactory.exceptions import OpenFactoryError
from openfactory.flaskapp import OpenFactoryFlaskApp, current_ofa_app, sse
from openfactory.kafka import KSQLDBClient

SHOWN = ("avail", "status", "parts", "spindle_speed", "temperature")
DRAWN = ("temperature", "spindle_speed")
ORDERS = ("start", "stop", "set_speed")
SAMPLES = 600  # per curve when the page opens: the last two and a half minutes of the mill

pages = Blueprint("pages", __name__)


class Dashboard(OpenFactoryFlaskApp):
    """Shows the mill on its page, and sends the orders of the page to the mill."""

    last_order = EventAttribute(value="none yet", tag="Dashboard.LastOrder")

    mill: Asset

    def configure_routes(self) -> None:
        self.mill = Asset(os.getenv("MILL_UUID", "mill"), self.ksql)
        self.app.register_blueprint(pages)

    def app_event_loop_stopped(self) -> None:
        self.mill.close()

    def order(self, method: str, arguments: dict[str, Any]) -> str:
        """Command the mill and return its reply."""
        self.last_order = " ".join([method, *(f"{name}={value}" for name, value in arguments.items())])
        reply = self.mill.call(method, arguments, sender_uuid=self.asset_uuid, timeout=5)
        return str(reply)


@pages.get("/")
def overview() -> str:
    return render_template("overview.html", mill=current_ofa_app(Dashboard).mill)


@pages.get("/changes")
def changes() -> Response:
    """Stream the current values, then each change, for as long as the page is open."""
    return sse(current_ofa_app(Dashboard).mill, attributes=SHOWN)


@pages.get("/samples")
def samples() -> Response:
    """Return the samples of the curves so far, and the current time, because the clock of the browser may be wrong."""
    mill = current_ofa_app(Dashboard).mill
    curves = {
        name: [(sample.timestamp, sample.value) for sample in mill.history(name, limit=SAMPLES)] for name in DRAWN
    }
    return jsonify(now=current_timestamp(), curves=curves)


@pages.post("/orders/<method>")
def order(method: str) -> Response:
    """Send an order to the mill, and return its reply to the page."""
    if method not in ORDERS:
        abort(404)
    # A page of another site can send a form, but not JSON: the browser asks this app for permission first.
    arguments = request.get_json()
    if not isinstance(arguments, dict):
        abort(400)
    try:
        return jsonify(done=True, said=current_ofa_app(Dashboard).order(method, arguments))
    except OpenFactoryError as error:
        return jsonify(done=False, said=str(error))


@pages.after_request
def with_policy(response: Response) -> Response:
    """Allow only the files of this app in the page, and forbid other sites to frame the page."""
    response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'self'"
    return response


if __name__ == "__main__":
    app = Dashboard(
        ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
        bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
    )
    app.run()
