"""How long a write takes to reach a callback in another process, a command to be answered, and a flush to return.

And what a write costs the process that writes and the process that hears of it, in seconds of CPU.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack

from kafka_bare import BareWriter, message
from kafka_processes import Program, new_place, program
from rounds import Bar, Figure, Pair, alternate, figure_of, percentile

from openfactory.assets import Asset, AssetAttribute
from openfactory.events.event import new_event
from openfactory.kafka import KSQLDBClient

__all__ = ["PAUSE", "WatchedWrites", "measure_latency"]

WRITES = 200
CALLS = 200

# From one write or call to the next, in seconds: the system is idle in between.
PAUSE = (0.003, 0.007)


class WatchedWrites:
    """Rounds of writes, with what a process that watches tells: how old each write was in ms, and its CPU.

    Args:
        watching: the process, which answers after every so many writes.
        count: number of writes of a round.

    Attributes:
        writer: by round, seconds of CPU that this process takes for 10,000 writes.
        reader: the same of the process that watches.
    """

    def __init__(self, watching: Program, count: int = WRITES) -> None:
        self._watching = watching
        self._count = count
        self._rounds: list[list[float]] = []
        self.writer: list[float] = []
        self.reader: list[float] = []

    def round(self, write: Callable[[], None]) -> float:
        """Write at an easy pace, and give back the median."""
        begun = time.process_time()
        for pause in _pauses(self._count):
            time.sleep(pause)
            write()
        answer = self._watching.answer()
        self.writer.append((time.process_time() - begun) / self._count * 10_000)
        self.reader.append(answer["cpu"] / self._count * 10_000)
        self._rounds.append([nanoseconds / 1e6 for nanoseconds in answer["ages"]])
        return percentile(self._rounds[-1], 50)

    def p99(self) -> float:
        """Of all rounds that count."""
        return percentile([age for round in self._rounds[1:] for age in round], 99)


def measure_latency(bootstrap_servers: str, rounds: int) -> list[Figure]:
    """An `Asset` that writes and one that watches, a command and its reply, and a flush, against bare ones."""
    return [*_measure_delivery(bootstrap_servers, rounds), _measure_flush(bootstrap_servers, rounds)]


def _measure_delivery(bootstrap_servers: str, rounds: int) -> list[Figure]:
    """Measure write to callback, and command to reply, against a producer and a consumer."""
    with ExitStack() as stack:
        # Calls have a place of their own, so that only who takes part in a figure reads along.
        ours, bare, commanded = (new_place(bootstrap_servers, f"latency{number}_") for number in range(3))
        watching = WatchedWrites(stack.enter_context(program("watch-asset", ours.url, WRITES)))
        consuming = WatchedWrites(stack.enter_context(program("watch-bare", bootstrap_servers, bare.topic, WRITES)))
        stack.enter_context(program("answer", commanded.url))
        client = stack.enter_context(KSQLDBClient(ours.url))
        asset = stack.enter_context(Asset("BENCH", client))
        asset.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Benchmark"))
        answering = stack.enter_context(Asset("ANSWER", stack.enter_context(KSQLDBClient(commanded.url))))
        writer = stack.enter_context(BareWriter(bootstrap_servers, bare.topic, linger_ms=0))
        times: list[float] = []

        def write_by_asset() -> None:
            asset.number = time.perf_counter_ns()

        def write_bare() -> None:
            writer.write("BENCH", message("number", time.perf_counter_ns()))

        def call() -> float:
            times[:] = _times(CALLS, lambda: answering.call("ping", sender_uuid="BENCH"))
            return percentile(times, 50)

        pairs, commands = alternate(
            rounds,
            "latency",
            lambda: watching.round(write_by_asset),
            lambda: consuming.round(write_bare),
            call,
        )
        calls = [Pair(command.bare, pair.bare) for command, pair in zip(commands, pairs, strict=True)]
    return [
        figure_of("write to callback, p50, asset / bare pair", "ms", pairs, Bar(at_most=1.3)),
        figure_of(
            "write to callback, p99 of all rounds, asset / bare pair",
            "ms",
            [Pair(watching.p99(), consuming.p99())],
            Bar(at_most=1.5),
        ),
        _cpu_of("writer", watching.writer, consuming.writer, Bar(at_most=1.5)),
        _cpu_of("reader", watching.reader, consuming.reader, Bar(at_most=1.3)),
        figure_of(
            "command and reply, p50 / write to bare consumer, p50",
            "ms",
            calls,
            Bar(at_most=2.5),
            [f"p99 of the last {CALLS} calls: {percentile(times, 99):.2f} ms"],
        ),
    ]


def _cpu_of(who: str, ours: list[float], bare: list[float], bar: Bar) -> Figure:
    """Return the CPU of all rounds that count."""
    pairs = [Pair(*both) for both in zip(ours[1:], bare[1:], strict=True)]
    pace = f"a write every {PAUSE[0] * 1e3:g} to {PAUSE[1] * 1e3:g} ms"
    return figure_of(f"CPU of the {who} for 10,000 writes, asset / bare pair", "s", pairs, bar, [pace])


def _measure_flush(bootstrap_servers: str, rounds: int) -> Figure:
    """Measure a write that is flushed against one whose receipt is awaited."""
    place = new_place(bootstrap_servers, "flush_")
    with KSQLDBClient(place.url) as client, Asset("BENCH", client) as asset:
        asset.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Benchmark"))

        def write_and_flush() -> None:
            asset.number = time.perf_counter_ns()
            asset.flush()

        def write_and_wait() -> None:
            event = new_event("BENCH", "number", time.perf_counter_ns(), "Events", "Benchmark")
            client.engine.publish(event).wait(10)

        [pairs] = alternate(
            rounds,
            "flush",
            lambda: percentile(_times(WRITES, write_and_flush), 50),
            lambda: percentile(_times(WRITES, write_and_wait), 50),
        )
    return figure_of("write and flush, p50 / write and receipt, p50", "ms", pairs, Bar(at_most=1.5))


def _times(count: int, act: Callable[[], object]) -> list[float]:
    """Return the milliseconds of each act; the system is idle in between."""
    times = []
    for pause in _pauses(count):
        time.sleep(pause)
        begun = time.perf_counter_ns()
        act()
        times.append((time.perf_counter_ns() - begun) / 1e6)
    return times


def _pauses(count: int) -> list[float]:
    source = random.Random(1)
    return [source.uniform(*PAUSE) for _ in range(count)]
