"""Benchmarks of the embedded engine: every figure is a ratio against a bare equivalent in the same run.

hatch run bench:embedded                       all of them, 10 rounds each
hatch run bench:embedded --only latency        one: writes, latency, commands, import, watched, history
hatch run bench:embedded --json                for a program to read
hatch run bench:embedded --check               exit status 1 where a bar is missed
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence

from commands import measure_commands
from histories import measure_history
from imports import measure_imports
from latency import measure_latency
from report import options, report
from rounds import Figure
from watched import measure_watched
from writes import measure_writes

BENCHMARKS: dict[str, Callable[[int], list[Figure]]] = {
    "writes": measure_writes,
    "latency": measure_latency,
    "commands": measure_commands,
    "import": measure_imports,
    "watched": measure_watched,
    "history": measure_history,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    asked = options(
        arguments, "Benchmarks of the embedded engine, as ratios against bare equivalents.", names=BENCHMARKS
    )
    return report(asked, f"SQLite {sqlite3.sqlite_version}", lambda name, rounds: BENCHMARKS[name](rounds))


if __name__ == "__main__":
    sys.exit(main())
