"""The lines of logs, each behind the UUID of its asset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.output import one_line

if TYPE_CHECKING:
    from openfactory.deploy.cli.session import Session

__all__ = ["follow_logs", "print_logs"]

_COLORS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")


def print_logs(session: Session, uuids: Sequence[str], *, follow: bool, tail: int | None) -> None:
    """Print the logs of some assets."""
    width = max(map(len, uuids), default=0)
    colors = {uuid: _COLORS[number % len(_COLORS)] for number, uuid in enumerate(uuids)}
    lines = session.target.logs(uuids, follow=follow, tail=tail)
    with closing(lines):  # type: ignore[type-var]
        for line in lines:
            name = click.style(f"{one_line(line.uuid):{width}} |", fg=colors.get(line.uuid))
            click.echo(f"{name} {one_line(line.text.expandtabs())}")


def follow_logs(session: Session, uuids: Sequence[str], *, tail: int | None) -> None:
    """Print new lines of logs until Ctrl-C or another signal to stop."""
    try:
        print_logs(session, uuids, follow=True, tail=tail)
    except KeyboardInterrupt:
        return
