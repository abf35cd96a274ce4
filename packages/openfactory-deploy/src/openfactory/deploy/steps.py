"""The steps of a deployment: how an asset appears, changes, restarts and vanishes, and what undoes a failed step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.conditions import Condition
from openfactory.deploy.declared import Declared, dropped
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.plan import Action, Orphan, Step
from openfactory.deploy.record import RecordedStep
from openfactory.deploy.registered import RegisteredAsset
from openfactory.deploy.registration import register
from openfactory.deploy.releases import MissingSecretError
from openfactory.deploy.results import Outcome, Result
from openfactory.deploy.site import NotUpError, Site
from openfactory.deploy.targets.base import Instance, InstanceState
from openfactory.deploy.when import wait_until_fulfilled
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka import KSQLDBClient
from openfactory.utils.registering import deregister_asset

__all__ = ["StepRunner"]

_logger = logging.getLogger("openfactory.deploy")


class StepRunner:
    """Does the steps of a plan.

    Args:
        site: the place of the deployment.
        now: do not wait for the conditions of apps.
        remove_orphans: remove the orphans too.
    """

    def __init__(self, site: Site, *, now: bool = False, remove_orphans: bool = False) -> None:
        self._site = site
        self._now = now
        self._remove_orphans = remove_orphans

    def run(self, step: Step) -> Result:
        """Do a step, and return how it has ended; a step that fails leaves nothing half-made."""
        began = time.monotonic()
        if step.action is not Action.UNCHANGED:
            self._record(step, "begins", "; ".join(step.reasons))
        try:
            result = self._ways[step.action](self, step)
        except OpenFactoryError as error:
            result = self._failure(step, error)
        except Exception as error:
            _logger.exception("The step of %s failed.", step.uuid)
            result = self._failure(step, error)
        result = msgspec.structs.replace(result, seconds=round(time.monotonic() - began, 3))
        self._site.report(step.uuid, f"{result.outcome}: {result.text}" if result.text else result.outcome)
        if result.outcome is not Outcome.UNCHANGED:
            self._record(step, result.outcome, result.text, result.generation)
        return result

    def skip(self, step: Step, cause: str) -> Result:
        """Return the result of a step that is not tried, because an app that it needs is not up."""
        text = f"{step.uuid} was not tried, because {cause} did not succeed."
        self._site.report(step.uuid, f"{Outcome.SKIPPED}: {text}")
        self._record(step, Outcome.SKIPPED, text)
        return self._result(step, Outcome.SKIPPED, text)

    # The ways of a step

    def _appear(self, step: Step) -> Result:
        if step.blocked:
            return self._result(step, Outcome.FAILED, step.blocked)
        release = self._numbered(step)
        was_registered = step.asset is not None and step.asset.type is not None
        self._start(release, was_registered=was_registered)
        self._finish(release)
        return self._result(step, Outcome.UP, "it appears", release)

    def _change(self, step: Step) -> Result:
        running, wanted = step.instance, step.release
        assert running is not None
        assert wanted is not None
        self._wait_for_condition(step)
        self._stop_all(step.stale)
        if running.hash == wanted.hash:
            return self._restart_unless_up(step, "the interrupted deployment is cleaned up")
        release = self._numbered(step)
        before = self._site.asset(step.uuid)
        try:
            started = self._replace(step, running, release)
        except NotUpError as error:
            return self._failure(step, error, rolled_back=wanted.app.settings.update.rollback)
        monitor = seconds_of(wanted.app.settings.update.monitor)
        self._site.report(step.uuid, f"is up, and is watched for {monitor:g} s")
        try:
            self._site.watch_for(started, monitor)
        except NotUpError as error:
            return self._roll_back(step, started, release, error)
        self._finish(release)
        text = f"generation {release.generation} has replaced generation {running.generation}"
        return self._result(step, Outcome.UP, text, release, self._dropped(before))

    def _restart(self, step: Step) -> Result:
        self._wait_for_condition(step)
        self._stop_all(step.stale)
        return self._restarted(step, "it was started again")

    def _unchanged(self, step: Step) -> Result:
        assert step.instance is not None
        if not self._is_up_now(step, step.instance):
            self._finish_running(step)
            return self._result(step, Outcome.UP, "it has become AVAILABLE", step.release)
        if step.release is not None:
            self._site.note_routed(step.release)
        return self._result(step, Outcome.UNCHANGED, "", step.release)

    def _vanish(self, step: Step) -> Result:
        if step.instance is not None:
            self._wait_for_condition(step)
        before = self._site.asset(step.uuid)
        self._stop_all((*step.stale, *(() if step.instance is None else (step.instance,))))
        self._site.unroute(step.uuid)
        self._deregister(step.uuid, 0 if before is None else before.epoch)
        text = "its registration is removed" if step.instance is None else "it was stopped and removed"
        return msgspec.structs.replace(self._result(step, Outcome.REMOVED, text), generation=None)

    def _orphan(self, step: Step) -> Result:
        if step.orphan is Orphan.INSTANCE_WITHOUT_REGISTRATION:
            assert step.release is not None
            register(self._site.engine, step.release, step.asset)
            self._site.note_routed(step.release)
            return self._result(step, Outcome.REGISTERED, "it was registered again", step.release)
        if self._remove_orphans:
            return self._vanish(step)
        return self._result(step, Outcome.LEFT, f"{step.orphan}: --remove-orphans removes it")

    _ways = {  # noqa: RUF012 - not changed
        Action.APPEAR: _appear,
        Action.CHANGE: _change,
        Action.RESTART: _restart,
        Action.UNCHANGED: _unchanged,
        Action.VANISH: _vanish,
        Action.ORPHAN: _orphan,
    }

    # Their parts

    def _start(self, release: Release, *, was_registered: bool) -> Instance:
        """Start a release and wait until it is up; if that fails, remove all that it has left."""
        site = self._site
        epoch = site.arrivals.begin(release.uuid)
        site.report(release.uuid, "starts")
        started = site.target.start(release)
        try:
            site.wait_until_up(started, epoch)
        except BaseException:
            self._undo(lambda: site.target.stop(started))
            if not was_registered:
                self._undo(lambda: self._deregister(release.uuid, epoch, own=True))
            raise
        site.route(release)
        return started

    def _replace(self, step: Step, running: Instance, release: Release) -> Instance:
        """Put a release in the place of an instance; if that fails, have the old version run."""
        site = self._site
        epoch = site.arrivals.begin(step.uuid)
        site.report(step.uuid, f"generation {release.generation} starts")

        def wait_until_up(started: Instance) -> None:
            site.wait_until_up(started, epoch)
            site.route(release)

        try:
            if release.app.settings.update.order == "start-first":
                return site.target.replace(running, release, wait_until_up)
            site.target.stop(running)
            return self._start(release, was_registered=True)
        except NotUpError as error:
            if not release.app.settings.update.rollback:
                raise
            site.report(step.uuid, "did not come up, and is rolled back")
            text = self._recover(step, running, epoch)
            raise NotUpError(
                f"{error} {text}", uuid=error.uuid, exit_status=error.exit_status, log=error.log
            ) from error
        except BaseException:
            self._undo(lambda: self._recover(step, running, epoch))
            raise

    def _recover(self, step: Step, running: Instance, epoch: int) -> str:
        """Have the old version run after a new one has failed, and tell how."""
        site = self._site
        found = site.find(running)
        old = self._earlier(step)
        is_untouched = not site.arrivals.claimed(step.uuid, epoch)
        if found is not None and found.state is not InstanceState.EXITED and is_untouched:
            text = f"Generation {running.generation} went on."
        elif found is not None:
            before = site.arrivals.begin(step.uuid)
            site.target.restart(found)
            site.wait_until_up(found, before, patient=True)
            text = f"Generation {running.generation} was started again."
        elif old is not None:
            old = msgspec.structs.replace(old, generation=self._next_generation(step) + 1)
            self._start(old, was_registered=True)
            site.store.keep(old)
            text = f"Generation {running.generation} was started again, as generation {old.generation}."
        else:
            return f"Generation {running.generation} cannot be started again, because its release is not kept."
        if old is not None:
            site.route(old)
        return text

    def _roll_back(self, step: Step, started: Instance, release: Release, error: NotUpError) -> Result:
        """Put the earlier release in the place of a new one that has come up and ended then."""
        old = self._earlier(step)
        if not release.app.settings.update.rollback:
            return self._failure(step, error)
        if old is None:
            return self._failure(step, error, " It cannot be rolled back, because no earlier release is kept.")
        self._site.report(step.uuid, "has ended, and is rolled back")
        old = msgspec.structs.replace(old, generation=release.generation + 1)
        epoch = self._site.arrivals.begin(step.uuid)

        def wait_until_up(instance: Instance) -> None:
            self._site.wait_until_up(instance, epoch)
            self._site.route(old)

        self._site.target.replace(started, old, wait_until_up)
        self._finish(old)
        text = f" It was rolled back: generation {old.generation} is the earlier version."
        return msgspec.structs.replace(self._failure(step, error, text, rolled_back=True), generation=old.generation)

    def _restart_unless_up(self, step: Step, text: str) -> Result:
        assert step.instance is not None
        if self._is_up_now(step, step.instance, wait=False):
            if step.release is not None:
                self._site.route(step.release)
            return self._result(step, Outcome.UP, text, step.release)
        return self._restarted(step, text)

    def _restarted(self, step: Step, text: str) -> Result:
        site = self._site
        assert step.instance is not None
        epoch = site.arrivals.begin(step.uuid)
        site.report(step.uuid, "restarts")
        site.target.restart(step.instance)
        started = site.find(step.instance) or step.instance
        site.wait_until_up(started, epoch)
        self._finish_running(step)
        return self._result(step, Outcome.UP, text, step.release)

    def _is_up_now(self, step: Step, instance: Instance, *, wait: bool = True) -> bool:
        """Return whether an asset is up already; otherwise wait until it is."""
        asset = step.asset if not step.stale else None
        if asset is not None and asset.is_up:
            return True
        self._site.arrivals.begin(step.uuid)
        asset = self._site.asset(step.uuid)
        if asset is not None and asset.is_up:
            return True
        if wait:
            self._site.report(step.uuid, "runs, and is not AVAILABLE yet")
            self._site.wait_until_up(instance, 0, patient=True)
        return False

    def _finish(self, release: Release) -> None:
        """Register a release that is up, and keep it for a rollback."""
        register(self._site.engine, release, self._site.asset(release.uuid))
        self._site.store.keep(release)

    def _finish_running(self, step: Step) -> None:
        """Register and route an instance that was not made anew."""
        if step.release is not None:
            register(self._site.engine, step.release, self._site.asset(step.uuid))
            self._site.route(step.release)

    def _wait_for_condition(self, step: Step) -> None:
        when = None if step.release is None else step.release.app.settings.when
        if when is None or self._now:
            return
        site = self._site
        wait_until_fulfilled(
            site.factory,
            Condition.parse(when.condition),
            seconds_of(when.timeout),
            lambda text: site.report(step.uuid, text),
            site.check,
        )

    def _stop_all(self, instances: tuple[Instance, ...]) -> None:
        for instance in instances:
            self._site.report(instance.uuid, f"generation {instance.generation} stops")
            self._site.target.stop(instance)

    def _deregister(self, uuid: str, epoch: int, *, own: bool = False) -> None:
        """Remove the registration of an asset that this deployment has stopped, unless another process owns it.

        Args:
            uuid: UUID of the asset.
            epoch: epoch of the claim of the instance that was stopped.
            own: whether a newer claim was that of an instance which this deployment has started.
        """
        asset = self._site.asset(uuid)
        if asset is None or asset.type is None:
            return
        if asset.has_owner and asset.lives and asset.epoch > epoch and not own:
            return
        deregister_asset(uuid, KSQLDBClient(self._site.factory.url))

    def _numbered(self, step: Step) -> Release:
        assert step.release is not None
        return msgspec.structs.replace(step.release, generation=self._next_generation(step))

    def _next_generation(self, step: Step) -> int:
        running = [instance.generation for instance in (step.instance, *step.stale) if instance is not None]
        return max(self._site.store.generation(step.uuid), *running, 0) + 1

    def _earlier(self, step: Step) -> Release | None:
        """Return the last release that has been up, with the present values of its secrets."""
        kept = self._site.store.last(step.uuid)
        if kept is None or step.release is None:
            return None
        try:
            return kept.with_secrets_of(step.release)
        except MissingSecretError:
            return None

    def _dropped(self, before: RegisteredAsset | None) -> tuple[str, ...]:
        """Return what a new version that runs has dropped of the methods and attributes of the version before."""
        after = None if before is None else self._site.asset(before.uuid)
        if before is None or after is None:
            return ()
        return dropped(before, Declared(after.methods, after.attributes))

    def _undo(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OpenFactoryError as error:
            _logger.warning("A failed step could not be undone in full: %s", error)

    def _failure(self, step: Step, error: Exception, text: str = "", *, rolled_back: bool = False) -> Result:
        outcome = Outcome.ROLLED_BACK if rolled_back else Outcome.FAILED
        result = self._result(step, outcome, f"{error}{text}" or type(error).__name__)
        if isinstance(error, NotUpError):
            result = msgspec.structs.replace(result, exit_status=error.exit_status, log=error.log)
        running = None if step.instance is None else step.instance.generation
        return msgspec.structs.replace(result, generation=running)

    def _result(
        self,
        step: Step,
        outcome: Outcome,
        text: str,
        release: Release | None = None,
        drops: tuple[str, ...] = (),
    ) -> Result:
        generation = None if step.instance is None else step.instance.generation
        if release is not None and release is not step.release:
            generation = release.generation
        return Result(
            uuid=step.uuid,
            app=step.app,
            action=step.action,
            outcome=outcome,
            text=text,
            generation=generation,
            dropped=drops,
        )

    def _record(self, step: Step, outcome: str, text: str, generation: int | None = None) -> None:
        self._site.record.step(RecordedStep(step.uuid, step.action, outcome, text, generation))
