"""`ofa fanout`: the services of a factory of many machines."""

from __future__ import annotations

import click

__all__ = ["fanout"]


@click.group()
def fanout() -> None:
    """Run the services of a factory of many machines."""
