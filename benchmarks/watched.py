"""What 10,000 watched assets cost one process: threads, time and memory.

Started by itself, `python watched.py KIND COUNT DATABASE` is the process that watches.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bare
from rounds import Bar, Figure, Pair, alternate, figure_of

from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

__all__ = ["measure_watched"]

ASSETS = 10_000

_DELIVERY_SECONDS = 60


def measure_watched(rounds: int) -> list[Figure]:
    """Many watched assets against one, and against a bare SELECT and a dictionary for each."""
    with TemporaryDirectory(prefix="openfactory-bench-") as folder:
        database = Path(folder) / "watched.db"
        with KSQLDBClient(f"sqlite:///{database}") as client:
            client.tables()  # makes the file
        connection = bare.open_database(database)
        _write_each(connection, 0.0)
        connection.close()

        def run(kind: str, count: int) -> dict[str, float]:
            command = [sys.executable, __file__, kind, str(count), str(database)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            result: dict[str, float] = json.loads(answer)
            return result

        def watch_seconds(kind: str) -> Callable[[], float]:
            return lambda: run(kind, ASSETS)["ms"]

        (times,) = alternate(rounds, "watched assets", watch_seconds("asset"), watch_seconds("bare"))
        one, many = run("threads", 1), run("threads", ASSETS)
        memory = Pair(run("asset-memory", ASSETS)["bytes"], run("bare-memory", ASSETS)["bytes"])
    return [
        figure_of(
            f"threads, {ASSETS:,} assets / 1",
            "",
            [Pair(many["threads"], one["threads"])],
            Bar(at_least=1, at_most=1),
        ),
        figure_of("threads at most while each gets an event", "", [Pair(many["busy"], one["busy"])]),
        figure_of(f"time to watch {ASSETS:,}, asset / SELECT", "ms", times),
        figure_of("memory of a watched asset / dictionary", "bytes", [memory]),
    ]


def _names(count: int) -> list[str]:
    return [f"ASSET-{number}" for number in range(count)]


def _write_each(connection: Any, value: float) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for name in _names(ASSETS):
        bare.insert(connection, bare.row(name, "sample", value))
    connection.execute("COMMIT")


def _watch_assets(count: int, database: str, stack: ExitStack, heard: Callable[[str, Any], None]) -> list[Any]:
    client = stack.enter_context(KSQLDBClient(f"sqlite:///{database}"))
    assets = []
    for name in _names(count):
        asset = stack.enter_context(Asset(name, client))
        asset.subscribe_to_attribute("sample", heard)
        assets.append(asset)
    return assets


def _watch_bare(count: int, database: str, stack: ExitStack, heard: Callable[[str, Any], None]) -> dict[str, Any]:
    connection = bare.open_database(Path(database))
    stack.callback(connection.close)
    select = "SELECT log.asset, attr, value, type, tag, ts FROM log WHERE id IN (SELECT id FROM latest WHERE asset = ?)"
    return {
        name: {
            "last": {row[1]: (json.loads(row[2]), *row) for row in connection.execute(select, (name,)).fetchall()},
            "sample": [heard],
        }
        for name in _names(count)
    }


def _threads(count: int, database: str) -> dict[str, float]:
    """How many there are when all is watched, and at most while each watched asset gets an event."""
    threads: list[int] = []
    all_heard = threading.Event()

    def heard(_subject: str, _message: Any) -> None:
        threads.append(threading.active_count())
        if len(threads) >= count:
            all_heard.set()

    with ExitStack() as stack:
        _watch_assets(count, database, stack, heard)
        resting = threading.active_count()
        connection = bare.open_database(Path(database))
        stack.callback(connection.close)
        _write_each(connection, time.time())
        if not all_heard.wait(_DELIVERY_SECONDS):
            raise TimeoutError(f"{len(threads)} of {count} callbacks were called in {_DELIVERY_SECONDS} s.")
    return {"threads": resting, "busy": max(threads)}


def _cost(watch: Callable[[ExitStack], Any], *, memory: bool) -> dict[str, float]:
    with ExitStack() as stack:
        if memory:
            tracemalloc.start()
        started = time.perf_counter()
        kept = watch(stack)
        milliseconds = (time.perf_counter() - started) * 1000
        allocated = tracemalloc.get_traced_memory()[0] if memory else 0
        return {"ms": milliseconds, "bytes": allocated / len(kept)}


def _main(kind: str, count: int, database: str) -> dict[str, float]:
    def heard(_subject: str, _message: Any) -> None:
        """Nobody writes while the cost is measured."""

    if kind == "threads":
        return _threads(count, database)
    what, _, memory = kind.partition("-")
    if what == "asset":
        return _cost(lambda stack: _watch_assets(count, database, stack, heard), memory=bool(memory))
    return _cost(lambda stack: _watch_bare(count, database, stack, heard), memory=bool(memory))


if __name__ == "__main__":
    print(json.dumps(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
