"""The processes of the web benchmark: the servers and the one that writes; started by it, never by hand.

All servers answer `/` with a value as JSON, and `/taken` with how many updates they took and the processor time, in
seconds, that their thread for updates used. They serve on PORT and end when their standard input does.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

_HOST = "127.0.0.1"

# What the writer writes: so many updates a second, one at a time.
_PAUSE_SECONDS = 0.001


def serve_app(database: str, server: str) -> None:
    """Be an app of ours whose route reads an attribute, on our server or on another one."""
    from flask import current_app

    from openfactory.apps import OpenFactoryFlaskApp, SampleAttribute
    from openfactory.kafka import KSQLDBClient

    class Panel(OpenFactoryFlaskApp):
        sample = SampleAttribute(value=0.0, tag="Benchmark")

        def configure_routes(self) -> None:
            @self.app.route("/")
            def root() -> dict[str, Any]:
                panel: Any = current_app
                return {"value": panel.ofa_app.sample.value}

            @self.app.route("/taken")
            def taken() -> dict[str, float]:
                updates = client.engine.health().counters["delivered"]
                return {"updates": updates, "seconds": _processor_seconds("openfactory-tail")}

    client = KSQLDBClient(f"sqlite:///{database}")
    panel = Panel(client, app_uuid="PANEL", loglevel="ERROR", host=_HOST, log_http_requests=False)
    if server:
        _serve_on(server, panel.app)
    else:
        panel.run()


def _serve_on(server: str, app: Any) -> None:
    """Serve a WSGI application on another server, with as many threads as there are connections."""
    port, threads = int(os.environ["PORT"]), int(os.environ["THREADS"])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    match server:
        case "werkzeug":
            from werkzeug.serving import make_server

            make_server(_HOST, port, app, threaded=True, request_handler=_silent_handler()).serve_forever()
        case "waitress":
            from waitress import serve

            logging.getLogger("waitress").setLevel("ERROR")  # it warns of each request that waits
            serve(app, host=_HOST, port=port, threads=threads)
        case "cheroot":
            from cheroot.wsgi import Server

            Server((_HOST, port), app, numthreads=threads, request_queue_size=1024).start()


def _silent_handler() -> type[Any]:
    from werkzeug.serving import WSGIRequestHandler

    class Silent(WSGIRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """As silent as the app."""

    return Silent


class _Machine:
    """What the bare server shows, and what its thread, where it has one, fills."""

    sample = 0.0
    updates = 0


def serve_bare(kind: str, database: str) -> None:
    """Be the same page on Flask alone: with no further thread, or with one that takes updates."""
    from flask import Flask
    from werkzeug.serving import make_server

    machine = _Machine()
    if kind != "bare":
        take = _take_by_hand if kind == "bare-by-hand" else _take_made
        threading.Thread(target=take, args=(machine, database), name="bare-updates", daemon=True).start()
    app = Flask("panel")

    @app.route("/")
    def root() -> dict[str, Any]:
        return {"value": machine.sample}

    @app.route("/taken")
    def taken() -> dict[str, float]:
        return {"updates": machine.updates, "seconds": _processor_seconds("bare-updates")}

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    make_server(_HOST, int(os.environ["PORT"]), app, threaded=True, request_handler=_silent_handler()).serve_forever()


def _take_by_hand(machine: _Machine, database: str) -> None:
    """Be woken by the writer's datagram, read the rows, decode their JSON: what an app without us would write."""
    import bare

    connection = bare.open_database(Path(database))
    (position,) = connection.execute("SELECT coalesce(max(id), 0) FROM log").fetchone()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(f"{database}.wake/{os.getpid()}-0.sock")
    while True:
        listener.recv(16)
        for row_id, value in bare.read_after(connection, position):
            machine.sample = json.loads(value)
            machine.updates += 1
            position = row_id


def _take_made(machine: _Machine, _database: str) -> None:
    """Decode a message and keep it, as often as the writer writes, with nothing from outside."""
    message = json.dumps(
        {"ID": "sample", "VALUE": 0.1, "TAG": "Benchmark", "TYPE": "Samples", "attributes": {"timestamp": "2026-11-21"}}
    )
    known: dict[str, Any] = {}
    due = time.perf_counter()
    while True:
        due += _PAUSE_SECONDS
        time.sleep(max(due - time.perf_counter(), 0))
        event = json.loads(message)
        known[event["ID"]] = event
        machine.sample = event["VALUE"]
        machine.updates += 1


def write(database: str) -> None:
    """Write 1,000 updates a second, each by itself, from one line of the standard input to the next."""
    from openfactory.assets import Asset, AssetAttribute
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(f"sqlite:///{database}") as client, Asset("PANEL", client) as panel:
        panel.add_attribute(AssetAttribute("sample", 0.0, "Samples", "Benchmark"))
        print("ready", flush=True)
        while os.read(0, 1):
            due = time.perf_counter()
            written = 0
            while not select.select([0], [], [], max(due - time.perf_counter(), 0))[0]:
                panel["sample"] = written * 0.1
                written += 1
                due += _PAUSE_SECONDS
            os.read(0, 1)
            panel.flush()
            print(written, flush=True)


def _processor_seconds(thread_name: str) -> float:
    """The processor time that a thread has used; 0 where the system does not tell."""
    for thread in threading.enumerate():
        if thread.name == thread_name and thread.ident is not None and hasattr(time, "pthread_getcpuclockid"):
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return 0.0


def _end_with_standard_input() -> None:
    def wait() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        _end_with_standard_input()
        if sys.argv[1].startswith("app"):
            serve_app(sys.argv[2], sys.argv[1].removeprefix("app").removeprefix("-on-"))
        else:
            serve_bare(sys.argv[1], sys.argv[2])
