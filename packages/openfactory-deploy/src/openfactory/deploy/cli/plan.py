"""`ofa apps plan`: the effects of a deployment, in the words of the factory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openfactory.apps.cli.listing import age_text
from openfactory.apps.cli.options import json_option
from openfactory.apps.cli.output import one_line, print_json, print_table
from openfactory.deploy.cli.options import paths_argument, project_option, target_option
from openfactory.deploy.cli.session import check_releases, open_session, plan_of, wanted_by

if TYPE_CHECKING:
    from openfactory.deploy.app import Release
    from openfactory.deploy.plan import Plan, Step
    from openfactory.deploy.targets.base import Target

__all__ = ["plan", "plan_as_json", "print_plan", "warn_of_ignored_keys"]

# Exit status of --check if something differs: 2 tells of wrong arguments, and 3 and 4 are taken too.
_DIFFERS = 5


@click.command()
@paths_argument
@target_option
@project_option
@click.option("--check", is_flag=True, help=f"End with status {_DIFFERS} if something differs.")
@json_option
@click.pass_context
def plan(
    context: click.Context,
    paths: tuple[Path, ...],
    target_name: str | None,
    project_name: str | None,
    check: bool,
    as_json: bool,
) -> None:
    """Show the effects that `ofa apps up` would have, and touch nothing.

    It compares the files with what runs and what is registered: assets appear, change, restart or vanish, and orphans
    are named. Who watches or commands an asset now stands below it, with the commands that have no reply yet, and the
    methods and attributes that the new version drops. These are read from the app's file without running it; for other
    programs, `up` tells them when the new version runs.

    \b
    exit status 0  the plan is printed
                1  it cannot be made, or the target cannot run the apps
                5  with --check, something differs
    --json {"project", "target", "differs", "steps": [{"uuid", "app", "action",
            "orphan", "reasons", "blocked", "drops", "unknown_drops",
            "generation", "owner", "users", "in_flight"}, …]}
    with "action" as appear, change, restart, vanish, unchanged or orphan
    """
    with open_session(paths, target_name, project_name) as session:
        wanted = wanted_by(session)
        check_releases(session, wanted.releases)
        found = plan_of(session, wanted)
        warn_of_ignored_keys(session.target, wanted.releases)
    if as_json:
        print_json(plan_as_json(found))
    else:
        print_plan(found)
    if check and found.differs:
        context.exit(_DIFFERS)


def warn_of_ignored_keys(target: Target, releases: tuple[Release, ...]) -> None:
    """Name the keys of the files that have no effect, once for each app, of releases that the target can run."""
    lacks = {
        (release.app.settings.uuid, key): text
        for release in releases
        for key, text in (target.lacks(release) | _without_schema(release)).items()
    }
    for (uuid, key), text in lacks.items():
        click.echo(one_line(f"{uuid}: {key}: {text}"), err=True)


def _without_schema(release: Release) -> dict[str, str]:
    if release.app.settings.uns is None or release.uns is not None:
        return {}
    return {"uns": "the place has no effect. Set OPENFACTORY_UNS_SCHEMA to the file of the namespace."}


def plan_as_json(found: Plan) -> dict[str, Any]:
    """Return a plan in the form of --json."""
    return {
        "project": found.project,
        "target": found.target,
        "differs": found.differs,
        "steps": list(map(_step_as_json, found.steps)),
    }


def print_plan(found: Plan) -> None:
    """Print a plan: a table, and the details of each asset that is touched."""
    if not found.steps:
        click.echo("There is nothing to do: no file has an app, and nothing runs.", err=True)
        return
    print_table(
        ("asset", "action", "description"),
        [(step.uuid, _action(step), "; ".join(step.reasons)) for step in found.steps],
        f"{found.project} on {found.target}",
    )
    for step in found.steps:
        for line in _details(step):
            click.echo(one_line(f"{step.uuid}: {line}"))
    if not found.differs:
        click.echo("Nothing differs.")


def _action(step: Step) -> str:
    return step.action if step.orphan is None else f"{step.action}: {step.orphan}"


def _details(step: Step) -> list[str]:
    from openfactory.deploy.plan import Action

    lines = [f"blocked: {step.blocked}"] if step.blocked else []
    if step.action in (Action.UNCHANGED, Action.APPEAR):
        return lines
    lines += step.drops
    if step.unknown_drops:
        lines.append("dropped methods and attributes are known when the new version runs")
    if step.asset is not None:
        for user in step.asset.users:
            refers = ["refers to it"] if user.refers else []
            count = f"{user.commands} time{'s' * (user.commands > 1)}"
            commands = [f"has commanded {', '.join(user.methods)} {count}, last {age_text(user.age)} ago"]
            lines.append(f"{user.uuid} {' and '.join(refers + commands * (user.commands > 0))}")
        lines += [
            f"{command.method} of {command.sender} has no reply for {age_text(command.age)}: it may be lost"
            for command in step.asset.in_flight
        ]
    return lines


def _step_as_json(step: Step) -> dict[str, Any]:
    asset = step.asset
    owner = None if asset is None else asset.present_owner
    return {
        "uuid": step.uuid,
        "app": step.app,
        "action": step.action,
        "orphan": step.orphan,
        "reasons": step.reasons,
        "blocked": step.blocked or None,
        "drops": step.drops,
        "unknown_drops": step.unknown_drops,
        "generation": None if step.instance is None else step.instance.generation,
        "owner": None if owner is None else str(owner),
        "users": [] if asset is None else asset.users,
        "in_flight": [] if asset is None else asset.in_flight,
    }
