"""`ofa apps ls`, `logs` and `events`: the apps that run, their logs, and the record of deployments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.listing import age_text
from openfactory.apps.cli.options import json_option
from openfactory.apps.cli.output import print_json, print_table, short_timestamp
from openfactory.apps.cli.target import file_of, open_factory
from openfactory.apps.stop_signals import interrupt_on_signals
from openfactory.deploy.cli.following import follow_logs, print_failed_starts, print_logs
from openfactory.deploy.cli.options import app_option, paths_argument, project_option, target_option
from openfactory.deploy.cli.session import facts_of, is_wanted, not_running, open_session
from openfactory.exceptions import OpenFactoryError

if TYPE_CHECKING:
    from openfactory.deploy.cli.session import Session
    from openfactory.deploy.record import RecordedStep
    from openfactory.deploy.registered import RegisteredAsset
    from openfactory.deploy.targets.base import Instance

__all__ = ["events", "list_apps", "logs"]

# Number of events that are shown.
_EVENTS = 100
# Number of events among which those of selected assets are found.
_SEARCHED = 1000


@click.command("ls")
@paths_argument
@target_option
@project_option
@json_option
def list_apps(paths: tuple[Path, ...], target_name: str | None, project_name: str | None, as_json: bool) -> None:
    """List the apps of a project that run.

    AVAILABILITY is that of the asset, STATE and RESTARTS are of its process or container, AGE is the time since its
    start, and ADDRESS is the one for browsers. The files are not read.

    \b
    --json: [{"uuid", "app", "availability", "registered", "owner", "state",
              "exit_status", "health", "generation", "hash", "restarts", "age",
              "pid", "program", "address", "own_address"}, …]
    with "age" in seconds, "owner" as the process that owns the asset, or null,
    and "address" as its pages have it behind the gateway, if there is one
    """
    with open_session(paths, target_name, project_name) as session:
        instances = session.target.instances()
        facts: dict[str, RegisteredAsset] = {}
        if instances:
            try:
                facts = facts_of(session, {instance.uuid for instance in instances}, with_users=False)
            except OpenFactoryError as error:
                click.echo(f"The factory cannot be read, so availability is not known: {error}", err=True)
        now = time.time()
        urls = session.target.urls(list(session.deployed().values())) if instances else {}
        rows = [_columns(instance, facts.get(instance.uuid), urls.get(instance.uuid), now) for instance in instances]
        if as_json:
            print_json(rows)
        elif rows:
            _print(rows, session.project.folder, f"{session.project.name} on {session.target.name}")
        else:
            click.echo(not_running(session, (), ()), err=True)


@click.command()
@paths_argument
@app_option
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="NUMBER", help="Begin with the last lines of each asset.")
@target_option
@project_option
def logs(
    paths: tuple[Path, ...],
    wanted: tuple[str, ...],
    follow: bool,
    tail: int | None,
    target_name: str | None,
    project_name: str | None,
) -> None:
    """Print the logs of apps, each line behind the UUID of its asset.

    The log of an app that did not come up is removed with it. Its end is kept, and printed before the other logs, until
    the app is up or taken down.
    """
    interrupt_on_signals()
    with open_session(paths, target_name, project_name) as session:
        running = {instance.uuid: instance.app for instance in session.target.instances()}
        failed = session.store.failed.all()
        known = running or {uuid: release.app.settings.uuid for uuid, release in session.deployed().items()}
        known = known | {uuid: start.app for uuid, start in failed.items()}
        uuids = sorted(uuid for uuid, app in known.items() if is_wanted(uuid, app, wanted))
        if not uuids:
            raise Failure(not_running(session, wanted, known))
        lost = [uuid for uuid in uuids if uuid in failed and not (uuid in running and session.target.shares_logs)]
        print_failed_starts([failed[uuid] for uuid in lost], uuids, tail=tail)
        if follow:
            follow_logs(session, uuids, tail=tail)
        else:
            print_logs(session, uuids, follow=False, tail=tail)


@click.command()
@paths_argument
@app_option
@click.option("--tail", type=click.IntRange(min=1), default=_EVENTS, show_default=True, help="Number of events.")
@target_option
@project_option
@json_option
def events(
    paths: tuple[Path, ...],
    wanted: tuple[str, ...],
    tail: int,
    target_name: str | None,
    project_name: str | None,
    as_json: bool,
) -> None:
    """Show the steps of earlier deployments, oldest first.

    They are events of the asset deployment-PROJECT, which `ofa asset watch` and dashboards show as those of any asset.

    \b
    --json: [{"time", "asset", "action", "outcome", "text", "generation"}, …]
    """
    with open_session(paths, target_name, project_name) as session:
        found = _steps(session, wanted, max(tail, _SEARCHED))[-tail:]
        project = session.project.name
    if as_json:
        print_json([msgspec.structs.asdict(step) for step in found])
    elif found:
        rows = [(short_timestamp(step.time), step.asset, step.action, step.outcome, step.text) for step in found]
        print_table(("time", "asset", "action", "outcome", "description"), rows)
    else:
        click.echo(f"No deployment of {project} is recorded. Deploy it with `ofa apps up`.", err=True)


def _steps(session: Session, wanted: tuple[str, ...], limit: int) -> list[RecordedStep]:
    """Return the recorded steps of a project, or those of some assets; a begin or an end has an outcome only."""
    from openfactory.deploy.record import RecordedStep, recorded_steps

    file = file_of(session.factory_url)
    if file is not None and not file.exists():
        return []
    apps = {uuid: release.app.settings.uuid for uuid, release in session.deployed().items()}
    with open_factory(session.factory_url) as factory:
        return [
            step if isinstance(step, RecordedStep) else RecordedStep("", "", step[1], "", time=step[0])
            for step in recorded_steps(factory, session.project.name, limit)
            if not wanted
            or (isinstance(step, RecordedStep) and is_wanted(step.asset, apps.get(step.asset, step.asset), wanted))
        ]


def _columns(instance: Instance, asset: RegisteredAsset | None, url: str | None, now: float) -> dict[str, Any]:
    """Return the facts of an instance in the form of --json.

    Args:
        instance: the instance.
        asset: its asset, or None if the factory does not know it.
        url: URL at which a gateway has its pages, or None.
        now: the time in seconds since 1970.
    """
    owner = None if asset is None else asset.present_owner
    return {
        "uuid": instance.uuid,
        "app": instance.app,
        "availability": (None if asset is None else asset.availability) or "UNAVAILABLE",
        "registered": asset is not None and asset.type is not None,
        "owner": None if owner is None else str(owner),
        "state": instance.state,
        "exit_status": instance.exit_status,
        "health": instance.health or None,
        "generation": instance.generation,
        "hash": instance.hash,
        "restarts": instance.restarts,
        "age": None if instance.started is None else round(max(now - instance.started, 0), 3),
        "pid": instance.pid,
        "program": instance.program,
        "address": (instance.address and url) or instance.address,
        "own_address": instance.address,
    }


def _print(rows: list[dict[str, Any]], folder: Path, title: str) -> None:
    headers = ("asset", "availability", "state", "generation", "age", "restarts", "program", "address")
    table = [
        (
            row["uuid"],
            row["availability"],
            f"{row['state']}{'' if row['registered'] else ', not registered'}",
            str(row["generation"]),
            age_text(row["age"]),
            str(row["restarts"]),
            row["program"].removeprefix(f"{folder}/"),
            row["address"] or "",
        )
        for row in rows
    ]
    print_table(headers, table, title)
