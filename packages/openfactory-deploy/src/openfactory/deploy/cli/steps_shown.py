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

    from openfactory.deploy.cli.session import Session
    from openfactory.deploy.plan import Plan
    from openfactory.deploy.site import Site

__all__ = ["shown_site"]

# Changes of the table in a second.
_CHANGES = 8

# Width of the column with the seconds.
_SECONDS_WIDTH = 7


@contextmanager
def shown_site(session: Session, plan: Plan, timeout: float) -> Generator[Site]:
    """Open the factory of a session for a deployment, and show the progress of its steps.

    Args:
        session: the session.
        plan: the plan of the deployment.
        timeout: seconds in which an app becomes AVAILABLE.

    Raises:
        Failure: no factory is named.
        ConfigurationError, EngineUnavailableError: the factory cannot be opened.
    """
    from openfactory.deploy.site import deployment_site

    with (
        _shown_steps([step.uuid for step in plan.steps]) as report,
        deployment_site(session.target, session.factory_url, session.store, report, timeout) as site,
    ):
        yield site


@contextmanager
def _shown_steps(uuids: Sequence[str]) -> Generator[Callable[[str, str], None]]:
    """Yield a function that shows the progress of an asset.

    Args:
        uuids: UUIDs of the assets, in the order in which a terminal shows them.
    """
    if not sys.stderr.isatty():
        yield _print_line
        return
    from rich.console import Console  # slow to import, and only needed here
    from rich.live import Live

    from openfactory.deploy.results import Outcome

    lock, ends = threading.Lock(), frozenset(Outcome)
    began: dict[str, float] = {}
    shown: dict[str, tuple[str, float | None]] = {}  # the text, and the seconds of an asset that is done

    def show(uuid: str, text: str) -> None:
        with lock:
            now = time.monotonic()
            seconds = now - began.setdefault(uuid, now)
            shown[uuid] = text, seconds if text.partition(":")[0] in ends else None

    def table() -> Table:
        with lock:
            now = time.monotonic()
            rows = [(uuid, *shown[uuid]) for uuid in dict.fromkeys((*uuids, *shown)) if uuid in shown]
            return _table([(uuid, text, now - began[uuid] if s is None else s) for uuid, text, s in rows])

    console = Console(stderr=True, highlight=False, width=terminal_width(), no_color=not has_color())
    with Live(console=console, get_renderable=table, refresh_per_second=_CHANGES, transient=True):
        yield show


def _print_line(uuid: str, text: str) -> None:
    click.echo(f"{one_line(uuid)}: {one_line(text)}", err=True)


def _table(rows: Sequence[tuple[str, str, float]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True)
    table.add_column(style="bold", no_wrap=True, min_width=max((len(uuid) for uuid, _, _ in rows), default=0))
    table.add_column(justify="right", style="dim", no_wrap=True, min_width=_SECONDS_WIDTH)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for uuid, text, seconds in rows:
        table.add_row(Text(one_line(uuid)), f"{seconds:.1f} s", Text(one_line(text)))
    return table
