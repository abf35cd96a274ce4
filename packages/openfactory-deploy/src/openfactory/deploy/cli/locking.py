"""The lock of the commands that change a project."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from openfactory.deploy.cli.session import Session

__all__ = ["locked"]


@contextmanager
def locked(session: Session, command: str, *, wait: bool) -> Generator[None]:
    """Hold the lock of a project; a line on standard error tells of the deployment that is waited for.

    Raises:
        DeploymentRunsError: another deployment runs, and `wait` is false.
    """
    from openfactory.deploy.lock import deployment_lock
    from openfactory.deploy.targets.process.layout import Layout

    folder = session.project.own_folder
    Layout(folder).create()
    with deployment_lock(folder, command, wait=wait, report=lambda text: click.echo(text, err=True)):
        yield
