"""`ofa apps up`, `restart` and `rollback`: apps come up, are started again, or go back to an earlier release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.options import json_option
from openfactory.apps.cli.output import print_json
from openfactory.apps.stop_signals import interrupt_on_signals
from openfactory.deploy.cli.following import follow_logs
from openfactory.deploy.cli.locking import locked
from openfactory.deploy.cli.options import (
    app_option,
    no_wait_option,
    now_option,
    paths_argument,
    project_option,
    target_option,
    timeout_option,
)
from openfactory.deploy.cli.plan import plan_as_json, print_plan, warn_of_ignored_keys
from openfactory.deploy.cli.results import print_results
from openfactory.deploy.cli.session import (
    check_releases,
    is_wanted,
    known_to,
    not_running,
    open_session,
    plan_of,
    wanted_by,
)
from openfactory.deploy.cli.steps_shown import shown_site

if TYPE_CHECKING:
    from openfactory.deploy.app import Release
    from openfactory.deploy.cli.session import Session
    from openfactory.deploy.plan import Plan
    from openfactory.deploy.planning import Known
    from openfactory.deploy.releases import KeptRelease
    from openfactory.deploy.results import Result

__all__ = ["restart", "roll_out_plan", "rollback", "up"]


@click.command()
@paths_argument
@target_option
@project_option
@click.option("--dry-run", is_flag=True, help="Show the plan only, as `ofa apps plan`.")
@click.option("--foreground", is_flag=True, help="Stay, show the logs, and take all down at Ctrl-C.")
@timeout_option
@now_option
@click.option("--remove-orphans", is_flag=True, help="Remove instances and registrations that no file has.")
@no_wait_option
@json_option
@click.pass_context
def up(
    context: click.Context,
    paths: tuple[Path, ...],
    target_name: str | None,
    project_name: str | None,
    dry_run: bool,
    foreground: bool,
    timeout: float,
    now: bool,
    remove_orphans: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Run the apps that files describe.

    A PATH is a file, or a folder with files app_*.yml; the working directory by default. Only assets that differ are
    touched. The command returns when each asset is AVAILABLE by its new process, after the apps that it depends on. A
    new version that does not come up is rolled back by itself. Ctrl-C undoes the steps that are not done.

    \b
    exit status 0  all apps are up
                1  one is not; standard error has the reason and the end of its log
    --json {"project", "target", "ok", "results": [{"uuid", "app", "action",
            "outcome", "text", "generation", "seconds", "exit_status", "log",
            "dropped", "address"}, …]}
    with "outcome" as up, unchanged, registered, removed, left, rolled back,
    failed or skipped
    """
    interrupt_on_signals()
    with open_session(paths, target_name, project_name) as session:
        wanted = wanted_by(session)  # errors of the files come before the wait for the lock
        check_releases(session, wanted.releases)
        if dry_run:
            found = plan_of(session, wanted)
            if as_json:
                print_json(plan_as_json(found))
            else:
                print_plan(found)
            return
        with locked(session, "ofa apps up", wait=not no_wait):
            warn_of_ignored_keys(session.target, wanted.releases)
            plan = plan_of(session, wanted)
            results = roll_out_plan(session, plan, timeout, now=now, remove_orphans=remove_orphans)
        succeeded = print_results(session, results, as_json=as_json)
        if foreground:
            follow_logs(session, sorted({step.uuid for step in plan.steps}), tail=0)
            with locked(session, "ofa apps up --foreground", wait=True):
                _take_down(session, now=now)
    if not succeeded:
        context.exit(1)


@click.command()
@paths_argument
@app_option
@target_option
@project_option
@timeout_option
@now_option
@no_wait_option
@json_option
@click.pass_context
def restart(
    context: click.Context,
    paths: tuple[Path, ...],
    wanted: tuple[str, ...],
    target_name: str | None,
    project_name: str | None,
    timeout: float,
    now: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Stop apps that run and start the same release again.

    The files are not read: `ofa apps up` applies their changes. Exit status and --json are those of `ofa apps up`.
    """
    interrupt_on_signals()
    with open_session(paths, target_name, project_name) as session:
        with locked(session, "ofa apps restart", wait=not no_wait):
            results = roll_out_plan(session, _restart_of(session, wanted), timeout, now=now)
        succeeded = print_results(session, results, as_json=as_json)
    if not succeeded:
        context.exit(1)


@click.command()
@paths_argument
@app_option
@click.option("--to", "generation", type=click.IntRange(min=1), help="Generation to go back to, of a single asset.")
@target_option
@project_option
@timeout_option
@now_option
@no_wait_option
@json_option
@click.pass_context
def rollback(
    context: click.Context,
    paths: tuple[Path, ...],
    wanted: tuple[str, ...],
    generation: int | None,
    target_name: str | None,
    project_name: str | None,
    timeout: float,
    now: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Run the release again that was up before the present one.

    The last five releases of each asset are kept. Secrets have their present values. The files stay as they are, so the
    next `ofa apps up` brings the newer version back. Exit status and --json are those of `ofa apps up`.
    """
    interrupt_on_signals()
    with open_session(paths, target_name, project_name) as session:
        with locked(session, "ofa apps rollback", wait=not no_wait):
            results = roll_out_plan(session, _return_of(session, wanted, generation), timeout, now=now)
        succeeded = print_results(session, results, as_json=as_json)
    if not succeeded:
        context.exit(1)


def roll_out_plan(
    session: Session, plan: Plan, timeout: float, *, now: bool = False, remove_orphans: bool = False
) -> list[Result]:
    """Make a plan true, and show the progress."""
    from openfactory.deploy.rollout import roll_out

    with shown_site(session, plan, timeout) as site:
        return roll_out(site, plan, now=now, remove_orphans=remove_orphans)


def _take_down(session: Session, *, now: bool) -> None:
    from openfactory.deploy.cli.down import removal_of, take_down_plan

    print_results(session, take_down_plan(session, removal_of(session), now=now), as_json=False)


def _restart_of(session: Session, wanted: Sequence[str]) -> Plan:
    """Return the plan by which the selected assets are started again.

    Raises:
        Failure: none of them runs.
    """
    from openfactory.deploy.planning import plan_of_restart

    known = known_to(session, with_users=False)
    uuids = {instance.uuid for instance in known.instances if is_wanted(instance.uuid, instance.app, wanted)}
    if not uuids:
        raise Failure(not_running(session, wanted, {instance.uuid for instance in known.instances}))
    return plan_of_restart(known, uuids)


def _return_of(session: Session, wanted: Sequence[str], generation: int | None) -> Plan:
    """Return the plan by which the selected assets run an earlier release again.

    Raises:
        Failure: no asset has an earlier release.
        MissingSecretError: the files do not have a secret of an earlier release any more.
    """
    from openfactory.deploy.planning import plan_of_return

    known = known_to(session)
    return plan_of_return(known, _earlier_releases(session, known, wanted, generation))


def _earlier_releases(session: Session, known: Known, wanted: Sequence[str], generation: int | None) -> list[Release]:
    """Return the releases to go back to.

    Raises:
        Failure: no asset has an earlier release.
        MissingSecretError: the files do not have a secret of an earlier release any more.
    """
    from openfactory.deploy.planning import current_instances

    running, deployed = current_instances(known), known.deployed
    uuids = [uuid for uuid, release in deployed.items() if is_wanted(uuid, release.app.settings.uuid, wanted)]
    if not uuids:
        raise Failure(not_running(session, wanted, deployed))
    if generation is not None and len(uuids) > 1:
        raise Failure(f"--to is for one asset, and there are {len(uuids)}. Select one with --app.")
    found: list[KeptRelease] = []
    for uuid in uuids:
        kept = session.store.of(uuid)
        current = running[uuid].hash if uuid in running else kept[-1].hash
        found += [
            release
            for release in kept
            if (release.hash != current if generation is None else release.release.generation == generation)
        ][-1:]
    if not found:
        names = ", ".join(uuids)
        if generation is None:
            raise Failure(f"{names}: no other release has been up. `ofa apps up` applies changes of the files.")
        kept_ones = ", ".join(str(kept.release.generation) for kept in session.store.of(uuids[0]))
        raise Failure(f"{names}: generation {generation} is not kept. Write one of {kept_ones} after --to.")
    present = _present_releases(session, found)
    return [kept.with_secrets_of(present.get(kept.release.uuid)) for kept in found]


def _present_releases(session: Session, found: Sequence[KeptRelease]) -> dict[str, Release]:
    """Return the releases of the files, if an earlier release has secrets: their values are not kept."""
    if not any(kept.release.secrets for kept in found):
        return {}
    return {release.uuid: release for release in wanted_by(session).releases}
