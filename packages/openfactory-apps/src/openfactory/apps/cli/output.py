"""The output of commands: tables on a terminal, aligned lines in a pipe or file, JSON for programs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from openfactory.apps.cli.failure import OutputFailure
from openfactory.apps.standard_streams import open_missing_streams, watch_stream
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.timestamp import current_timestamp

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "has_color",
    "one_line",
    "prepare_output",
    "print_json",
    "print_json_line",
    "print_table",
    "short_timestamp",
    "terminal_width",
]

# Columns whose text wraps, and the smallest width of each. If a table is wider, its rows are printed as records.
_WRAPPED = {"value": 16, "arguments": 16, "description": 16, "tag": 12}

# The smallest width that text is wrapped to.
_NARROWEST = 20
_STYLES = {"AVAILABLE": "green", UNAVAILABLE: "yellow"}

# Number of characters of a long value in a table; --json prints the whole value.
_LONGEST_VALUE = 200


def prepare_output() -> None:
    """Have the command fail once if its output cannot be written, and go on if its messages cannot.

    A closed standard output counts as written: nobody is there to read it.
    """
    failed = False

    def fail_once(error: OSError) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise OutputFailure(error)

    open_missing_streams()
    watch_stream("stdout", fail_once)
    watch_stream("stderr")


def has_color() -> bool:
    """Return whether standard output is a terminal that shows colors, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def terminal_width() -> int:
    """Return the number of columns to wrap text to."""
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def print_json(value: Any) -> None:
    """Print a value as JSON on several lines."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_json_line(value: Any) -> None:
    """Print a value as JSON on one line."""
    click.echo(msgspec.json.encode(value))


def one_line(value: Any) -> str:
    """Return a value as one line of printable characters: text as it is, other values as JSON.

    Control characters are escaped, so that a value cannot control the terminal.

    >>> one_line("idle"), one_line(True), one_line([1, 2]), one_line("two\\nlines")
    ('idle', 'true', '[1,2]', 'two\\\\nlines')
    """
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def short_timestamp(timestamp: str) -> str:
    """Return a timestamp; on a terminal, only the time if it is from today, and only the date otherwise."""
    if not sys.stdout.isatty() or len(timestamp) < len("2026-11-21T07:30:00"):
        return one_line(timestamp)
    return one_line(timestamp[11:19] if timestamp[:10] == current_timestamp()[:10] else timestamp[:10])


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print rows under their headers: on a terminal as a table that fits its width, elsewhere as aligned lines.

    Control characters are escaped: most texts come from the log, to which any program may have written.

    Args:
        headers: names of the columns.
        rows: cells of each row.
        title: line above the table.
    """
    title, rows = one_line(title), [list(map(one_line, row)) for row in rows]
    if sys.stdout.isatty():
        _print_on_terminal(headers, [list(map(_shortened, row)) for row in rows], title)
        return
    if title:
        click.echo(f"{title}\n")
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_on_terminal(headers: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.cells import cell_len  # slow to import, and only needed here
    from rich.console import Console
    from rich.text import Text

    width, height = terminal_width(), shutil.get_terminal_size().lines
    console = Console(highlight=False, width=width, height=height, color_system="auto" if has_color() else None)
    if title:
        console.print(Text(title, style="bold"))
    widths = [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]
    smallest = (min(wide, _WRAPPED.get(header, wide)) for header, wide in zip(headers, widths, strict=True))
    if sum(smallest) + 2 * len(headers) <= width:  # rich takes two columns beside each
        _print_grid(console, headers, rows)
    else:
        _print_records(console, headers, rows)


def _print_grid(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for number, header in enumerate(headers):
        table.add_column(header, style="bold" if number == 0 else "", no_wrap=header not in _WRAPPED, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


def _print_records(console: Console, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as lines with a header and a cell, because the columns do not fit beside each other."""
    from rich.padding import Padding
    from rich.text import Text

    for row in rows:
        console.print()
        for number, (header, cell) in enumerate(zip(headers, row, strict=True)):
            line = Text.assemble((f"{header}: ", "dim"), (cell, "bold" if number == 0 else _STYLES.get(cell, "")))
            console.print(Padding(line, (0, 0, 0, 2 if number else 0), expand=False))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
