"""The progress of a long command: one line on standard error that is overwritten, and only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import click

__all__ = ["shown_progress"]

# Seconds between two changes of the line.
_SECONDS = 0.1

_WIDTH = 40


@contextmanager
def shown_progress() -> Generator[Callable[[str, float], None]]:
    """Yield a function that shows a stage and the part of it that is done, from 0 to 1; remove the line at the end."""
    shown_at = -_SECONDS

    def show(stage: str, part: float) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _SECONDS:
            shown_at = time.monotonic()
            click.echo(f"\r{f'{stage} {part:.0%}' if part else stage:{_WIDTH}}", nl=False, err=True)

    if not sys.stderr.isatty():
        yield lambda _stage, _part: None
        return
    try:
        yield show
    finally:
        click.echo(f"\r{'':{_WIDTH}}\r", nl=False, err=True)
