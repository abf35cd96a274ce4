"""Benchmark of the asset forwarder: its throughput and its latency, against a bare loop in the same run.

hatch run bench:fanout                      10 rounds, on a broker and a NATS server of its own
hatch run bench:fanout --only latency       one: throughput, latency
hatch run bench:fanout --check              exit status 1 where a bar is missed
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path

from kafka_bare import BareWriter, message
from kafka_latency import PAUSE, WatchedWrites
from kafka_processes import new_place, program
from report import options, report
from rounds import Bar, Figure, Pair, alternate, figure_of

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from servers import KafkaBroker, NatsServer, NotOnThisMachineError, ServerFailedError

RECORDS = 200_000
ASSETS = 1_000
WRITES = 300

_program = partial(program, file="fanout_programs.py")


def measure_throughput(bootstrap_servers: str, nats_url: str, rounds: int) -> list[Figure]:
    """How many events a second one forwarder brings from a log to NATS, against a bare loop."""
    place = new_place(bootstrap_servers, "throughput_")
    text = message("sample", 0.1)
    with BareWriter(bootstrap_servers, place.topic, linger_ms=5, queue_buffering_max_messages=RECORDS) as writer:
        for number in range(RECORDS):
            writer.write(f"ASSET-{number % ASSETS}", text)
        writer.flush()
    with (
        _program("forward-all", place.url, nats_url, RECORDS) as ours,
        _program("forward-all-bare", bootstrap_servers, place.topic, nats_url, RECORDS) as bare,
    ):
        [pairs] = alternate(rounds, "throughput", lambda: float(ours.round()), lambda: float(bare.round()))
    note = f"{RECORDS:,} records of {ASSETS:,} assets, one partition; ours adds headers, proves and commits"
    return [figure_of("events a second, forwarder / bare loop", "1/s", pairs, Bar(at_least=0.8), [note])]


def measure_latency(bootstrap_servers: str, nats_url: str, rounds: int) -> list[Figure]:
    """How long a write takes to a NATS subscriber, through the forwarder and through a bare loop."""
    ours, bare = new_place(bootstrap_servers, "ours_"), new_place(bootstrap_servers, "bare_")
    with ExitStack() as stack:
        stack.enter_context(_program("forward-on", ours.url, nats_url))
        stack.enter_context(_program("forward-on-bare", bootstrap_servers, bare.topic, nats_url))
        paths = [
            _Path(stack, bootstrap_servers, place.topic, nats_url, asset)
            for place, asset in ((ours, "OURS"), (bare, "BARE"))
        ]
        [pairs] = alternate(rounds, "latency", paths[0].round, paths[1].round)
        p99 = [Pair(paths[0].writes.p99(), paths[1].writes.p99())]
    note = f"{WRITES} writes a round, one every {PAUSE[0] * 1e3:g} to {PAUSE[1] * 1e3:g} ms"
    return [
        figure_of("write to subscriber, p50, forwarder / bare loop", "ms", pairs, Bar(at_most=1.3), [note]),
        figure_of("write to subscriber, p99 of all rounds, forwarder / bare loop", "ms", p99),
    ]


class _Path:
    """The way of one asset from a bare producer to a bare subscriber."""

    def __init__(self, stack: ExitStack, bootstrap_servers: str, topic: str, nats_url: str, asset: str) -> None:
        self._asset = asset
        self._writer = stack.enter_context(BareWriter(bootstrap_servers, topic, linger_ms=0))
        self.writes = WatchedWrites(stack.enter_context(_program("hear", nats_url, asset, WRITES)), WRITES)

    def round(self) -> float:
        """Write at an easy pace, and return the median age."""
        return self.writes.round(self._write)

    def _write(self) -> None:
        self._writer.write(self._asset, message("number", time.perf_counter_ns()))


BENCHMARKS: dict[str, Callable[[str, str, int], list[Figure]]] = {
    "throughput": measure_throughput,
    "latency": measure_latency,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    asked = options(arguments, "Benchmark of the asset forwarder, as ratios against a bare loop.", names=BENCHMARKS)
    try:
        with KafkaBroker() as broker, NatsServer() as server:
            return report(
                asked,
                f"confluent-kafka {version('confluent-kafka')}, nats-py {version('nats-py')}, servers on this machine",
                lambda name, rounds: BENCHMARKS[name](broker.bootstrap_servers, server.url, rounds),
            )
    except (NotOnThisMachineError, ServerFailedError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main())
