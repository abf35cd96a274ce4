"""Apps with web pages, each in one of the three shapes that their files have: unchanged on every place of data."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.exceptions import CommandRejected
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker
from servers.ports import HOST, free_port

# Generous: they cost nothing when all is well.
SECONDS = 60.0

# As users write it: nothing here knows of a test.
START = """
app = {name}(
    ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
    bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092"),
)
app.run()
"""

INLINE = """
import asyncio
import os
from flask import current_app, request
from openfactory.apps import EventAttribute, OpenFactoryFlaskApp, SampleAttribute, ofa_method
from openfactory.kafka import KSQLDBClient

class Press(OpenFactoryFlaskApp):
    status = EventAttribute(value="idle", tag="App.Status")
    force = SampleAttribute(value=0.0, tag="Press.Force")
    strokes = SampleAttribute(value=0, tag="Press.Strokes")

    def configure_routes(self):
        @self.app.route("/")
        def root():
            ofa_app = current_app.ofa_app
            return {"status": ofa_app.status.value, "force": ofa_app.force.value}

        @self.app.route("/force", methods=["PUT"])
        def set_force():
            current_app.ofa_app.force = request.json["force"]
            return "", 204

    @ofa_method(description="Press a part")
    def press(self, x: float, y: float):
        self.status = f"pressing at {x}, {y}"
        return {"x": x, "y": y}

    async def async_main_loop(self):
        strokes = 0
        while True:
            await asyncio.sleep(0.05)
            strokes += 1
            self.strokes = strokes
"""

BLUEPRINT = """
import os
import asyncio
from openfactory.apps import OpenFactoryFlaskApp, ofa_method
from openfactory.kafka import KSQLDBClient
from routes.root import root_bp

class Gate(OpenFactoryFlaskApp):
    def configure_routes(self):
        self.app.register_blueprint(root_bp)

    @ofa_method(description="Open the gate")
    async def open(self):
        await asyncio.sleep(0)
        return "open"

    async def async_main_loop(self):
        while True:
            await asyncio.sleep(5)
"""

ROUTES = """
from flask import Blueprint, current_app

root_bp = Blueprint("root", __name__)

@root_bp.route("/")
def root():
    ofa_app = current_app.ofa_app
    return {"availability": ofa_app.avail.value}
"""

FACTORY = """
import os
from flask import Flask, session
from openfactory.apps import EventAttribute, OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient

class Counter(OpenFactoryFlaskApp):
    visits = EventAttribute(value="none", tag="Counter.Visits")

    def create_flask_app(self):
        app = Flask(__name__)
        app.config["SECRET_KEY"] = "a test's secret"
        return app

    def configure_routes(self):
        @self.app.route("/")
        def root():
            session["visits"] = session.get("visits", 0) + 1
            self.visits = str(session["visits"])
            return {"visits": session["visits"]}
"""


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    text: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class WebApp:
    """A file of a user as a process of its own, which is told by its environment where it is to serve."""

    def __init__(self, folder: Path, source: str, files: dict[str, str], environment: dict[str, str]) -> None:
        for name, text in {"main.py": source, **files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        self.port = free_port()
        self._log = folder / "app.log"
        served = {"OPENFACTORY_HOST": HOST, "PORT": str(self.port)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "main.py"],
                cwd=folder,
                env={**os.environ, **served, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ask(self, path: str = "/", method: str = "GET", body: Any = None, **headers: str) -> Answer:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=SECONDS)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()})

    def ready(self) -> bool:
        """Whether it says so; an app that has ended never will."""
        assert self.process.poll() is None, self.said
        try:
            return self.ask("/health/ready").status == 200
        except ConnectionError:
            return False

    def until_ready(self) -> None:
        try:
            eventually(self.ready, timeout=SECONDS)
        except AssertionError as error:
            raise AssertionError(f"it is not ready:\n{self.said}") from error

    def stop(self) -> int:
        """Stop it as whoever deploys it would; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


Start = Callable[..., WebApp]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an app of a shape: `start("Press", INLINE, APP_UUID="PRESS-7")`, with its other files as a dictionary."""
    apps: list[WebApp] = []

    def start_app(name: str, source: str, files: dict[str, str] | None = None, **environment: str) -> WebApp:
        folder = tmp_path / f"app-{len(apps)}"
        apps.append(WebApp(folder, source + START.format(name=name), files or {}, environment))
        return apps[-1]

    yield start_app
    for app in apps:
        app.process.kill()
        app.process.wait()


@pytest.fixture(params=["sqlite", "kafka", pytest.param("ksqldb", marks=pytest.mark.thorough), "nats"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh factory, with the environment that goes with it."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            environment = {"KSQLDB_URL": f"sqlite:///{tmp_path}/factory.db"}
        elif request.param == "kafka":
            environment = {"KSQLDB_URL": request.getfixturevalue("kafka_url")}
        else:
            broker = request.getfixturevalue("kafka_broker")
            nats_url = request.getfixturevalue("nats_server").url if request.param == "nats" else None
            environment = stack.enter_context(KsqlDBFactory(broker.bootstrap_servers, nats_url)).environment
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment["KSQLDB_URL"]


@pytest.fixture
def client(place: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(place) as client:
        yield client


@pytest.fixture
def uuid() -> str:
    """A UUID that no other test has: they share a nats-server."""
    return f"APP-{uuid4().hex[:8]}"


def _ends_well(app: WebApp, asset: Asset) -> None:
    """It stops as it is told, and everybody sees that it has."""
    assert app.stop() == 0, app.said
    eventually(lambda: (asset.avail.value, asset.type) == ("UNAVAILABLE", "UNAVAILABLE"), timeout=SECONDS)
    assert "ERROR" not in app.said
    assert "Traceback" not in app.said


# The three shapes

# What a shape does with Flask is the same on every place; one goes round them all.
here_and_on_kafka = pytest.mark.parametrize("place", ["sqlite", "kafka"], indirect=True)


def test_an_app_with_routes_in_its_class(start: Start, client: KSQLDBClient, uuid: str) -> None:
    app = start("Press", INLINE, APP_UUID=uuid)
    app.until_ready()
    assert f"Serving on http://{HOST}:{app.port}\n" in app.said  # and on no other address of the machine
    assert app.ask().json == {"status": "idle", "force": 0.0}
    with Asset(uuid, client) as press:
        assert press.type == "OpenFactoryApp"
        forces: list[float] = []
        press.subscribe_to_attribute("force", lambda _, message: forces.append(message["VALUE"]))
        assert app.ask("/force", "PUT", {"force": 12.5}).status == 204
        assert app.ask().json["force"] == 12.5
        eventually(lambda: forces == [12.5] and press.force.value == 12.5, timeout=SECONDS)

        assert press.call("press", x="1.5", y=2, sender_uuid="HMI", timeout=SECONDS) == {"x": 1.5, "y": 2.0}
        assert app.ask().json["status"] == "pressing at 1.5, 2.0"
        eventually(lambda: press.status.value == "pressing at 1.5, 2.0", timeout=SECONDS)
        with pytest.raises(CommandRejected, match="x"):
            press.call("press", x="far", y=2, sender_uuid="HMI", timeout=SECONDS)

        strokes = press.strokes.value
        eventually(lambda: press.strokes.value > strokes, timeout=SECONDS)  # the main loop runs beside all this
        _ends_well(app, press)


@here_and_on_kafka
def test_an_app_with_routes_in_a_blueprint(start: Start, client: KSQLDBClient, uuid: str) -> None:
    app = start("Gate", BLUEPRINT, {"routes/root.py": ROUTES}, APP_UUID=uuid)
    app.until_ready()
    assert app.ask().json == {"availability": "AVAILABLE"}
    assert app.ask("/nowhere").status == 404
    with Asset(uuid, client) as gate:
        eventually(lambda: gate.avail.value == "AVAILABLE", timeout=SECONDS)
        assert gate.call("open", sender_uuid="HMI", timeout=SECONDS) == "open"
        _ends_well(app, gate)


@here_and_on_kafka
def test_an_app_that_makes_its_flask_app(start: Start, client: KSQLDBClient, uuid: str) -> None:
    app = start("Counter", FACTORY, APP_UUID=uuid, OPENFACTORY_ROOT_PATH="/my-app")
    app.until_ready()
    first = app.ask()
    assert first.json == {"visits": 1}
    cookie = first.headers["set-cookie"].partition(";")[0]
    assert app.ask(Cookie=cookie).json == {"visits": 2}
    with Asset(uuid, client) as counter:
        eventually(lambda: counter.visits.value == "2", timeout=SECONDS)
        _ends_well(app, counter)


# Health and metrics when the broker is away


def _metric(app: WebApp, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(app.ask("/metrics").text)
    samples = [one for family in families for one in family.samples if one.name == name]
    return sum(one.value for one in samples if one.labels.items() >= labels.items())


@pytest.mark.timeout(300)
@pytest.mark.thorough  # in each run tests/flask/test_health.py shows the pages, and test_broker_outages.py the health
@pytest.mark.parametrize("how", ["killed", "suspended"])
def test_an_app_is_not_ready_while_its_broker_is_away_and_answers_all_the_same(
    start: Start, own_kafka_broker: KafkaBroker, uuid: str, how: str
) -> None:
    broker = own_kafka_broker
    create_topics({"bootstrap.servers": broker.bootstrap_servers}, TOPICS)
    app = start("Press", INLINE, APP_UUID=uuid, KSQLDB_URL=f"kafka://{broker.bootstrap_servers}")
    app.until_ready()
    assert _metric(app, "openfactory_engine_connected") == 1
    written = _metric(app, "openfactory_engine_events_total", outcome="written")
    assert written > 0

    {"killed": broker.kill, "suspended": broker.suspend}[how]()
    eventually(lambda: not app.ready(), timeout=120)
    ready = app.ask("/health/ready")
    assert ready.status == 503
    [reason] = ready.json["reasons"]
    assert broker.bootstrap_servers in reason
    assert app.ask("/health/live").status == 200

    asked_at = time.monotonic()
    assert app.ask("/force", "PUT", {"force": 7}).status == 204  # nobody waits for a broker
    assert app.ask().json["force"] == 7.0
    assert time.monotonic() - asked_at < 30
    assert _metric(app, "openfactory_engine_connected") == 0
    eventually(lambda: _metric(app, "openfactory_engine_queued_events") > 0, timeout=SECONDS)

    {"killed": broker.start, "suspended": broker.resume}[how]()
    app.until_ready()
    eventually(lambda: _metric(app, "openfactory_engine_events_total", outcome="written") > written, timeout=SECONDS)
    with KSQLDBClient(f"kafka://{broker.bootstrap_servers}") as client, Asset(uuid, client) as press:
        eventually(lambda: press.force.value == 7.0, timeout=SECONDS)
        assert _metric(app, "openfactory_engine_connected") == 1
        assert app.stop() == 0, app.said
        eventually(lambda: press.avail.value == "UNAVAILABLE", timeout=SECONDS)


def test_an_app_stops_in_time_while_its_broker_is_away(start: Start, own_kafka_broker: KafkaBroker, uuid: str) -> None:
    broker = own_kafka_broker
    create_topics({"bootstrap.servers": broker.bootstrap_servers}, TOPICS)
    url = f"kafka://{broker.bootstrap_servers}"
    app = start("Gate", BLUEPRINT, {"routes/root.py": ROUTES}, APP_UUID=uuid, KSQLDB_URL=url)
    app.until_ready()
    broker.kill()
    assert app.stop() == 1, app.said  # its last writes were not acknowledged
    assert "published events were not written" in app.said
