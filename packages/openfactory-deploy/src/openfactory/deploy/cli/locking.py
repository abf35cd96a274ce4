"""The lock of the commands that change a project."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from openfactory.deploy.cli.session import Session

__all__ = ["locked"]


@contextmanager
def locked(session: Session, command: str, *, wait: bool) -> Generator[None]:
    """Hold the lock of a project; a line on standard error tells of the deployment that is waited for.

    The factory stays open meanwhile, so that the plan and the rollout share its connections.

    Raises:
        DeploymentRunsError: another deployment runs, and `wait` is false.
        Failure: no factory is named.
        ConfigurationError, EngineUnavailableError: the factory cannot be opened.
    """
    from openfactory.apps.cli.target import file_of
    from openfactory.deploy.lock import deployment_lock
    from openfactory.deploy.targets.process.layout import Layout
    from openfactory.engines.registry import open_engine

    folder = session.project.own_folder
    Layout(folder).create()
    with deployment_lock(folder, command, wait=wait, report=lambda text: click.echo(text, err=True)):
        file = file_of(session.factory_url)
        is_new = file is not None and not file.exists()  # the first app makes it, if one comes up
        with nullcontext() if is_new else open_engine(session.factory_url):
            yield
