"""The lines of logs, each behind the UUID of its asset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.output import one_line, short_timestamp

if TYPE_CHECKING:
    from openfactory.deploy.cli.session import Session
    from openfactory.deploy.failed_starts import FailedStart

__all__ = ["follow_logs", "print_failed_starts", "print_logs"]

_COLORS = ("cyan", "yellow", "green", "magenta", "blue", "bright_red")


def print_logs(session: Session, uuids: Sequence[str], *, follow: bool, tail: int | None) -> None:
    """Print the logs of some assets."""
    print_line = _line_printer(uuids)
    lines = session.target.logs(uuids, follow=follow, tail=tail)
    with closing(lines):  # type: ignore[type-var]
        for line in lines:
            print_line(line.uuid, line.text)


def print_failed_starts(failed: Sequence[FailedStart], uuids: Sequence[str], *, tail: int | None) -> None:
    """Print the ends of the logs of apps that did not come up, each below its reason on standard error.

    Args:
        failed: the failed starts.
        uuids: UUIDs of all assets whose logs are printed.
        tail: number of last lines of each; None for all that are kept.
    """
    print_line = _line_printer(uuids)
    for start in failed:
        facts = f"generation {start.generation} did not come up, {short_timestamp(start.time)}: {start.text}"
        click.echo(one_line(f"{start.uuid}: {facts}"), err=True)
        for line in start.log if tail is None else start.log[-tail:] if tail else ():
            print_line(start.uuid, line)


def follow_logs(session: Session, uuids: Sequence[str], *, tail: int | None) -> None:
    """Print new lines of logs until Ctrl-C or another signal to stop."""
    try:
        print_logs(session, uuids, follow=True, tail=tail)
    except KeyboardInterrupt:
        return


def _line_printer(uuids: Sequence[str]) -> Callable[[str, str], None]:
    """Return a function that prints a line of an asset."""
    width = max(map(len, uuids), default=0)
    colors = {uuid: _COLORS[number % len(_COLORS)] for number, uuid in enumerate(uuids)}

    def print_line(uuid: str, text: str) -> None:
        name = click.style(f"{one_line(uuid):{width}} |", fg=colors.get(uuid))
        click.echo(f"{name} {one_line(text.expandtabs())}")

    return print_line
