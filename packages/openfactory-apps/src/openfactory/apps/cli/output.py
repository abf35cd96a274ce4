"""The output of commands: tables on a terminal, aligned lines in a pipe or file, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click
import msgspec

from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.timestamp import current_timestamp

__all__ = ["one_line", "print_json", "print_json_line", "print_table", "short_timestamp"]

_NO_WIDTHS: Mapping[str, int] = MappingProxyType({})

# Columns whose text wraps; the text of other columns is cut.
_WRAPPED = ("value", "arguments", "description")
_NARROW = 110
_STYLES = {"AVAILABLE": "green", UNAVAILABLE: "yellow"}

# Number of characters of a long value in a table; --json prints the whole value.
_LONGEST_VALUE = 200


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


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str = "",
    narrow_widths: Mapping[str, int] = _NO_WIDTHS,
) -> None:
    """Print rows under their headers: on a terminal as a table that fits its width, elsewhere as aligned lines.

    Args:
        headers: names of the columns.
        rows: cells of each row.
        title: line above the table.
        narrow_widths: widths of columns that are cut on a narrow terminal.
    """
    if sys.stdout.isatty():
        _print_on_terminal(headers, rows, title, narrow_widths)
        return
    if title:
        click.echo(f"{title}\n")
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_on_terminal(
    headers: Sequence[str], rows: Sequence[Sequence[str]], title: str, narrow_widths: Mapping[str, int]
) -> None:
    from rich import box  # slow to import, and only needed here
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if title:
        console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for number, header in enumerate(headers):
        table.add_column(
            header,
            style="bold" if number == 0 else "",
            no_wrap=header not in _WRAPPED,
            overflow="fold" if header in _WRAPPED else "ellipsis",
            max_width=narrow_widths.get(header) if console.width < _NARROW else None,
        )
    for row in rows:
        table.add_row(*(Text(_shortened(cell), style=_STYLES.get(cell, "")) for cell in row))
    console.print(table)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
