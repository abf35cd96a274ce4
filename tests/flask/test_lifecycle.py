"""From start to stop: what an app with a web server does that a plain one does not."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from openfactory.apps import OpenFactoryFlaskApp
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.flask.conftest import StartApp

Eventually = Callable[..., None]

GATE = """
import asyncio
import os
import sys
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

        @self.app.route("/hold")
        def hold():
            self.held = "yes"
            self.opened.wait(60)
            return {"avail": self.avail.value}

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


def test_a_slow_request_holds_nobody_back(start_app: StartApp, file_url: str, eventually: Eventually) -> None:
    app = start_app(GATE, STOP_TIMEOUT="5")
    assert app.ask("/").text == "here"
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate, ThreadPoolExecutor(4) as pool:
        held = [pool.submit(app.ask, "/hold") for _ in range(4)]
        eventually(lambda: gate.held.value == "yes")
        assert app.ask("/").text == "here"
        assert not any(request.done() for request in held)
        gate.call("open", sender_uuid="HMI")
        assert [request.result(timeout=60).status for request in held] == [200] * 4


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_first_and_lets_a_running_request_end(
    start_app: StartApp, file_url: str, eventually: Eventually, signum: signal.Signals
) -> None:
    app = start_app(GATE, STOP_TIMEOUT="60")
    assert app.ask("/").text == "here"
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate, ThreadPoolExecutor(1) as pool:
        assert gate.type == "OpenFactoryApp"
        held = pool.submit(app.ask, "/hold")
        eventually(lambda: gate.held.value == "yes")

        app.process.send_signal(signum)
        eventually(app.refuses)
        assert gate.avail.value == "AVAILABLE"
        gate.call("open", sender_uuid="HMI")

        assert json.loads(held.result(timeout=60).text) == {"avail": "AVAILABLE"}
        assert app.ends() == 0
        eventually(lambda: gate.avail.value == "UNAVAILABLE")
        assert gate.type == "UNAVAILABLE"
    assert app.out.read_text().endswith("stopped\n")
    assert "cut off" not in app.log


def test_a_request_without_end_does_not_stop_the_stop(
    start_app: StartApp, file_url: str, eventually: Eventually
) -> None:
    app = start_app(GATE, STOP_TIMEOUT="3")
    assert app.ask("/").text == "here"
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate, ThreadPoolExecutor(1) as pool:
        held = pool.submit(app.ask, "/hold")
        with socket.create_connection(("127.0.0.1", app.port)):  # and a client that never says anything
            eventually(lambda: gate.held.value == "yes")
            app.process.send_signal(signal.SIGTERM)
            assert app.ends() == 0
        with pytest.raises(ConnectionError):
            held.result(timeout=60)
        eventually(lambda: gate.avail.value == "UNAVAILABLE")
        assert gate.type == "UNAVAILABLE"
    assert app.out.read_text().endswith("stopped\n")
    assert "1 HTTP requests did not end in time" in app.log


def test_a_taken_port_fails_the_start_before_anything_is_announced(start_app: StartApp, file_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app = start_app(GATE, PORT=str(port), STOP_TIMEOUT="5")
        assert app.ends() == 1
    assert f"ERROR Port {port} is taken by another program. Stop that program, or set PORT to a free" in app.log
    assert "Traceback" not in app.log
    assert app.out.read_text() == "stopped\n"  # no banner
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate:
        said = [event.value for event in client.engine.history("PANEL", "avail")]
        assert said
        assert set(said) == {"UNAVAILABLE"}
        assert gate.type == "UNAVAILABLE"


def test_a_server_that_fails_ends_the_app_at_once(start_app: StartApp, file_url: str) -> None:
    app = start_app(GATE, STOP_TIMEOUT="5")
    assert app.ask("/cut-the-line").text == "cut"
    assert app.ends() == 1
    assert "The web server of PANEL failed; stopping." in app.log
    assert "Bad file descriptor" in app.log
    assert app.out.read_text().endswith("stopped\n")
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate:
        assert (gate.avail.value, gate.type) == ("UNAVAILABLE", "UNAVAILABLE")


def test_a_stop_under_load_answers_or_refuses_every_request(start_app: StartApp) -> None:
    app = start_app(GATE, STOP_TIMEOUT="100")
    answered = threading.Semaphore(0)

    def keep_asking() -> str:
        while True:
            try:
                answer = app.ask(
                    "/"
                )  # a request that hangs is a TimeoutError here, one that breaks off an HTTPException
            except ConnectionError:
                return "refused"
            assert (answer.status, answer.text) == (200, "here")
            answered.release()

    assert app.port
    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(keep_asking) for _ in range(8)]
        for _ in range(100):
            assert answered.acquire(timeout=60)
        app.process.send_signal(signal.SIGTERM)
        assert [client.result(timeout=60) for client in clients] == ["refused"] * 8
    assert app.ends() == 0
    assert app.out.read_text().endswith("stopped\n")
    assert "cut off" not in app.log
    assert "Traceback" not in app.log


EARLY = """
import os
import signal
from openfactory.apps import OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient

class Early(OpenFactoryFlaskApp):
    def {method}(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def app_event_loop_stopped(self):
        print("stopped", flush=True)

Early(KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=300).run()
"""


@pytest.mark.parametrize("method", ["configure_routes", "welcome_banner"])
def test_a_stop_before_the_server_has_started_ends_the_process(start_app: StartApp, file_url: str, method: str) -> None:
    app = start_app(EARLY.format(method=method))
    assert app.ends() == 0
    assert app.out.read_text() == "stopped\n"
    with KSQLDBClient(file_url) as client, Asset("PANEL", client) as panel:
        assert panel.type == "UNAVAILABLE"


class Patient(OpenFactoryFlaskApp):
    """Has a route that ends when it is told to."""

    def configure_routes(self) -> None:
        self.arrived, self.opened = threading.Event(), threading.Event()

        @self.app.route("/hold")
        def hold() -> str:
            self.arrived.set()
            return "held" if self.opened.wait(60) else "given up"


def test_the_stop_holds_up_no_other_task_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")

    def hold(port: int) -> bytes:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as connection:
            connection.sendall(b"GET /hold HTTP/1.1\r\nHost: panel.example\r\n\r\n")
            return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.005)

    async def main(app: Patient) -> bytes:
        running = asyncio.create_task(app.async_run())
        await until(lambda: app._server is not None and app._server.serving)
        assert app._server is not None
        held = asyncio.create_task(asyncio.to_thread(hold, app._server.port))
        await until(app.arrived.is_set)
        running.cancel()
        await until(lambda: app._server is not None and not app._server.serving)
        app.opened.set()  # by this event loop, while the stop waits for the request
        answer = await held
        with pytest.raises(asyncio.CancelledError):
            await running
        return answer

    with KSQLDBClient(f"memory://{uuid4().hex}") as client:
        app = Patient(client, app_uuid=f"PANEL-{uuid4().hex}", host="127.0.0.1", stop_timeout=300)
        assert asyncio.run(main(app)) == b"held"
