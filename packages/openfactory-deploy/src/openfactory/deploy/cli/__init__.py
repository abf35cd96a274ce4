"""`ofa apps`: from files to running apps."""

from __future__ import annotations

import click

from openfactory.deploy.cli.init import init
from openfactory.deploy.cli.validate import schema, validate

__all__ = ["apps"]


@click.group()
def apps() -> None:
    """Run the apps that files describe."""


for command in (init, validate, schema):
    apps.add_command(command)
