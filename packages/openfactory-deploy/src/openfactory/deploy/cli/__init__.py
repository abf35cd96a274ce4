"""`ofa apps`: from files to running apps."""

from __future__ import annotations

import click

from openfactory.deploy.cli.down import down
from openfactory.deploy.cli.export import export
from openfactory.deploy.cli.init import init
from openfactory.deploy.cli.listing import events, list_apps, logs
from openfactory.deploy.cli.plan import plan
from openfactory.deploy.cli.up import restart, rollback, up
from openfactory.deploy.cli.validate import schema, validate

__all__ = ["apps"]


@click.group()
def apps() -> None:
    """Run the apps that files describe."""


for command in (init, validate, schema, plan, up, down, list_apps, logs, restart, rollback, events, export):
    apps.add_command(command)
