"""The processes that watch, for the latency benchmark: started by it, never by hand.

Every value that is written is the writer's `time.perf_counter_ns()`, a clock that all processes of one machine share.
A watcher prints one line when it is ready and one with the ages of the values after every so many writes.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import bare


def watch_asset(count: int, database: str) -> None:
    """Hear of each write in a callback of an `Asset`."""
    from openfactory.assets import Asset
    from openfactory.kafka import KSQLDBClient

    ages: list[int] = []
    full: SimpleQueue[list[int]] = SimpleQueue()

    def heard(_subject: str, message: Any) -> None:
        nonlocal ages
        ages.append(time.perf_counter_ns() - message["VALUE"])
        if len(ages) == count:
            full.put(ages)
            ages = []

    with KSQLDBClient(f"sqlite:///{database}") as client, Asset("BENCH", client) as asset:
        asset.subscribe_to_attribute("sample", heard)
        _print_line([])
        threading.Thread(target=_print_each, args=(full,), daemon=True).start()
        sys.stdin.read()


def answer_commands(database: str) -> None:
    """Be an app whose method does nothing but answer."""
    from openfactory.apps import OpenFactoryApp, ofa_method
    from openfactory.kafka import KSQLDBClient

    class Answering(OpenFactoryApp):
        @ofa_method()
        def ping(self) -> str:
            """Answer."""
            return "pong"

    with KSQLDBClient(f"sqlite:///{database}") as client:
        app = Answering(client, app_uuid="ANSWER")
        _print_line([])
        sys.stdin.read()
        app.shutdown()


def watch_bare(count: int, database: str, address: str) -> None:
    """Hear of each write by a datagram, and read the row."""
    threading.Thread(target=_listen, args=(count, database, address), daemon=True).start()
    sys.stdin.read()


def _listen(count: int, database: str, address: str) -> None:
    connection = bare.open_database(Path(database))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    position = 0
    ages: list[int] = []
    _print_line([])
    while True:
        listener.recv(16)
        for row_id, value in bare.read_after(connection, position):
            ages.append(time.perf_counter_ns() - json.loads(value))
            position = row_id
        if len(ages) == count:
            _print_line(ages)
            ages = []


def _print_each(full: SimpleQueue[list[int]]) -> None:
    while True:
        _print_line(full.get())


def _print_line(ages: list[int]) -> None:
    print(json.dumps(ages), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "asset":
        watch_asset(int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1] == "answer":
        answer_commands(sys.argv[3])
    else:
        watch_bare(int(sys.argv[2]), sys.argv[3], sys.argv[4])
