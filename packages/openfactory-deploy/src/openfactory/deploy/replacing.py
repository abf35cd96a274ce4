"""Releases that start and replace each other, and the old one that runs again if the new one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.plan import Step
from openfactory.deploy.releases import MissingSecretError
from openfactory.deploy.site import NotUpError, Site
from openfactory.deploy.targets.base import Instance, InstanceState
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.utils.registering import deregister_asset

__all__ = ["deregister", "earlier_release", "next_generation", "put_back", "replace", "start"]

_logger = logging.getLogger("openfactory.deploy")


def start(site: Site, release: Release, *, was_registered: bool, cancellable: bool = True) -> Instance:
    """Start a release and wait until it is up; if that fails, remove all that it has left.

    Args:
        site: the place of the deployment.
        release: the release.
        was_registered: whether its asset was registered before, so that its registration stays.
        cancellable: end the wait if the deployment is cancelled.

    Raises:
        NotUpError: it did not come up.
        DeploymentCancelledError: the deployment was interrupted.
    """
    epoch = site.arrivals.begin(release.uuid)
    site.report(release.uuid, "starts")
    started = site.target.start(release)
    try:
        site.wait_until_up(started, epoch, cancellable=cancellable)
    except BaseException:
        _undo(lambda: site.target.stop(started))
        if not was_registered:
            _undo(lambda: deregister(site, release.uuid, epoch, own=True))
        raise
    site.route(release)
    return started


def replace(site: Site, step: Step, running: Instance, release: Release) -> Instance:
    """Put a release in the place of an instance; if that fails, have the old version run again.

    Raises:
        NotUpError: the release did not come up; the text tells of the old version.
        DeploymentCancelledError: the deployment was interrupted.
    """
    epoch = site.arrivals.begin(step.uuid)
    site.report(step.uuid, f"generation {release.generation} starts")
    update = release.app.settings.update
    try:
        if update.order == "start-first":
            return site.target.replace(running, release, lambda started: _wait_and_route(site, started, epoch, release))
        site.target.stop(running)
        return start(site, release, was_registered=True)
    except NotUpError as error:
        if not update.rollback:
            raise
        site.report(step.uuid, "did not come up, and is rolled back")
        raise _recovered(site, step, running, epoch, error) from error
    except BaseException:
        _undo(lambda: _recover(site, step, running, epoch))
        raise


def put_back(site: Site, started: Instance, old: Release) -> None:
    """Put an earlier release in the place of a new one that has come up and ended then.

    Raises:
        NotUpError: the earlier release did not come up.
    """
    epoch = site.arrivals.begin(old.uuid)
    site.report(old.uuid, "has ended, and is rolled back")
    site.target.replace(started, old, lambda instance: _wait_and_route(site, instance, epoch, old))


def deregister(site: Site, uuid: str, epoch: int, *, own: bool = False) -> None:
    """Remove the registration of an asset that this deployment has stopped, unless another process owns it.

    Args:
        site: the place of the deployment.
        uuid: UUID of the asset.
        epoch: epoch of the claim of the instance that was stopped.
        own: whether a newer claim was that of an instance which this deployment has started.
    """
    asset = site.asset(uuid)
    if asset is None or asset.type is None:
        return
    if asset.has_owner and asset.lives and asset.epoch > epoch and not own:
        return
    deregister_asset(uuid, KSQLDBClient(site.factory.url))


def next_generation(site: Site, step: Step) -> int:
    """Return a generation that no release of the asset has had."""
    running = [instance.generation for instance in (step.instance, *step.stale) if instance is not None]
    return max(site.store.generation(step.uuid), *running, 0) + 1


def earlier_release(site: Site, step: Step) -> Release | None:
    """Return the last release that has been up, with the present values of its secrets, or None."""
    kept = site.store.last(step.uuid)
    if kept is None or step.release is None:
        return None
    try:
        return kept.with_secrets_of(step.release)
    except MissingSecretError:
        return None


def _wait_and_route(site: Site, instance: Instance, epoch: int, release: Release) -> None:
    site.wait_until_up(instance, epoch)
    site.wait_until_ready(instance)
    site.route(release)


def _recovered(site: Site, step: Step, running: Instance, epoch: int, error: NotUpError) -> NotUpError:
    """Have the old version run after a new one has failed, and return the error of the new one with that fact."""
    try:
        text, back = _recover(site, step, running, epoch)
    except OpenFactoryError as second:
        return error.with_text(f"The old version did not come up again either: {second}")
    return error.with_text(text, back)


def _recover(site: Site, step: Step, running: Instance, epoch: int) -> tuple[str, int | None]:
    """Have the old version run, and return how, and its generation."""
    back = running.generation
    found, old = site.find(running), earlier_release(site, step)
    is_untouched = not site.arrivals.claimed(step.uuid, epoch)
    if found is not None and found.state is not InstanceState.EXITED and is_untouched:
        text = f"Generation {back} went on."
    elif found is not None:
        before = site.arrivals.begin(step.uuid)
        site.target.restart(found)
        site.wait_until_up(found, before, patient=True, cancellable=False)
        text = f"Generation {back} was started again."
    elif old is not None:
        old = msgspec.structs.replace(old, generation=next_generation(site, step) + 1)
        start(site, old, was_registered=True, cancellable=False)
        site.store.keep(old)
        text, back = f"Generation {back} was started again, as generation {old.generation}.", old.generation
    else:
        return f"Generation {back} cannot be started again, because its release is not kept.", None
    if old is not None:
        site.route(old)
    return text, back


def _undo(work: Callable[[], object]) -> None:
    try:
        work()
    except OpenFactoryError as error:
        _logger.warning("A failed step could not be undone in full: %s", error)
