"""What an app with web pages promises as a process, on whatever framework: its start, its stop, its streams."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from openfactory.assets import Asset
from openfactory.exceptions import AssetOwnedError
from openfactory.kafka import KSQLDBClient
from running_apps import Eventually, StartApp, ask
from web_site import Framework

__all__ = ["LifecyclePromises", "StreamPromises"]


# An app that stops itself before it serves.
EARLY = """
import os
import signal
from openfactory.apps import {base}
from openfactory.kafka import KSQLDBClient

class Early({base}):
    def {method}(self):
        os.kill(os.getpid(), signal.SIGTERM)

    def app_event_loop_stopped(self):
        print("stopped", flush=True)

Early(KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=300).run()
"""


# An app whose main loop does not end.
STUBBORN = """
import asyncio
import os
from contextlib import suppress
from openfactory.apps import {base}
from openfactory.kafka import KSQLDBClient

class Stubborn({base}):
    async def async_main_loop(self):
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1)

Stubborn(KSQLDBClient(os.environ["KSQLDB_URL"]), host="127.0.0.1", stop_timeout=2).run()
"""


class LifecyclePromises:
    framework: ClassVar[Framework]

    def test_a_slow_request_holds_nobody_back(self, start_app: StartApp, file_url: str, eventually: Eventually) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="5")
        assert app.ask("/").text == "here"
        with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate, ThreadPoolExecutor(4) as pool:
            held = [pool.submit(app.ask, "/hold") for _ in range(4)]
            eventually(lambda: gate.held.value == "yes")
            assert app.ask("/").text == "here"
            assert not any(request.done() for request in held)
            gate.call("open", sender_uuid="HMI")
            assert [request.result(timeout=60).status for request in held] == [200] * 4

    @pytest.mark.parametrize("folder", ["missing", "err.txt"])
    def test_requests_are_counted_also_if_prometheus_cannot_write_its_files(
        self, start_app: StartApp, tmp_path: Path, folder: str
    ) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="5", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / folder))
        assert [app.ask("/").text for _ in range(2)] == ["here", "here"]
        lines = app.ask("/metrics").text.splitlines()
        [line] = [line for line in lines if line.startswith("openfactory_http_requests_total")]
        assert 'route="/"' in line
        assert line.endswith(" 2.0")

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_stops_the_server_first_and_lets_a_running_request_end(
        self, start_app: StartApp, file_url: str, eventually: Eventually, signum: signal.Signals
    ) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="60")
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
        self, start_app: StartApp, file_url: str, eventually: Eventually
    ) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="3")
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

    def test_a_taken_port_fails_the_start_before_anything_is_announced(
        self, start_app: StartApp, file_url: str
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            app = start_app(self.framework.gate, PORT=str(port), STOP_TIMEOUT="5")
            assert app.ends() == 1
        assert f"ERROR Port {port} is taken by another program. Stop that program, or set PORT to a free" in app.log
        assert "Traceback" not in app.log
        assert app.out.read_text() == "stopped\n"  # no banner
        with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate:
            said = [event.value for event in client.engine.history("PANEL", "avail")]
            assert said
            assert set(said) == {"UNAVAILABLE"}
            assert gate.type == "UNAVAILABLE"

    def test_the_operations_port_has_the_pages_too(self, start_app: StartApp) -> None:
        settings = {"OPERATIONS_PORT": "0", "OPENFACTORY_HOST": "127.0.0.1"}
        app = start_app(self.framework.gate, STOP_TIMEOUT="5", **settings)
        assert app.ask("/").text == "here"
        [port] = re.findall(r"Serving health and metrics on http://127\.0\.0\.1:(\d+)", app.log)
        assert int(port) != app.port
        assert ask(int(port), "/health/ready").text == app.ask("/health/ready").text
        assert 'openfactory_http_requests_total{method="GET",route="/"' in ask(int(port), "/metrics").text
        assert ask(int(port), "/").status == 404
        app.process.send_signal(signal.SIGTERM)
        assert app.ends() == 0

    def test_an_app_takes_over_if_it_is_told_to(self, start_app: StartApp, file_url: str) -> None:
        older = start_app(self.framework.gate, STOP_TIMEOUT="5")
        assert older.ask("/").text == "here"
        with KSQLDBClient(file_url) as client:
            with pytest.raises(AssetOwnedError, match="take_over=True"):
                self.framework.app_class(client, app_uuid="PANEL")
            newer = self.framework.app_class(client, app_uuid="PANEL", take_over=True)
            assert older.ends() == 1
            newer.shutdown()

    def test_an_app_that_is_taken_over_serves_until_the_gateway_has_followed(
        self, start_app: StartApp, file_url: str
    ) -> None:
        older = start_app(self.framework.gate, STOP_TIMEOUT="2", HANDOVER_SECONDS="4")
        assert older.ask("/").text == "here"
        with KSQLDBClient(file_url) as client:
            newer = self.framework.app_class(client, app_uuid="PANEL", take_over=True)
            time.sleep(3)  # without the setting, the port is closed by now, and within a stop it would be too
            assert older.ask("/").text == "here"
            assert older.ask("/health/live").status == 200
            assert older.ends() == 1
            newer.shutdown()

    def test_a_signal_shortens_the_handover_of_an_app(self, start_app: StartApp, file_url: str) -> None:
        older = start_app(self.framework.gate, STOP_TIMEOUT="5", HANDOVER_SECONDS="600")
        assert older.ask("/").text == "here"
        with KSQLDBClient(file_url) as client:
            newer = self.framework.app_class(client, app_uuid="PANEL", take_over=True)
            older.eventually(lambda: "PANEL was taken over by process" in older.log)
            assert older.ask("/").text == "here"
            older.process.send_signal(signal.SIGTERM)
            assert older.ends() == 1
            assert "did not end within" not in older.log
            newer.shutdown()

    def test_an_app_that_is_taken_over_ends_its_process_also_if_its_main_loop_does_not_end(
        self, start_app: StartApp, file_url: str
    ) -> None:
        older = start_app(STUBBORN.format(base=self.framework.app_class.__name__))
        assert older.ask("/health/live").status == 200
        with KSQLDBClient(file_url) as client:
            newer = self.framework.app_class(client, app_uuid="PANEL", take_over=True)
            assert older.ends() == 1
            assert "PANEL was taken over by process" in older.log
            newer.shutdown()

    def test_a_server_that_fails_ends_the_app_at_once(self, start_app: StartApp, file_url: str) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="5")
        assert app.ask("/cut-the-line").text == "cut"
        assert app.ends() == 1
        assert "The web server of PANEL failed; stopping." in app.log
        assert "Bad file descriptor" in app.log or "cannot accept connections any more" in app.log
        assert app.out.read_text().endswith("stopped\n")
        with KSQLDBClient(file_url) as client, Asset("PANEL", client) as gate:
            assert (gate.avail.value, gate.type) == ("UNAVAILABLE", "UNAVAILABLE")

    def test_a_stop_under_load_answers_or_refuses_every_request(self, start_app: StartApp) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="100")
        answered = threading.Semaphore(0)

        def keep_asking() -> str:
            while True:
                try:
                    # A request that hangs is a TimeoutError here, one that breaks off an HTTPException.
                    answer = app.ask("/")
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

    def test_a_request_that_stops_the_app_is_answered(self, start_app: StartApp) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="60")
        assert app.ask("/stop").text.strip('"') == "stopped by a route"
        assert app.ends() == 0
        assert app.out.read_text().endswith("stopped\nrun returned\n")
        assert "cut off" not in app.log

    def test_the_first_request_finds_the_app_available(self, start_app: StartApp) -> None:
        app = start_app(self.framework.gate, STOP_TIMEOUT="5")
        assert app.ask("/avail").text == "AVAILABLE"

    @pytest.mark.parametrize("method", ["configure_routes", "welcome_banner"])
    def test_a_stop_before_the_server_has_started_ends_the_process(
        self, start_app: StartApp, file_url: str, method: str
    ) -> None:
        app = start_app(EARLY.format(base=self.framework.app_class.__name__, method=method))
        assert app.ends() == 0
        assert app.out.read_text() == "stopped\n"
        with KSQLDBClient(file_url) as client, Asset("PANEL", client) as panel:
            assert panel.type == "UNAVAILABLE"


class StreamPromises:
    framework: ClassVar[Framework]

    def test_an_event_of_another_process_reaches_many_readers(self, start_app: StartApp, file_url: str) -> None:
        app = start_app(self.framework.furnace)
        with connected(app.port) as one, connected(app.port) as other:
            assert [next_value(one), next_value(other)] == ["cold", "cold"]
            with KSQLDBClient(file_url) as client, Asset("PANEL", client) as furnace:
                furnace.status = "hot"
            assert [next_value(one), next_value(other)] == ["hot", "hot"]

    def test_a_reader_that_leaves_is_noticed_without_any_event(
        self, start_app: StartApp, eventually: Eventually
    ) -> None:
        app = start_app(self.framework.furnace)
        with connected(app.port) as response:
            assert next_value(response) == "cold"
            assert open_streams(app) == 1
        eventually(lambda: open_streams(app) == 0)
        assert "Traceback" not in app.log

    def test_a_stop_ends_the_streams_well(self, start_app: StartApp) -> None:
        app = start_app(self.framework.furnace)
        with connected(app.port) as response:
            assert next_value(response) == "cold"
            app.process.send_signal(signal.SIGTERM)
            rest = response.read()  # would raise IncompleteRead if it were cut
        assert b"data" not in rest
        assert app.ends() == 0
        assert "cut off" not in app.log

    def test_a_reader_that_reads_nothing_does_not_stop_the_stop(
        self, start_app: StartApp, file_url: str, eventually: Eventually
    ) -> None:
        app = start_app(self.framework.furnace)
        with socket.socket() as reader, KSQLDBClient(file_url) as client, Asset("PANEL", client) as furnace:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", app.port))
            reader.sendall(b"GET /events HTTP/1.1\r\nHost: panel\r\n\r\n")
            eventually(lambda: open_streams(app) == 1)
            for n in range(400):  # far more than the buffers between hold
                furnace.status = f"{n} {'x' * 60_000}"
            furnace.flush(60)
            unread: list[int] = []

            def waits_for_its_reader() -> bool:
                told = json.loads(app.ask("/open").text)
                unread.append(told["unread"] if told["status"].startswith("399 ") else 0)
                return unread[-1] > 0 and unread[-10:] == [unread[-1]] * 10

            eventually(waits_for_its_reader)
            app.process.send_signal(signal.SIGTERM)
            assert app.ends(timeout=40) == 0
        assert "1 HTTP requests did not end in time" in app.log


@contextmanager
def connected(port: int) -> Generator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/events")
        with connection.getresponse() as response:
            assert response.status == 200
            yield response


def next_value(response: http.client.HTTPResponse) -> Any:
    while not (line := response.readline()).startswith(b"data: "):
        assert line, "the stream has ended"
    return json.loads(line[6:])["value"]


def open_streams(app: Any) -> int:
    streams: int = json.loads(app.ask("/open").text)["streams"]
    return streams
