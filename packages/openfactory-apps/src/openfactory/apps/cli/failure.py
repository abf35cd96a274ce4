"""The failure of a command: a message on standard error, and exit status 1, or 3 if a method may have run."""

from __future__ import annotations

from typing import IO, Any

import click

from openfactory.exceptions import CommandUnknown, OpenFactoryError

__all__ = ["Failure"]


class Failure(click.ClickException):
    """An error that ends a command and prints its message only."""

    @classmethod
    def of(cls, error: OpenFactoryError) -> Failure:
        """Return the failure of a command that an error has ended."""
        kind = _MayHaveRun if isinstance(error, CommandUnknown) else cls
        return kind(str(error))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=file is None)


class _MayHaveRun(Failure):
    """The failure of a command that an app answered with `unknown`."""

    exit_code = 3
