"""How many attributes one app writes a second, against bare loops over sqlite3."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import bare
from rounds import Bar, Figure, alternate, figure_of

from openfactory.apps import OpenFactoryApp, SampleAttribute
from openfactory.engines import Engine
from openfactory.kafka import KSQLDBClient

__all__ = ["BenchmarkApp", "measure_writes", "running_app"]

WRITES = 20_000
FLUSHED_WRITES = 2_000


class BenchmarkApp(OpenFactoryApp):
    """An app with one attribute, as a user would write it."""

    sample = SampleAttribute(value=0.0, tag="Benchmark")


@contextmanager
def running_app(database: Path) -> Generator[tuple[BenchmarkApp, Engine]]:
    """An app on a file, and its engine; stopped at the end."""
    with KSQLDBClient(f"sqlite:///{database}") as client:
        app = BenchmarkApp(client, app_uuid="BENCH", loglevel="ERROR")
        try:
            yield app, client.engine
        finally:
            app.shutdown()


class _Contestants:
    """Each measures one round, on a new file."""

    def __init__(self, folder: Path) -> None:
        self._files = (folder / f"{number}.db" for number in count())
        self.batches: list[float] = []

    def app(self) -> float:
        """The app: writes, then flush; all of it is in the time."""
        with running_app(next(self._files)) as (app, engine):
            before = engine.health().counters
            started = time.perf_counter()
            for number in range(WRITES):
                app.sample = number * 0.1
            app.flush(60)
            seconds = time.perf_counter() - started
            after = engine.health().counters
        written, commits = (after[name] - before[name] for name in ("written", "commits"))
        if written != WRITES:
            raise AssertionError(f"{written} events were written and not {WRITES}.")
        self.batches.append(written / commits)
        return WRITES / seconds

    def app_that_flushes(self) -> float:
        """The app again, with a flush after each write."""
        with running_app(next(self._files)) as (app, _):
            started = time.perf_counter()
            for number in range(FLUSHED_WRITES):
                app.sample = number * 0.1
                app.flush()
            return FLUSHED_WRITES / (time.perf_counter() - started)

    def in_batches(self) -> float:
        """sqlite3 with the batches that the app made just before."""
        return self._bare(max(1, round(self.batches[-1])))

    def one_by_one(self) -> float:
        """sqlite3 with a commit for each attribute."""
        return self._bare(None)

    def _bare(self, batch: int | None) -> float:
        connection = bare.open_database(next(self._files))
        try:
            if batch is None:
                return bare.write_one_by_one(connection, WRITES)
            return bare.write_batches(connection, WRITES, batch)
        finally:
            connection.close()


def measure_writes(rounds: int) -> list[Figure]:
    """The app against bare batches of the same size, and against one commit an attribute."""
    with TemporaryDirectory(prefix="openfactory-bench-") as folder:
        contestants = _Contestants(Path(folder))
        batched, single, flushed = alternate(
            rounds,
            "writes",
            contestants.app,
            contestants.in_batches,
            contestants.one_by_one,
            contestants.app_that_flushes,
        )
    batches_to_single = statistics.median(two.bare / one.bare for one, two in zip(single, batched, strict=True))
    batches = sorted(contestants.batches[1:])
    note = (
        f"{WRITES:,} writes and the flush in a round; the app made commits of {batches[0]:.0f} to {batches[-1]:.0f} "
        f"events, {batches[len(batches) // 2]:.0f} in the median"
    )
    return [
        figure_of("writes, app / bare batches", "writes/s", batched, Bar(at_least=0.3), [note]),
        figure_of(
            "writes, app / bare with one commit each",
            "writes/s",
            single,
            Bar(at_least=3),
            [f"bare batches reach {batches_to_single:.2f} times bare with one commit each"],
        ),
        figure_of("writes, app / app that flushes each", "writes/s", flushed),
    ]
