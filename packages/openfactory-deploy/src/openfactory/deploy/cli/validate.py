"""`ofa apps validate` and `ofa apps schema`: check the files of apps, and print their schema for editors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openfactory.apps.cli.options import json_option
from openfactory.apps.cli.output import one_line, print_json, print_table
from openfactory.deploy.cli.options import LocalPath
from openfactory.deploy.cli.session import apps_in

if TYPE_CHECKING:
    from openfactory.deploy.app import App
    from openfactory.deploy.problems import Problem

__all__ = ["schema", "validate"]


@click.command()
@click.argument("paths", metavar="PATH…", nargs=-1, required=True, type=LocalPath())
@click.option(
    "--uns-schema", metavar="FILE", help="File of the unified namespace.  [default: $OPENFACTORY_UNS_SCHEMA, else none]"
)
@json_option
@click.pass_context
def validate(context: click.Context, paths: tuple[Path, ...], uns_schema: str | None, as_json: bool) -> None:
    """Check files of apps, and start nothing.

    A PATH is a file, or a folder, which is searched for files app_*.yml. All problems of all files are listed, each
    with its line and its remedy; then the exit status is 1.

    \b
    --json: {"apps": [{"name", "uuid", "file", "line", "program", "uns_id"}, …],
             "problems": [{"file", "line", "path", "text"}, …]}
    with "uns_id" as null without a namespace, and "line" as 0 for a file as a whole
    """
    from openfactory.deploy.problems import InvalidFilesError

    apps: list[App] = []
    problems: tuple[Problem, ...] = ()
    try:
        apps = apps_in(paths, uns_schema)
    except InvalidFilesError as error:
        problems = error.problems
    if as_json:
        print_json({"apps": list(map(_app_as_json, apps)), "problems": list(map(_problem_as_json, problems))})
    elif problems:
        for problem in problems:
            click.echo(one_line(str(problem)), err=True)
        click.echo(f"{len(problems)} problem{'s' * (len(problems) > 1)}.", err=True)
    else:
        rows = [(app.name, app.settings.uuid, _program(app), str(app.place)) for app in apps]
        print_table(("app", "uuid", "program", "place"), rows)
    if problems:
        context.exit(1)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the files of apps.

    Editors with the YAML language server complete and check a file with these two steps:

    \b
      ofa apps schema > apps.schema.json
      # yaml-language-server: $schema=apps.schema.json    (first line of the file)
    """
    from openfactory.deploy.files.json_schema import json_schema

    print_json(json_schema())


def _program(app: App) -> str:
    settings = app.settings
    return settings.image or settings.file or " ".join(settings.command or ())


def _app_as_json(app: App) -> dict[str, Any]:
    return {
        "name": app.name,
        "uuid": app.settings.uuid,
        "file": str(app.place.file),
        "line": app.place.line,
        "program": _program(app),
        "uns_id": app.uns.uns_id if app.uns else None,
    }


def _problem_as_json(problem: Problem) -> dict[str, Any]:
    place = problem.place
    return {"file": str(place.file), "line": place.line, "path": problem.path, "text": problem.text}
