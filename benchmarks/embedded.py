"""Benchmarks of the embedded engine: every figure is a ratio against a bare equivalent in the same run.

hatch run bench:embedded                       all of them, 10 rounds each
hatch run bench:embedded --only latency        one: writes, latency, commands, import, watched
hatch run bench:embedded --json                for a program to read
hatch run bench:embedded --check               exit status 1 where a bar is missed
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Any

from commands import measure_commands
from imports import measure_imports
from latency import measure_latency
from rounds import Figure
from watched import measure_watched
from writes import measure_writes

BENCHMARKS: dict[str, Callable[[int], list[Figure]]] = {
    "writes": measure_writes,
    "latency": measure_latency,
    "commands": measure_commands,
    "import": measure_imports,
    "watched": measure_watched,
}

_HEADINGS = ("figure", "ours", "bare", "unit", "ratio", "from … to", "bar", "met")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    options = _options(arguments)
    figures = [figure for name in options.only or BENCHMARKS for figure in BENCHMARKS[name](options.rounds)]
    if options.json:
        print(json.dumps({"machine": _machine(), "figures": [_as_json(figure) for figure in figures]}, indent=2))
    else:
        print(_machine())
        print(f"Medians of {options.rounds} alternating rounds; the ratio is the median of the rounds' ratios.")
        print("Fewer than 10 rounds are a look, not a figure.\n" if options.rounds < 10 else "")
        print(_table(figures))
    return int(options.check and any(figure.met is False for figure in figures))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Benchmarks of the embedded engine, as ratios against bare equivalents."
    )
    parser.add_argument(
        "--rounds", type=_positive, default=10, help="alternating rounds of each (default: %(default)s)"
    )
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with status 1 where a bar is missed")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} rounds measure nothing; give 1 or more")
    return number


def _machine() -> str:
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )


def _as_json(figure: Figure) -> dict[str, Any]:
    return dataclasses.asdict(figure) | {"bar": str(figure.bar) if figure.bar else None, "met": figure.met}


def _table(figures: Sequence[Figure]) -> str:
    cells = [_HEADINGS, *(_cells(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
    lines = [_line(_HEADINGS, widths), "  ".join("-" * width for width in widths)]
    for figure, line in zip(figures, cells[1:], strict=True):
        lines.append(_line(line, widths))
        lines += [f"    {note}" for note in figure.notes]
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    low, high = figure.spread
    met = {True: "yes", False: "NO", None: ""}[figure.met]
    spread = f"{low:.2f} … {high:.2f}" if figure.rounds > 1 else ""
    bar = str(figure.bar or "")
    return figure.name, _number(figure.ours), _number(figure.bare), figure.unit, f"{figure.ratio:.2f}", spread, bar, met


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (1, 2, 4)
    padded = (
        cell.rjust(width) if column in numbers else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


if __name__ == "__main__":
    sys.exit(main())
