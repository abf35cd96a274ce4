"""The failure of a command: a message on standard error, and exit status 1."""

from __future__ import annotations

from typing import IO, Any

import click

__all__ = ["Failure"]


class Failure(click.ClickException):
    """An error that ends a command and prints its message only."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=file is None)
