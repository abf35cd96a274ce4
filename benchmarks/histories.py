"""How long the history of one attribute takes among five million events, and how long a file takes to be indexed."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from rounds import Bar, Figure, Pair, figure_of

from openfactory.engines.embedded import EmbeddedEngine

__all__ = ["measure_history"]

EVENTS = 5_000_000
PROMISED_MS = 50.0

# Five hundred events of an attribute are far back, and the others are of two hundred attributes.
_FILL = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO log (asset, attr, value, type, tag, ts)
SELECT 'BENCH-' || (n % 200), CASE WHEN n < 100000 AND n % 100 = 0 THEN 'early' ELSE 'sample' END, n, 'Samples', 'B',
       strftime('%Y-%m-%dT%H:%M:%S.000Z', 1795000000 + n / 10, 'unixepoch')
FROM numbers
"""


def measure_history(rounds: int) -> list[Figure]:
    """The histories of an attribute that is far back, of the newest events, and of a period far back."""
    with TemporaryDirectory(prefix="openfactory-bench-") as folder:
        path = Path(folder) / "factory.db"
        url = f"sqlite:///{path}?keep_events={2 * EVENTS}"
        EmbeddedEngine(url).close()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute(_FILL, (EVENTS,))
        engine = EmbeddedEngine(url)
        started = time.perf_counter()
        with closing(sqlite3.connect(path)) as connection:
            while connection.execute("SELECT up_to FROM indexed").fetchone()[0] < EVENTS - 50_000:
                time.sleep(0.1)
        indexed_after = time.perf_counter() - started
        until = engine.history("BENCH-1", "sample", until="2026-11-18T12:00:00Z", limit=1)[0].timestamp
        asked: dict[str, dict[str, str]] = {
            "far back": {"asset_uuid": "BENCH-0", "attribute_id": "early"},
            "newest": {"asset_uuid": "BENCH-1", "attribute_id": "sample"},
            "until a time far back": {"asset_uuid": "BENCH-1", "attribute_id": "sample", "until": until},
        }
        note = f"the file was indexed {indexed_after:.0f} s after it was opened, of which 20 s are the first wait"
        figures = [
            figure_of(
                f"history {name}, {EVENTS:,} events / {PROMISED_MS:g} ms",
                "ms",
                [Pair(_milliseconds(engine, arguments), PROMISED_MS) for _ in range(rounds)],
                Bar(at_most=1),
                [note] if name == "far back" else [],
            )
            for name, arguments in asked.items()
        ]
        engine.close()
        return figures


def _milliseconds(engine: EmbeddedEngine, arguments: dict[str, str]) -> float:
    started = time.perf_counter()
    if not engine.history(**arguments):  # type: ignore[arg-type] # no limit among them
        raise AssertionError(f"There is no history of {arguments}.")
    return (time.perf_counter() - started) * 1000
