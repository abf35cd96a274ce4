"""`ofa apps init`: an example of the file of an app."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from openfactory.apps.app_name import app_uuid_of
from openfactory.apps.cli.failure import Failure
from openfactory.deploy.cli.options import LocalPath

__all__ = ["init"]

# Base classes and imports of apps with web pages.
_WEB = re.compile(r"OpenFactoryFlaskApp|OpenFactoryFastAPIApp|flaskapp|fastapiapp")

_PORT = 4000

_TEMPLATE = """\
# The app {uuid}. `ofa apps validate {target}` checks this file, `ofa apps up {target}` starts the app.
# `ofa apps schema` prints all keys, for editors too. Keys that begin with x- are for other tools.
apps:
  {name}:
    uuid: {name}  # the asset in the factory: letters, digits, '-' and '_'
    file: {file}  # a Python file, which runs as a process; or an image for containers:
    # image: registry.example/{image}:${{TAG:-latest}}

    # environment:  # ${{NAME}} takes a value of your shell, $$ is one $
    #   LOG_LEVEL: INFO
    # secrets:  # the app reads the value from the file in the variable DB_PASSWORD_FILE
    #   db_password: ${{DB_PASSWORD}}
    # storage:
    #   data:
    #     type: local
    #     local_path: /srv/{image}
    #     mount_point: /mnt/data

    {web}routing:  # web pages behind the gateway
    {web}  expose: true
    {web}  port: {port}
    # health: {{}}  # asks the page /health/ready
    # metrics:
    #   port: {port}

    # depends_on: [another-app]
    # restart: unless-stopped  # or no, on-failure, always
    # stop_grace_period: 10s
    # update: {{order: start-first, monitor: 5s}}  # a version that ends within this time is rolled back
    # when: another-app.status == idle  # holds before this app is stopped or replaced
    # deploy:
    #   replicas: 1
    #   resources:
    #     limits:
    #       memory: 512Mi
    #       cpus: 0.5
"""


@click.command()
@click.argument("file", type=LocalPath(exists=True, dir_okay=False))
@click.option("--uuid", help="UUID of the app.  [default: the name of the file]")
def init(file: Path, uuid: str | None) -> None:
    """Write a commented example for a Python file: app_<uuid>.yml beside it.

    An existing file is not overwritten.
    """
    from openfactory.deploy.files.values import uuid_of

    try:
        uuid = uuid_of(uuid or app_uuid_of(file))
    except ValueError as error:
        raise Failure(f"{error} Give it another name: ofa apps init {file} --uuid NAME.") from error
    target = file.parent / f"app_{uuid}.yml"
    text = _TEMPLATE.format(
        uuid=uuid,
        name=_scalar(uuid),
        image=uuid.lower().strip("-_"),
        file=_scalar(file.name.replace("$", "$$")),
        target=target.name,
        web="" if _WEB.search(file.read_text(encoding="utf-8", errors="replace")) else "# ",
        port=_PORT,
    )
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise Failure(f"{target} exists already. Change it, or remove it first.") from error
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}. Check the permissions of the folder.") from error
    click.echo(f"{target} is written. Change it, then check it with `ofa apps validate {target}`.")


def _scalar(text: str) -> str:
    """Return a text for YAML, with quotes if it would mean something else without them."""
    words = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) and text.lower() not in words
    return text if is_plain else json.dumps(text, ensure_ascii=False)
