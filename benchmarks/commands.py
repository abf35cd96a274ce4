"""How long a command takes to be answered, and how many events a second reach callbacks."""

from __future__ import annotations

import threading
import time
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from latency import watcher
from rounds import Bar, Figure, Pair, alternate, figure_of, percentile
from writes import running_app

from openfactory.assets import Asset, AssetEvent
from openfactory.assets.state import AssetState
from openfactory.assets.subscriptions import Subscriptions
from openfactory.concurrency import OrderedExecutor
from openfactory.events.event import new_event
from openfactory.kafka import KSQLDBClient

__all__ = ["measure_commands"]

CALLS = 200
EVENTS = 50_000

ASSETS = 1_000
ATTRIBUTES = 20

# What a watched asset may take, in bytes.
_MEMORY_BAR = 20 * 1024.0

# What one process has to hand to callbacks at least, in events a second.
_DISPATCH_BAR = 100_000.0


def measure_commands(rounds: int) -> list[Figure]:
    """A command and its reply against one write; dispatch alone; and what a watched asset of 20 attributes takes."""
    return [_measure_calls(rounds), _measure_dispatch(rounds), _measure_memory()]


def _measure_calls(rounds: int) -> Figure:
    with TemporaryDirectory(prefix="openfactory-bench-") as name, ExitStack() as stack:
        database = Path(name) / "app.db"
        app, _ = stack.enter_context(running_app(database))
        watching = stack.enter_context(watcher("asset", database))
        stack.enter_context(watcher("answer", database))
        client = stack.enter_context(KSQLDBClient(f"sqlite:///{database}"))
        answering = stack.enter_context(Asset("ANSWER", client))
        times: list[float] = []

        def call() -> float:
            times.clear()
            for _ in range(CALLS):
                time.sleep(0.005)
                begun = time.perf_counter_ns()
                answering.call("ping", sender_uuid="BENCH")
                times.append((time.perf_counter_ns() - begun) / 1e6)
            return percentile(times, 50)

        def write() -> None:
            app.sample = time.perf_counter_ns()

        (pairs,) = alternate(rounds, "commands", call, lambda: watching.round(write))
        note = f"p99 of the last {CALLS} calls: {percentile(times, 99):.2f} ms"
    return figure_of("command and reply, p50 / write to callback, p50", "ms", pairs, Bar(at_most=2.5), [note])


def _measure_dispatch(rounds: int) -> Figure:
    subscriptions = Subscriptions("BENCH", AssetState(), OrderedExecutor("bench"))
    event = AssetEvent("BENCH", "sample", 1.5, "Samples", "Bench", "2026-11-21T07:30:00.000Z", 1)
    heard = 0
    all_heard = threading.Event()

    def hear(_subject: str, _message: object) -> None:
        nonlocal heard
        heard += 1
        if heard % EVENTS == 0:
            all_heard.set()

    subscriptions.add(".sample", hear)

    def dispatch() -> float:
        all_heard.clear()
        begun = time.perf_counter()
        for _ in range(EVENTS):
            subscriptions.dispatch(event)
        all_heard.wait()
        return EVENTS / (time.perf_counter() - begun)

    (pairs,) = alternate(rounds, "dispatch", dispatch, lambda: _DISPATCH_BAR)
    return figure_of("dispatch to a callback / 100,000 a second", "events/s", pairs, Bar(at_least=1))


def _measure_memory() -> Figure:
    with KSQLDBClient("memory://bench") as client, ExitStack() as stack:
        for number in range(ASSETS):
            for attribute in range(ATTRIBUTES):
                client.engine.publish(new_event(f"ASSET-{number}", f"sample-{attribute}", 1.5, "Samples", "Bench"))
        client.engine.flush(60)
        threads = threading.active_count()
        stack.enter_context(Asset("ASSET-0", client))
        tracemalloc.start()
        for number in range(1, ASSETS):
            stack.enter_context(Asset(f"ASSET-{number}", client))
        taken = tracemalloc.get_traced_memory()[0] / (ASSETS - 1)
        tracemalloc.stop()
        note = f"{threading.active_count() - threads} threads more for {ASSETS:,} assets than for none"
    name = f"memory of a watched asset of {ATTRIBUTES} attributes / 20 KiB"
    return figure_of(name, "bytes", [Pair(taken, _MEMORY_BAR)], Bar(at_most=1), [note])
