"""The progress of a deployment on standard error: a table that changes on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.output import has_color, one_line, terminal_width

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["shown_steps"]

# Changes of the table in a second.
_CHANGES = 8


@contextmanager
def shown_steps(uuids: Sequence[str]) -> Generator[Callable[[str, str], None]]:
    """Yield a function that shows the progress of an asset.

    Args:
        uuids: UUIDs of the assets, in the order in which a terminal shows them.
    """
    if not sys.stderr.isatty():
        yield _print_line
        return
    from rich.console import Console  # slow to import, and only needed here
    from rich.live import Live

    lock, began = threading.Lock(), time.monotonic()
    shown: dict[str, tuple[str, float]] = {}

    def show(uuid: str, text: str) -> None:
        with lock:
            shown[uuid] = text, time.monotonic() - began

    def table() -> Table:
        with lock:
            return _table({uuid: shown[uuid] for uuid in dict.fromkeys((*uuids, *shown)) if uuid in shown})

    console = Console(stderr=True, highlight=False, width=terminal_width(), no_color=not has_color())
    with Live(console=console, get_renderable=table, refresh_per_second=_CHANGES, transient=True):
        yield show


def _print_line(uuid: str, text: str) -> None:
    click.echo(f"{one_line(uuid)}: {one_line(text)}", err=True)


def _table(shown: dict[str, tuple[str, float]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for uuid, (text, seconds) in shown.items():
        table.add_row(Text(one_line(uuid)), f"{seconds:.1f} s", Text(one_line(text)))
    return table
