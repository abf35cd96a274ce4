"""`ofa apps export`: files for other tools, in place of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.failure import Failure
from openfactory.deploy.cli.options import LocalPath, project_option
from openfactory.deploy.cli.session import apps_in, project_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openfactory.deploy.app import Release

__all__ = ["export"]

# Target whose environment the apps of a file have.
_ENVIRONMENTS = {"compose": "docker", "swarm": "swarm", "kubernetes": "kubernetes"}


@click.command()
@click.argument("paths", metavar="[PATH]…", nargs=-1, type=LocalPath())
@click.option("--target", type=click.Choice(list(_ENVIRONMENTS)), required=True, help="Tool that reads the file.")
@project_option
@click.option("--namespace", default="default", show_default=True, help="Namespace of Kubernetes.")
@click.option("-o", "--output", metavar="FILE", type=LocalPath(dir_okay=False), help="Write it there.")
def export(paths: tuple[Path, ...], target: str, project_name: str | None, namespace: str, output: Path | None) -> None:
    """Write a Compose file, a Swarm stack or the objects of Kubernetes.

    It is for people who keep these files in git. The apps have the environment that a deployment from here gives
    them: KSQLDB_URL or KAFKA_BROKER of the factory, OPENFACTORY_BASE_DOMAIN for host names. The values of secrets are
    not in the file; its first lines tell how to create them.

    \b
      ofa apps export --target compose factory -o compose.yml
      docker compose up
    """
    from openfactory.deploy.environment import releases_of
    from openfactory.deploy.factory_environment import factory_environment

    paths = paths or (Path(),)
    project = project_of(paths, project_name)
    apps = apps_in(paths)
    factory = factory_environment()
    if not {"KSQLDB_URL", "KAFKA_BROKER"} & factory.variables.keys():
        raise Failure(
            "The factory of the apps is not named. Set KSQLDB_URL to its location as containers reach it, such as "
            "kafka://kafka:9092, in the environment or in .ofaenv."
        )
    releases = [release for app in apps for release in releases_of(app, factory, target=_ENVIRONMENTS[target])]
    text = _text(releases, target, project.name, namespace)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{output} cannot be written: {error.strerror}. Write it to another folder.") from error


def _text(releases: Sequence[Release], target: str, project: str, namespace: str) -> str:
    from openfactory.deploy.export.compose import compose_text
    from openfactory.deploy.export.kubernetes import kubernetes_text
    from openfactory.deploy.export.swarm import stack_text
    from openfactory.deploy.gateway.routes import Addresses
    from openfactory.deploy.targets.kubernetes.manifests import Place

    addresses = Addresses.from_settings()
    if target == "kubernetes":
        return kubernetes_text(releases, Place(project, namespace, addresses))
    write = compose_text if target == "compose" else stack_text
    return write(releases, project, addresses)
