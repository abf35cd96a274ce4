"""How long a write takes to reach a callback in another process, against sqlite3 and one datagram."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import bare
from rounds import Bar, Figure, alternate, figure_of, percentile
from writes import running_app

__all__ = ["measure_latency", "watcher"]

WRITES = 200

# From one write to the next, in seconds: the system is idle in between.
_PAUSE = (0.003, 0.007)

_ANSWER_SECONDS = 30


class _Watcher:
    """A process that tells, after so many writes, how old each was when it heard of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._answers = process.stdout
        self.ages: list[float] = []  # in ms, of all rounds that count
        self._is_warm = False
        self.answer()  # it is ready

    def answer(self) -> str:
        """The next line that it says."""
        line = self._answers.readline()
        if not line:
            raise RuntimeError("A watcher ended before it had heard of every write; its error stands above.")
        return line

    def round(self, write: Callable[[], None]) -> float:
        """Write at an easy pace, and give back the median age in ms."""
        pauses = random.Random(1)
        for _ in range(WRITES):
            time.sleep(pauses.uniform(*_PAUSE))
            write()
        ages = [nanoseconds / 1e6 for nanoseconds in json.loads(self.answer())]
        if self._is_warm:
            self.ages += ages
        self._is_warm = True
        return percentile(ages, 50)


@contextmanager
def watcher(kind: str, *arguments: str | Path) -> Generator[_Watcher]:
    """Start a process of `watchers.py`, and end it."""
    command = [sys.executable, Path(__file__).with_name("watchers.py"), kind, str(WRITES), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield _Watcher(process)
    finally:
        process.communicate(timeout=_ANSWER_SECONDS)  # it ends when its standard input does


def measure_latency(rounds: int) -> list[Figure]:
    """An app that writes and an `Asset` that watches it, against a bare pair of processes."""
    with TemporaryDirectory(prefix="openfactory-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        app, _ = stack.enter_context(running_app(folder / "app.db"))
        watching = stack.enter_context(watcher("asset", folder / "app.db"))

        connection = bare.open_database(folder / "bare.db")
        stack.callback(connection.close)
        receiving = stack.enter_context(watcher("bare", folder / "bare.db", folder / "wake.sock"))
        notifier = bare.Notifier(folder / "wake.sock")
        stack.callback(notifier.close)

        def write_by_app() -> None:
            app.sample = time.perf_counter_ns()

        def write_bare() -> None:
            bare.insert(connection, bare.row("BENCH", "sample", time.perf_counter_ns()))
            notifier.send()

        (pairs,) = alternate(
            rounds, "latency", lambda: watching.round(write_by_app), lambda: receiving.round(write_bare)
        )
    note = (
        f"p99 of {len(watching.ages):,} writes: app {percentile(watching.ages, 99):.2f} ms, "
        f"bare {percentile(receiving.ages, 99):.2f} ms; the aim for the app's p50 is under 1 ms"
    )
    return [figure_of("write to callback, p50, app / bare", "ms", pairs, Bar(at_most=1.5), [note])]
