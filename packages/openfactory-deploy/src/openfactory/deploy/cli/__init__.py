"""`ofa apps`: from files to running apps."""

from __future__ import annotations

import click

__all__ = ["apps"]


@click.group()
def apps() -> None:
    """Run the apps that files describe."""
