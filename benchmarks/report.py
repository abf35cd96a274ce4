"""What a run of benchmarks prints, and the options that it is given."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rounds import Figure

__all__ = ["Options", "options", "report"]

_HEADINGS = ("figure", "ours", "bare", "unit", "ratio", "from … to", "bar", "met")


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run was asked for."""

    names: Sequence[str]
    rounds: int
    json: bool
    check: bool


def options(arguments: Sequence[str] | None, description: str, names: Mapping[str, object]) -> Options:
    """Read the arguments of a run."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--rounds", type=_positive, default=10, help="alternating rounds of each (default: %(default)s)"
    )
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--check", action="store_true", help="exit with status 1 where a bar is missed")
    asked = parser.parse_args(arguments)
    return Options(asked.only or list(names), asked.rounds, asked.json, asked.check)


def report(asked: Options, measured_with: str, measure: Callable[[str, int], list[Figure]]) -> int:
    """Measure, print, and say by a status whether all bars are met.

    Args:
        measured_with: the programs that matter, with their versions.
        measure: called with the name of a benchmark and the number of rounds.
    """
    figures = [figure for name in asked.names for figure in measure(name, asked.rounds)]
    machine = (
        f"Python {platform.python_version()}, {measured_with}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    if asked.json:
        print(json.dumps({"machine": machine, "figures": [_as_json(figure) for figure in figures]}, indent=2))
    else:
        print(machine)
        print(f"Medians of {asked.rounds} alternating rounds; the ratio is the median of the rounds' ratios.")
        print("Fewer than 10 rounds are a look, not a figure.\n" if asked.rounds < 10 else "")
        print(_table(figures))
    return int(asked.check and any(figure.met is False for figure in figures))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} rounds measure nothing; give 1 or more")
    return number


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
