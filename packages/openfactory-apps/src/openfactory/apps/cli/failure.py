"""The failure of a command: a message on standard error, and its exit status."""

from __future__ import annotations

import errno
from typing import IO, Any

import click

from openfactory.exceptions import CommandUnknown, OpenFactoryError

__all__ = ["Failure", "OutputFailure"]


class Failure(click.ClickException):
    """An error that ends a command with status 1, and prints its message only."""

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


class OutputFailure(Failure):
    """The failure of a command that has done its work, and cannot print its output.

    A reader that has gone away needs no message: it has what it wants.

    Args:
        error: error of standard output.
        result: result of the command, for the message.
    """

    exit_code = 4

    def __init__(self, error: OSError, result: str = "") -> None:
        super().__init__(
            f"The command is done, but its output cannot be written: {error.strerror}. "
            + (f"It is: {result}" if result else "Write it to another place.")
        )
        self.error = error
        self._silent = error.errno == errno.EPIPE and not result

    def show(self, file: IO[Any] | None = None) -> None:
        if not self._silent:
            super().show(file)
