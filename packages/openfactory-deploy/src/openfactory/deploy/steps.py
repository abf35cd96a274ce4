"""The steps of a deployment: how an asset appears, changes, restarts and vanishes."""

from __future__ import annotations

import logging
import time

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.conditions import Condition
from openfactory.deploy.declared import Declared, dropped
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.plan import Action, Orphan, Step
from openfactory.deploy.record import RecordedStep
from openfactory.deploy.registered import RegisteredAsset
from openfactory.deploy.registration import register
from openfactory.deploy.replacing import deregister, earlier_release, next_generation, put_back, replace, start
from openfactory.deploy.results import Outcome, Result
from openfactory.deploy.site import DeploymentCancelledError, NotUpError, Site
from openfactory.deploy.targets.base import Instance, InstanceState
from openfactory.deploy.when import wait_until_fulfilled
from openfactory.exceptions import OpenFactoryError

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
            if step.blocked:
                result = self._result(step, Outcome.FAILED, step.blocked)
            else:
                result = self._ways[step.action](self, step)
        except OpenFactoryError as error:
            result = self._failure(step, error)
        except Exception as error:
            _logger.exception("The step of %s failed.", step.uuid)
            result = self._failure(step, error)
        result = msgspec.structs.replace(result, seconds=round(time.monotonic() - began, 3))
        self._site.report(step.uuid, f"{result.outcome}: {result.text}" if result.text else result.outcome)
        if result.outcome in (Outcome.UP, Outcome.UNCHANGED, Outcome.REMOVED):
            self._site.store.failed.forget(step.uuid)
        if result.outcome is not Outcome.UNCHANGED:
            self._record(step, result.outcome, result.text, result.generation)
        return result

    def skip(self, step: Step, cause: str) -> Result:
        """Return the result of a step that is not tried, because an app that it needs is not up."""
        if step.action is Action.UNCHANGED and step.asset is not None and step.asset.is_up:
            return self.run(step)  # there is nothing to try
        text = f"{step.uuid} was not tried, because {cause} did not succeed."
        self._site.report(step.uuid, f"{Outcome.SKIPPED}: {text}")
        self._record(step, Outcome.SKIPPED, text)
        return self._result(step, Outcome.SKIPPED, text)

    def obstacle(self, step: Step) -> Result | None:
        """Wait for the condition of a step that is done later, and return its failure if it does not hold in time."""
        try:
            self._wait_for_condition(step)
        except OpenFactoryError as error:
            result = self._failure(step, error)
            self._site.report(step.uuid, f"{result.outcome}: {result.text}")
            self._record(step, result.outcome, result.text)
            return result
        return None

    # The ways of a step

    def _appear(self, step: Step) -> Result:
        release = self._numbered(step)
        was_registered = step.asset is not None and step.asset.type is not None
        start(self._site, release, was_registered=was_registered)
        self._finish(release)
        return self._result(step, Outcome.UP, "it is AVAILABLE", release)

    def _change(self, step: Step) -> Result:
        running, wanted = step.instance, step.release
        assert running is not None
        assert wanted is not None
        self._wait_for_condition(step)
        self._stop_all(step.stale)
        if running.hash == wanted.hash:
            result = self._restart_unless_up(step, "the interrupted deployment is cleaned up")
            self._site.store.keep(msgspec.structs.replace(wanted, generation=running.generation))
            return result
        release = self._numbered(step)
        try:
            started = replace(self._site, step, running, release)
        except NotUpError as error:
            return self._failure(step, error)
        monitor = seconds_of(wanted.app.settings.update.monitor)
        self._site.report(step.uuid, f"is up, and is watched for {monitor:g} s")
        try:
            self._site.watch_for(started, monitor)
        except NotUpError as error:
            return self._failure(step, self._rolled_back(step, started, release, error))
        except DeploymentCancelledError:
            _logger.info("%s was not watched to the end.", step.uuid)  # it is up, and the old version is gone
        self._finish(release)
        text = f"generation {release.generation} has replaced generation {running.generation}"
        return self._result(step, Outcome.UP, text, release, self._dropped(step.asset))

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
        deregister(self._site, step.uuid, 0 if before is None else before.epoch)
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

    def _rolled_back(self, step: Step, started: Instance, release: Release, error: NotUpError) -> NotUpError:
        """Have the earlier release run again after a new one has come up and ended, and return the error of it."""
        old = earlier_release(self._site, step)
        if not release.app.settings.update.rollback:
            return error
        if old is None:
            return error.with_text("It cannot be rolled back, because no earlier release is kept.")
        old = msgspec.structs.replace(old, generation=release.generation + 1)
        try:
            put_back(self._site, started, old)
        except OpenFactoryError as second:
            return error.with_text(f"The earlier version did not come up again either: {second}")
        self._finish(old)
        return error.with_text(f"Generation {old.generation} is the earlier version again.", old.generation)

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
        has_ended = step.instance is not None and step.instance.state is InstanceState.EXITED
        if when is None or self._now or has_ended:  # an app that has ended does no work that could be interrupted
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

    def _numbered(self, step: Step) -> Release:
        assert step.release is not None
        return msgspec.structs.replace(step.release, generation=next_generation(self._site, step))

    def _dropped(self, before: RegisteredAsset | None) -> tuple[str, ...]:
        """Return the methods and attributes of the version before that the new version, which runs, does not have."""
        after = None if before is None else self._site.asset(before.uuid)
        if before is None or after is None:
            return ()
        return dropped(before, Declared(after.methods, after.attributes))

    def _failure(self, step: Step, error: Exception) -> Result:
        result = self._result(step, Outcome.FAILED, str(error) or type(error).__name__)
        if not isinstance(error, NotUpError):
            return result
        if error.back is not None:
            result = msgspec.structs.replace(result, outcome=Outcome.ROLLED_BACK, generation=error.back)
        return msgspec.structs.replace(result, exit_status=error.exit_status, log=error.log)

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
