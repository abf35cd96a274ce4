"""The place of one deployment: its target, its factory, and the memory of earlier ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from openfactory.assets import Factory
from openfactory.deploy.app import Release
from openfactory.deploy.arrivals import Arrivals
from openfactory.deploy.failed_starts import FailedStart
from openfactory.deploy.record import DeploymentRecord
from openfactory.deploy.registered import RegisteredAsset, registered_assets
from openfactory.deploy.releases import ReleaseStore
from openfactory.deploy.targets.base import Instance, InstanceState, Target
from openfactory.engines.base import Engine
from openfactory.engines.registry import open_engine
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import OpenFactoryError

__all__ = ["DeploymentCancelledError", "NotUpError", "Report", "Site", "deployment_site"]

#: Called with the UUID of an asset and a few words about what is done to it now.
Report = Callable[[str, str], None]

# Seconds between two looks at the instances of the target, and between two looks at the events.
_LOOK_SECONDS = 0.25
_WAIT_SECONDS = 0.05

# Number of last lines of its log that tell why an app is not up.
_LOG_LINES = 20
_LINE_LENGTH = 1000

_logger = logging.getLogger("openfactory.deploy")


class NotUpError(OpenFactoryError):
    """An app did not become AVAILABLE.

    Attributes:
        uuid: UUID of its asset.
        exit_status: status with which its process has ended, or None.
        log: last lines of its log.
        back: generation of the old version that runs again in its place, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        uuid: str,
        exit_status: int | None = None,
        log: tuple[str, ...] = (),
        back: int | None = None,
    ) -> None:
        super().__init__(message)
        self.uuid = uuid
        self.exit_status = exit_status
        self.log = log
        self.back = back

    def with_text(self, text: str, back: int | None = None) -> NotUpError:
        """Return the error with a further sentence, and with the generation that runs in its place."""
        return NotUpError(f"{self} {text}", uuid=self.uuid, exit_status=self.exit_status, log=self.log, back=back)


class DeploymentCancelledError(OpenFactoryError):
    """The deployment was interrupted, so the step was undone."""


class Site:
    """The means of the steps of a deployment, and how they wait.

    Attributes:
        target: the target.
        factory: the factory.
        engine: engine of the factory.
        arrivals: watches claims and availability.
        store: the releases that have been up.
        record: the record of the deployment.
        report: tells the user what is done.
        timeout: seconds in which an app becomes AVAILABLE.
        addresses: URLs of web pages, by UUID.
    """

    def __init__(
        self,
        target: Target,
        factory: Factory,
        engine: Engine,
        arrivals: Arrivals,
        store: ReleaseStore,
        record: DeploymentRecord,
        report: Report,
        timeout: float,
    ) -> None:
        self.target = target
        self.factory = factory
        self.engine = engine
        self.arrivals = arrivals
        self.store = store
        self.record = record
        self.report = report
        self.timeout = timeout
        self.addresses: dict[str, str] = {}
        self._routed: dict[str, Release] = {}
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def asset(self, uuid: str) -> RegisteredAsset | None:
        """Return the facts of an asset now, without its users."""
        return registered_assets(self.engine, [uuid], with_users=False).get(uuid)

    def find(self, instance: Instance) -> Instance | None:
        """Return an instance as it is now, or None if it is gone."""
        return next(
            (
                found
                for found in self.target.instances()
                if (found.uuid, found.generation) == (instance.uuid, instance.generation)
            ),
            None,
        )

    def wait_until_up(self, instance: Instance, epoch: int, *, patient: bool = False, cancellable: bool = True) -> None:
        """Wait until the asset of an instance is AVAILABLE by a newer claim.

        Args:
            instance: the instance.
            epoch: epoch of the claim before, as `Arrivals.begin` has returned it.
            patient: wait also while the target starts an app again that has ended.
            cancellable: end the wait if the deployment is cancelled; what undoes a step goes on.

        Raises:
            NotUpError: the instance has ended, or the asset was not AVAILABLE in time.
            DeploymentCancelledError: the deployment was interrupted.
        """
        deadline = time.monotonic() + self.timeout
        looked = 0.0
        while not self.arrivals.is_up(instance.uuid, epoch):
            if cancellable:
                self.check()
            now = time.monotonic()
            if now - looked >= _LOOK_SECONDS:
                looked = now
                self.check_runs(instance, patient=patient)
            if now >= deadline:
                claimed = self.arrivals.claimed(instance.uuid, epoch)
                how = "It has started, and does not set `avail`." if claimed else "Its app has not claimed the asset."
                raise self.not_up(
                    instance, f"{instance.uuid} has not become AVAILABLE within {self.timeout:g} s. {how} "
                    "Look at its log, or give it more time with --timeout.",
                )  # fmt: skip
            self.arrivals.wait(_WAIT_SECONDS)

    def wait_until_ready(self, instance: Instance) -> None:
        """Wait until the gateway sends requests to an instance that is up; its health may be asked later.

        Raises:
            NotUpError: the instance has ended, or was not healthy in time.
            DeploymentCancelledError: the deployment was interrupted.
        """
        deadline = time.monotonic() + self.timeout
        while not self.check_runs(instance).is_ready:
            self.check()
            if time.monotonic() >= deadline:
                raise self.not_up(
                    instance, f"{instance.uuid} is AVAILABLE, and was not healthy within {self.timeout:g} s. "
                    "Correct the key health, or what its page tells, or give it more time with --timeout.",
                )  # fmt: skip
            self._cancelled.wait(_LOOK_SECONDS)

    def check_runs(self, instance: Instance, *, patient: bool = False) -> Instance:
        """Return an instance as it is now, unless it has ended since it was made.

        Raises:
            NotUpError: it has ended, or is gone.
        """
        found = self.find(instance)
        if found is None:
            raise self.not_up(instance, f"{instance.uuid} is gone from the target. Look at its log.")
        restarted = found.state is InstanceState.RESTARTING or found.restarts > instance.restarts
        if found.state is InstanceState.EXITED or (restarted and not patient):
            status = "" if found.exit_status is None else f" with status {found.exit_status}"
            raise self.not_up(found, f"{instance.uuid} has ended{status}. Its log has the reason.")
        return found

    def not_up(self, instance: Instance, text: str) -> NotUpError:
        """Return the error of an app that is not up, with the last lines of its log, and keep these for later."""
        try:
            lines = self.target.logs([instance.uuid], tail=_LOG_LINES)
            log = tuple(_shortened(line.text) for line in lines)
        except OpenFactoryError as error:
            log = (f"The log cannot be read: {error}",)
        failed = FailedStart(instance.uuid, instance.app, instance.generation, current_timestamp(), text, log)
        try:
            self.store.failed.keep(failed)
        except OSError as error:
            _logger.warning("The end of the log of %s cannot be kept: %s", instance.uuid, error)
        return NotUpError(text, uuid=instance.uuid, exit_status=instance.exit_status, log=log)

    def watch_for(self, instance: Instance, seconds: float) -> None:
        """Watch that an instance does not end for some seconds.

        Raises:
            NotUpError: it has ended.
            DeploymentCancelledError: the deployment was interrupted.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            self.check_runs(instance)
            self._cancelled.wait(min(_LOOK_SECONDS, seconds))

    def route(self, release: Release) -> None:
        """Route the gateway to a release that is up."""
        with self._lock:
            self._routed[release.uuid] = release
            self._apply_routes()

    def unroute(self, uuid: str) -> None:
        """Remove the route of an asset that is gone."""
        with self._lock:
            if self._routed.pop(uuid, None) is not None:
                self._apply_routes()

    def note_routed(self, release: Release) -> None:
        """Note a release that runs already, so that the other routes are applied beside its own."""
        with self._lock:
            self._routed[release.uuid] = release

    def apply_routes(self) -> None:
        """Apply the routes of all releases that run."""
        with self._lock:
            self._apply_routes()

    def cancel(self) -> None:
        """Have all steps end soon; those that have begun are undone."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise an error if the deployment is cancelled.

        Raises:
            DeploymentCancelledError: it is cancelled.
        """
        if self._cancelled.is_set():
            raise DeploymentCancelledError("The deployment was interrupted, so this step was undone. Run it again.")

    def _apply_routes(self) -> None:
        self.addresses = dict(self.target.apply_routes(list(self._routed.values())))


def _shortened(line: str) -> str:
    return line if len(line) <= _LINE_LENGTH else f"{line[:_LINE_LENGTH]} …"


@contextmanager
def deployment_site(target: Target, url: str, store: ReleaseStore, report: Report, timeout: float) -> Generator[Site]:
    """Open the factory at a URL for a deployment.

    Raises:
        ConfigurationError, EngineUnavailableError: the factory cannot be opened.
    """
    with Factory(url) as factory, open_engine(url) as reference, Arrivals(factory) as arrivals:
        record = DeploymentRecord(factory, target.project.name)
        site = Site(target, factory, reference.engine, arrivals, store, record, report, timeout)
        running = {instance.uuid for instance in target.instances()}
        for uuid, kept in store.all_last().items():
            if uuid in running:  # the routes of assets that the deployment does not touch stay
                site.note_routed(kept.release)
        yield site
