"""Benchmarks of OpenFactoryFlaskApp: every figure is one against the same Flask app on werkzeug, in the same run.

hatch run bench:flask                       all of them, 10 rounds each
hatch run bench:flask --only requests       one: requests, servers, updates, start
hatch run bench:flask --json                for a program to read
hatch run bench:flask --check               exit status 1 where a bar is missed

requests: a route that reads an attribute is asked on a few connections at a time, each for one request.

servers: the same app on our server, and on werkzeug, waitress and cheroot with as many threads as connections. A
kept-alive connection is used again and again, except on werkzeug, which closes it after each response.

updates: the same while another process writes 1,000 updates a second, each by itself, which the app takes through its
engine. Beside the bare app a thread takes as many of the same writer's, as one would write it by hand: a datagram wakes
it, it reads the rows by sqlite3, decodes their JSON and keeps the value. A second bare app has no bar: its thread takes
nothing from outside, it only decodes a message and keeps it, as often, while the writer writes for nobody.

start: from the start of the process, on a new file, to the first answer. Its bar is on the difference.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory

from report import options, report
from rounds import Bar, Figure, Pair, alternate, figure_of
from web_load import CONNECTIONS, requests_a_second
from web_processes import Server, Writer, start_to_first_answer

# A round is made of short turns, because a machine that does something else too drifts within seconds.
TURNS = 8
TURN_SECONDS = 0.25

# Of the 1,000 updates a second that are written, so many have to be taken.
LEAST_UPDATES = 900


def in_turns(rounds: int, name: str, *measures: Callable[[], float]) -> list[list[Pair]]:
    """Rounds as `alternate` makes them, each of them the mean of turns that alternate too, in either order.

    Returns:
        for each measure but the first, the pairs of it with the first.
    """
    means: list[float] = []

    def take_turns() -> float:
        values: list[list[float]] = [[] for _ in measures]
        places = list(range(len(measures)))
        for _ in range(TURNS):
            for place in places:
                values[place].append(measures[place]())
            places.reverse()
        means[:] = [fmean(of_one) for of_one in values]
        return means[0]

    return alternate(rounds, name, take_turns, *(partial(means.__getitem__, n) for n in range(1, len(measures))))


OTHER_SERVERS = ("werkzeug", "waitress", "cheroot")


def measure_servers(rounds: int) -> list[Figure]:
    """Requests a second of the same app on several servers."""
    cases = ((1, True), (16, True), (64, True), (16, False))
    return [figure for case in cases for figure in _measure_servers(rounds, *case)]


def _measure_servers(rounds: int, connections: int, keep_alive: bool) -> list[Figure]:
    kinds = ("app", *(f"app-on-{name}" for name in OTHER_SERVERS))
    threads = {"THREADS": str(connections)}
    with TemporaryDirectory(prefix="openfactory-bench-") as name, ExitStack() as stack:
        servers = [stack.enter_context(Server(kind, Path(name) / f"{kind}.db", threads)) for kind in kinds]
        ask = partial(requests_a_second, seconds=TURN_SECONDS, connections=connections, keep_alive=keep_alive)
        measures = [partial(ask, server.port) for server in servers]
        all_pairs = in_turns(rounds, f"servers, {connections} connections", *measures)
    bar = Bar(at_least=1.0) if connections == 16 else None
    kind = "kept-alive connections" if keep_alive else "connections for one request each"
    return [
        figure_of(f"requests on {connections} {kind}, app / app on {other}", "requests/s", pairs, bar)
        for other, pairs in zip(OTHER_SERVERS, all_pairs, strict=True)
    ]


def measure_requests(rounds: int) -> list[Figure]:
    """Requests a second where nothing else happens."""
    with TemporaryDirectory(prefix="openfactory-bench-") as name, ExitStack() as stack:
        servers = [stack.enter_context(Server(kind, Path(name) / f"{kind}.db")) for kind in ("app", "bare")]
        (pairs,) = in_turns(
            rounds, "requests", *(partial(requests_a_second, server.port, TURN_SECONDS) for server in servers)
        )
    note = f"{CONNECTIONS} connections at a time, each for one request as werkzeug closes it"
    return [figure_of("requests, app / bare", "requests/s", pairs, Bar(at_least=0.95), [note])]


class _Updated:
    """A server that takes updates, and the process that writes them."""

    def __init__(self, kind: str, folder: Path, stack: ExitStack) -> None:
        database = folder / f"{kind}.db"
        self._writer = stack.enter_context(Writer(database))
        self._server = stack.enter_context(Server(kind, database))
        self._updates = 0.0
        self._seconds = 0.0
        self._processor_seconds = 0.0

    def turn(self) -> float:
        """Requests a second while it takes updates."""
        with self._writer.writing():
            before = self._server.taken()
            requests = requests_a_second(self._server.port, TURN_SECONDS)
            after = self._server.taken()
        self._updates += after.updates - before.updates
        self._seconds += after.at - before.at
        self._processor_seconds += after.processor_seconds - before.processor_seconds
        return requests

    def said(self) -> str:
        """How many updates a second it has taken, and at what cost each."""
        rate = self._updates / self._seconds
        if rate < LEAST_UPDATES:
            raise RuntimeError(
                f"{self._server.kind} took {rate:.0f} updates a second, and the figure is for 1,000. "
                "Leave the machine to the benchmark, and run it again."
            )
        return f"{self._server.kind} {rate:,.0f}/s at {self._processor_seconds / self._updates * 1e6:.0f} µs"


def measure_updates(rounds: int) -> list[Figure]:
    """Requests a second while updates come."""
    with TemporaryDirectory(prefix="openfactory-bench-") as name, ExitStack() as stack:
        servers = [_Updated(kind, Path(name), stack) for kind in ("app", "bare-by-hand", "bare-made")]
        pairs, pairs_of_made = in_turns(rounds, "updates", *(server.turn for server in servers))
        taken = ", ".join(server.said() for server in servers)
    note = f"updates taken, and the processor time of the thread that takes them for each: {taken}"
    return [
        figure_of("requests beside updates, app / bare by hand", "requests/s", pairs, Bar(at_least=0.9), [note]),
        figure_of("requests beside updates, app / bare that only decodes", "requests/s", pairs_of_made),
    ]


def measure_start(rounds: int) -> list[Figure]:
    """The start of a process to its first answer; the bar is on the difference."""
    with TemporaryDirectory(prefix="openfactory-bench-") as name:
        (pairs,) = alternate(
            rounds,
            "start",
            lambda: start_to_first_answer("app", Path(name)),
            lambda: start_to_first_answer("bare", Path(name)),
        )
    more = [pair.ours - pair.bare for pair in pairs]
    figure = figure_of("start to first answer, app - bare (ratio: the difference)", "s", pairs, Bar(at_most=0.5))
    return [replace(figure, ratio=median(more), spread=(min(more), max(more)))]


BENCHMARKS: dict[str, Callable[[int], list[Figure]]] = {
    "requests": measure_requests,
    "servers": measure_servers,
    "updates": measure_updates,
    "start": measure_start,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    asked = options(arguments, "Benchmarks of OpenFactoryFlaskApp against the same Flask app alone.", names=BENCHMARKS)
    measured_with = ", ".join(f"{name} {version(name)}" for name in ("flask", *OTHER_SERVERS))
    return report(asked, measured_with, lambda name, rounds: BENCHMARKS[name](rounds))


if __name__ == "__main__":
    sys.exit(main())
