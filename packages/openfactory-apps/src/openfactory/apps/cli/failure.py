"""How a command fails: one sentence on standard error, and exit status 1."""

from __future__ import annotations

from typing import IO, Any

import click

__all__ = ["Failure"]


class Failure(click.ClickException):
    """Ends a command with nothing but its sentence."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=file is None)
