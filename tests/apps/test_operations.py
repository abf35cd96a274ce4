"""The operations port of a plain app: health and metrics for orchestrators and Prometheus."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.apps.operations import server
from openfactory.assets import Asset
from openfactory.engines import Engine, EngineHealth
from openfactory.exceptions import ConfigurationError

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]


class Mill(OpenFactoryApp):
    """Its main loop lasts until `ended` is set."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.ended = threading.Event()

    @ofa_method()
    def start(self) -> str:
        return "started"

    def main_loop(self) -> None:
        self.ended.wait(120)

    async def async_main_loop(self) -> None:
        while not self.ended.is_set():
            await asyncio.sleep(0.01)

    def welcome_banner(self) -> None:
        pass


@pytest.fixture(autouse=True)
def this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFACTORY_HOST", "127.0.0.1")


@contextmanager
def running(app: Mill, eventually: Eventually, *, as_coroutine: bool = False) -> Iterator[int]:
    """Run an app on a thread, and return its operations port."""

    def run() -> None:
        with suppress(SystemExit):
            asyncio.run(app.async_run()) if as_coroutine else app.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: app["avail"].value == "AVAILABLE")
        assert app._operations_server is not None
        yield app._operations_server.port
    finally:
        app.ended.set()
        thread.join(60)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("as_coroutine", [False, True])
def test_an_app_that_runs_serves_health_and_metrics(
    start: Start, eventually: Eventually, log: pytest.LogCaptureFixture, as_coroutine: bool
) -> None:
    log.set_level(logging.INFO)
    app = start(Mill, app_uuid="MILL", operations_port=0)
    assert app.call("start", sender_uuid="HMI") == "started"
    with running(app, eventually, as_coroutine=as_coroutine) as port:
        assert f"Serving health and metrics on http://127.0.0.1:{port}" in log.text
        assert ask(port, "/health/live") == (200, '{"status": "alive"}\n')
        assert ask(port, "/health/ready?from=probe") == (200, '{"status": "ready"}\n')
        status, metrics = ask(port, "/metrics")
        assert status == 200
        assert 'openfactory_app_info{asset_uuid="MILL"} 1.0' in metrics
        assert 'openfactory_commands_total{status="succeeded"} 1.0' in metrics
        assert ask(port, "/health/ready", "HEAD") == (200, "")
        assert ask(port, "/health/ready", "POST")[0] == 501
        status, body = ask(port, "/")
        assert (status, json.loads(body)["pages"]) == (404, ["/health/live", "/health/ready", "/metrics"])
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/health/live")


def test_an_app_that_is_not_well_says_why(
    start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(Mill, app_uuid="MILL", operations_port=0)
    with running(app, eventually) as port:
        app["avail"] = "UNAVAILABLE"
        monkeypatch.setattr(app._engine, "health", lambda: EngineHealth(False, "The disk is full. Free space on it."))
        status, body = ask(port, "/health/ready")
        assert status == 503
        assert json.loads(body)["reasons"] == ["The disk is full. Free space on it.", "MILL is UNAVAILABLE."]
        assert ask(port, "/health/live")[0] == 200
        assert "openfactory_engine_connected 0.0" in ask(port, "/metrics")[1]


def test_each_app_of_a_process_has_a_port_of_its_own(start: Start, eventually: Eventually) -> None:
    mill, press = (start(Mill, app_uuid=name, operations_port=0) for name in ("MILL", "PRESS"))
    with running(mill, eventually) as of_mill:
        with running(press, eventually) as of_press:
            assert 'asset_uuid="MILL"' in ask(of_mill, "/metrics")[1]
            assert 'asset_uuid="PRESS"' in ask(of_press, "/metrics")[1]
        assert ask(of_mill, "/health/ready")[0] == 200


def test_without_a_port_nothing_is_served_and_an_argument_wins(
    start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = start(Mill)
    thread = threading.Thread(target=app.run)
    thread.start()
    eventually(lambda: app["avail"].value == "AVAILABLE")
    assert app._operations_server is None
    app.ended.set()
    thread.join(60)
    monkeypatch.setenv("OPERATIONS_PORT", "0")
    with running(start(Mill), eventually) as port:
        assert ask(port, "/health/live")[0] == 200
        monkeypatch.setenv("OPERATIONS_PORT", str(port))
        with running(start(Mill, operations_port=0), eventually) as other:
            assert other != port


@pytest.mark.parametrize("as_coroutine", [False, True])
def test_a_port_that_is_taken_fails_the_start_with_one_sentence(
    start: Start, url: str, watch: Watch, engine: Engine, log: pytest.LogCaptureFixture, as_coroutine: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app = start(Mill, url, app_uuid="MILL", operations_port=port)
        if as_coroutine:
            with pytest.raises(ConfigurationError, match=f"^Port {port} is taken"):
                asyncio.run(app.async_run())
        else:
            with pytest.raises(SystemExit) as ended:
                app.run()
            assert ended.value.code == 1
    [error] = [record for record in log.records if record.levelname == "ERROR"]
    assert error.getMessage() == (
        f"Port {port} is taken by another program. Stop that program, or set OPERATIONS_PORT to a free port."
    )
    assert error.exc_info is None
    assert {event.value for event in engine.history("MILL", "avail")} == {"UNAVAILABLE"}
    assert engine.types() == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [("70000", "OPERATIONS_PORT=70000 is not a port number"), ("many", "OPERATIONS_PORT='many' is not a whole number")],
)
def test_a_number_that_is_no_port_is_told_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("OPERATIONS_PORT", text)
    with pytest.raises(ConfigurationError, match=said):
        start(Mill)


def test_silent_clients_delay_neither_the_stop_nor_others(
    start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CLIENTS", 4)
    monkeypatch.setattr(server._Handler, "timeout", 120)
    app = start(Mill, operations_port=0, stop_timeout=60)
    with running(app, eventually) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        eventually(lambda: app._operations_server.connections == 3)
        assert ask(port, "/health/live")[0] == 200
        eventually(lambda: app._operations_server.connections == 3)
        with socket.create_connection(("127.0.0.1", port)) as last:
            eventually(lambda: app._operations_server.connections == 4)
            with pytest.raises(ConnectionError):  # one more than the server handles
                ask(port, "/health/live")
            last.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            assert last.recv(100).startswith(b"HTTP/1.0 200")
    with pytest.raises(ConnectionRefusedError):  # while the silent clients are still connected
        ask(port, "/health/live")
    for client in silent:
        client.close()


def test_a_client_that_sends_its_request_byte_by_byte_is_disconnected(
    start: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.5)

    def is_disconnected() -> bool:
        try:
            client.sendall(b"x")
        except ConnectionError:
            return True
        return False

    app = start(Mill, operations_port=0)
    with running(app, eventually) as port, socket.create_connection(("127.0.0.1", port)) as client:
        eventually(is_disconnected)
        eventually(lambda: app._operations_server.connections == 0)


def test_the_operations_port_is_that_of_the_metrics(start: Start, eventually: Eventually) -> None:
    app = start(Mill, operations_port=0)
    with pytest.raises(ConfigurationError, match=r"With operations_port=0, register in the main loop\."):
        app._metrics_port()
    with running(app, eventually) as port:
        assert app._metrics_port() == port
    assert start(Mill, operations_port=9100)._metrics_port() == 9100
    with pytest.raises(ConfigurationError, match=r"serves no metrics\. Pass operations_port=9100"):
        start(Mill)._metrics_port()
