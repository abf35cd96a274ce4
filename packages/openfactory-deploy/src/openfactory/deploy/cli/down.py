"""`ofa apps down`: apps stop, and their registrations are removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.options import json_option
from openfactory.apps.cli.output import print_json
from openfactory.apps.stop_signals import interrupt_on_signals
from openfactory.deploy.cli.locking import locked
from openfactory.deploy.cli.options import no_wait_option, now_option, paths_argument, project_option, target_option
from openfactory.deploy.cli.plan import plan_as_json, print_plan
from openfactory.deploy.cli.results import print_results
from openfactory.deploy.cli.session import apps_in, known_to, open_session
from openfactory.deploy.cli.steps_shown import shown_site

if TYPE_CHECKING:
    from openfactory.deploy.app import Release
    from openfactory.deploy.cli.session import Session
    from openfactory.deploy.plan import Plan
    from openfactory.deploy.results import Result

__all__ = ["down", "removal_of", "take_down_plan"]

# Nothing comes up here, so nothing is waited for.
_TIMEOUT = 60.0


@click.command()
@paths_argument
@target_option
@project_option
@click.option("--dry-run", is_flag=True, help="Show only what would vanish.")
@now_option
@no_wait_option
@json_option
@click.pass_context
def down(
    context: click.Context,
    paths: tuple[Path, ...],
    target_name: str | None,
    project_name: str | None,
    dry_run: bool,
    now: bool,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Stop apps and remove their registrations.

    For a folder, all that runs of its project stops, whether a file describes it or not; for a file, the apps of the
    file. An app stops after those that depend on it. The releases are kept for `ofa apps rollback`, and so are the
    values of the assets in the log.

    Exit status and --json are those of `ofa apps up`.
    """
    interrupt_on_signals()
    with open_session(paths, target_name, project_name) as session:
        if dry_run:
            found = removal_of(session)
            if as_json:
                print_json(plan_as_json(found))
            else:
                print_plan(found)
            return
        with locked(session, "ofa apps down", wait=not no_wait):
            results = take_down_plan(session, removal_of(session), now=now)
            _forget_failed_starts(session)
        succeeded = print_results(session, results, as_json=as_json)
    if not succeeded:
        context.exit(1)


def removal_of(session: Session) -> Plan:
    """Return the plan by which the apps of a session vanish.

    Raises:
        InvalidFilesError: the session names files, and something is wrong in them.
    """
    from openfactory.deploy.planning import plan_of_removal

    known = known_to(session)
    return plan_of_removal(known, apps=_apps_of(session, known.deployed.values()))


def _forget_failed_starts(session: Session) -> None:
    """Forget the failed starts of apps that have never been up, and so are in no plan."""
    apps = _apps_of(session, session.deployed().values())
    for uuid, failed in session.store.failed.all().items():
        if apps is None or failed.app in apps:
            session.store.failed.forget(uuid)


def _apps_of(session: Session, deployed: Iterable[Release]) -> set[str] | None:
    """Return the UUIDs of the apps that a session names, or None for all of the project."""
    paths = session.paths
    return None if any(path.is_dir() for path in paths) else _apps_of_files(paths, deployed)


def _apps_of_files(paths: Sequence[Path], deployed: Iterable[Release]) -> set[str]:
    """Return the UUIDs of the apps of the files: those that were deployed from them, or else those in them now."""
    files = {path.resolve() for path in paths}
    found = {release.app.settings.uuid for release in deployed if release.app.place.file.resolve() in files}
    return found or {app.settings.uuid for app in apps_in(paths)}


def take_down_plan(session: Session, plan: Plan, *, now: bool) -> list[Result]:
    """Make all assets of a plan vanish, and show the progress."""
    from openfactory.deploy.rollout import take_down

    if not plan.steps:
        return []
    with shown_site(session, plan, _TIMEOUT) as site:
        return take_down(site, plan, now=now)
