"""The results of a deployment: a table, the reasons of failures, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.output import one_line, print_json, print_table

if TYPE_CHECKING:
    from openfactory.deploy.cli.session import Session
    from openfactory.deploy.results import Result

__all__ = ["print_results"]


def print_results(session: Session, results: Sequence[Result], *, as_json: bool) -> bool:
    """Print how the steps have ended, and return whether all have succeeded."""
    failures = [result for result in results if result.outcome.is_failure]
    if as_json:
        print_json({
            "project": session.project.name,
            "target": session.target.name,
            "ok": not failures,
            "results": results,
        })  # fmt: skip
        return not failures
    if not results:
        click.echo("There is nothing to do: no file has an app, and nothing runs.", err=True)
        return True
    print_table(
        ("asset", "outcome", "generation", "seconds", "address", "description"),
        [
            (
                result.uuid,
                result.outcome,
                "" if result.generation is None else str(result.generation),
                f"{result.seconds:.1f}",
                result.address or "",
                "see below" if result.outcome.is_failure else result.text,
            )
            for result in results
        ],
        f"{session.project.name} on {session.target.name}",
    )
    for result in results:
        for text in result.dropped:
            click.echo(one_line(f"{result.uuid}: {text}"))
    for result in failures:
        click.echo(f"\n{one_line(result.uuid)} {result.outcome}: {one_line(result.text)}", err=True)
        for line in result.log:
            click.echo(f"  | {one_line(line.expandtabs())}", err=True)
    return not failures
