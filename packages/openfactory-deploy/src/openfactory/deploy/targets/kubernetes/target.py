"""The target kubernetes: each replica is a Deployment of one pod."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import ClassVar

from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.names import normalised_name
from openfactory.deploy.targets.base import Instance, LogLine, Project, Target, TargetError
from openfactory.deploy.targets.identity import APP, PROJECT, UUID
from openfactory.deploy.targets.kubernetes.cluster import Cluster, Object
from openfactory.deploy.targets.kubernetes.instances import (
    container_status,
    generation_of,
    grace_of,
    holding,
    instance_of,
    key_of,
    newest_pod,
    run_of,
    uuid_of,
)
from openfactory.deploy.targets.kubernetes.manifests import Place, manifests, name_problem
from openfactory.deploy.targets.kubernetes.obstacles import has_begun, obstacle_of
from openfactory.deploy.targets.kubernetes.placement import unknown_constraints
from openfactory.deploy.targets.logs import followed_logs, merged_logs

__all__ = ["KubernetesTarget"]

# Seconds beyond the grace period in which a pod is gone.
_GONE_SECONDS = 60.0

# Seconds in which a pod begins, or the cluster tells a reason; a slow pull of an image may go on.
_BEGIN_SECONDS = 60.0

# Kinds whose objects go some time after they are deleted.
_SLOW_KINDS = ("Pod", "PersistentVolumeClaim", "PersistentVolume")

# Seconds between two looks at the pods.
_PAUSE = 0.2


class KubernetesTarget(Target):
    """Apps in the namespace of the current context of the kubeconfig.

    Kubernetes itself replaces a pod, by the strategy of its Deployment: the new pod runs beside the old one, and takes
    the UUID over; with `update.order: stop-first` the old one is gone before.

    Args:
        project: the apps that are deployed together.
    """

    name: ClassVar[str] = "kubernetes"

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self._addresses = Addresses.from_settings()
        self._ended = threading.Event()
        self._starts: dict[str, threading.Lock] = defaultdict(threading.Lock)

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster()

    @cached_property
    def _place(self) -> Place:
        return Place(normalised_name(self.project.name), self._cluster.namespace, self._addresses)

    def lacks(self, release: Release) -> dict[str, str]:
        settings = release.app.settings
        lacking = self.refuses(release)
        if settings.restart not in ("always", "unless-stopped"):
            lacking["restart"] = f"A Deployment always restarts its pod, so `{settings.restart}` is not possible."
        if settings.deploy.limits.open_files is not None:
            lacking["deploy.resources.limits.open_files"] = "Kubernetes has no limit for files. Set it on the nodes."
        if unknown := unknown_constraints(settings):
            lacking["deploy.placement.constraints"] = (
                f"{', '.join(unknown)}: Kubernetes has labels of nodes only. Write node.labels.NAME == VALUE."
            )
        return lacking

    def refuses(self, release: Release) -> dict[str, str]:
        refused = {}
        if release.app.settings.image is None:
            refused["image"] = "Kubernetes runs images only. Add `image`."
        if (problem := name_problem(release)) is not None:
            refused["uuid"] = problem
        return refused

    def instances(self) -> list[Instance]:
        pods = self._pods(self._of_project)
        found = [instance_of(item, pods) for item in self._cluster.objects(self._of_project, ["Deployment"])]
        return sorted(found, key=lambda instance: (instance.uuid, instance.generation))

    def start(self, release: Release) -> Instance:
        for problem in self.refuses(release).values():
            raise TargetError(f"{release.uuid} cannot be started: {problem}")
        with self._starts[release.uuid]:
            running = self._deployment(release.uuid)
            if running is not None and generation_of(running) == release.generation:
                raise TargetError(f"{release.uuid} of this generation runs already. Replace it by a higher generation.")
            before = self._apply(release)
        try:
            self._wait_until_begun(release)
            return self._find(release)
        except BaseException:
            self._restore(before, release)
            if running is None:
                self._wait_until_gone(release.uuid, grace_of(self._wanted_deployment(release)))
            raise

    def replace(
        self,
        running: Instance,  # noqa: ARG002 - the Deployment is changed
        release: Release,
        wait_until_up: Callable[[Instance], None],
    ) -> Instance:
        before = self._apply(release, holds=True)
        try:
            self._wait_until_begun(release)
            started = self._find(release)
            wait_until_up(started)
            self._cluster.apply(self._wanted_deployment(release))  # now the old pod is stopped
        except BaseException:
            self._restore(before, release)
            with suppress(TargetError):  # the error of the new version counts
                grace = grace_of(self._wanted_deployment(release))
                self._wait_until_gone(release.uuid, grace, release.generation)
            raise
        self._remove_surplus(release)
        return started

    def stop(self, instance: Instance) -> None:
        running = self._deployment(instance.uuid)
        if running is None or generation_of(running) != instance.generation:
            return
        for item in reversed(self._cluster.objects(self._of_uuid(instance.uuid))):
            self._cluster.delete(item)
        if not self._cluster.objects(self._of_app(instance.app), ["Deployment"]):
            for item in self._cluster.objects(f"{self._of_app(instance.app)},!{UUID}"):
                self._cluster.delete(item)
        self._wait_until_gone(instance.uuid, grace_of(running))

    def restart(self, instance: Instance) -> None:
        if (running := self._deployment(instance.uuid)) is None:
            raise TargetError(f"{instance.uuid} does not run. Start it: ofa apps up.")
        if running["spec"]["strategy"]["type"] == "Recreate":
            self._cluster.restart(running)  # the old pod is gone before the new one is made
            return
        # Not by a rolling update: the old app ends when the new one takes its UUID, and its container would be started
        # again, and take the UUID back, before its pod is stopped.
        for pod in self._pods(self._of_uuid(instance.uuid)):
            self._cluster.delete(pod)

    def logs(self, uuids: Collection[str] = (), *, follow: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        wanted = {normalised_name(uuid) for uuid in uuids}
        runs: dict[str, str] = {}
        pods: dict[str, Object] = {}

        def sources() -> dict[str, str]:
            pods.clear()
            pods.update({pod["metadata"]["name"]: pod for pod in self._pods(self._of_project)})
            runs.update({name: run_of(pod) for name, pod in pods.items()})
            return {
                name: uuid_of(pod)
                for name, pod in pods.items()
                if not wanted or pod["metadata"]["labels"].get(UUID) in wanted
            }

        if follow:
            return followed_logs(sources, runs.__getitem__, self._cluster.log, tail, self._ended)
        found = sources()
        # What an app wrote before it ended is in a log of its own.
        ended = [name for name in found if container_status(pods[name]).get("restartCount")]
        return merged_logs(found | {f"{name}/previous": found[name] for name in ended}, self._cluster.log, tail)

    def apply_routes(self, releases: Sequence[Release]) -> dict[str, str]:
        # The routes are objects of the releases, so they are there already.
        return self.urls(releases)

    def urls(self, releases: Sequence[Release]) -> dict[str, str]:
        return self._addresses.urls(releases)

    def close(self) -> None:
        self._ended.set()
        if "_cluster" in vars(self):
            self._cluster.close()

    # Objects

    @property
    def _of_project(self) -> str:
        return f"{PROJECT}={self._place.project}"

    def _of_uuid(self, uuid: str) -> str:
        return f"{self._of_project},{UUID}={normalised_name(uuid)}"

    def _of_app(self, uuid: str) -> str:
        return f"{self._of_project},{APP}={normalised_name(uuid)}"

    def _deployment(self, uuid: str) -> Object | None:
        return next(iter(self._cluster.objects(self._of_uuid(uuid), ["Deployment"])), None)

    def _objects_of(self, uuid: str, app: str) -> list[Object]:
        """Return the objects of a replica, and those that it shares with other replicas."""
        return [*self._cluster.objects(self._of_uuid(uuid)), *self._cluster.objects(f"{self._of_app(app)},!{UUID}")]

    def _pods(self, selector: str) -> list[Object]:
        return self._cluster.objects(selector, ["Pod"])

    def _find(self, release: Release) -> Instance:
        made = self._deployment(release.uuid)
        if made is not None and generation_of(made) == release.generation:
            return instance_of(made, self._pods(self._of_uuid(release.uuid)))
        raise TargetError(f"{release.uuid} was deleted while it was made. Deploy it again.")

    def _wanted_deployment(self, release: Release) -> Object:
        return next(item for item in manifests(release, self._place) if item["kind"] == "Deployment")

    def _apply(self, release: Release, *, holds: bool = False) -> list[Object]:
        """Apply the objects of a release, and return those before. If one is refused, all are as they were before.

        Args:
            release: the release.
            holds: keep the old pod until the Deployment is applied again.
        """
        before = self._objects_of(release.uuid, release.app.settings.uuid)
        wanted, own = manifests(release, self._place), {key_of(item) for item in before}
        for item in wanted:
            if key_of(item) not in own:
                self._check_is_own(item, release)
        try:
            for item in wanted:
                self._cluster.apply(holding(item) if holds else item)
        except BaseException:
            self._restore(before, release)
            raise
        return before

    def _check_is_own(self, item: Object, release: Release) -> None:
        """Raise an error if an object of another project, or of somebody else, has the name of one to be made."""
        found = self._cluster.find(item)
        if found is not None and (found["metadata"].get("labels") or {}).get(PROJECT) != self._place.project:
            kind, name = key_of(item)
            raise TargetError(
                f"{release.uuid} cannot be started: another {kind} {name} exists, which is not of the project "
                f"{self._place.project}. Delete it, or give the app another UUID."
            )

    def _wait_until_begun(self, release: Release) -> None:
        """Wait until the container of a release has begun; a slow pull of its image may go on after that.

        Raises:
            TargetError: it cannot begin; the text has the reason of the cluster.
        """
        deadline = time.monotonic() + _BEGIN_SECONDS
        while True:
            obstacle = None
            deployment = self._deployment(release.uuid)
            if deployment is not None and generation_of(deployment) == release.generation:
                pod = newest_pod(deployment, self._pods(self._of_uuid(release.uuid)))
                if pod is not None and has_begun(pod):
                    return
                warnings = () if pod is None else self._cluster.warnings(pod)
                obstacle = obstacle_of(deployment, pod, warnings)
            is_late = time.monotonic() > deadline
            if obstacle is not None and (obstacle.final or is_late):
                raise TargetError(f"{release.uuid} cannot be started: {obstacle.text}")
            if is_late:
                return
            time.sleep(_PAUSE)

    def _wait_until_gone(self, uuid: str, grace: float, generation: int | None = None) -> None:
        """Wait until the pods of a replica are gone, and its volumes, which go when no pod has them.

        Args:
            uuid: UUID of the replica.
            grace: seconds that its app has to end.
            generation: wait for the pods of this generation alone.

        Raises:
            TargetError: one of them is still there.
        """
        deadline = time.monotonic() + grace + _GONE_SECONDS
        while found := self._remains_of(uuid, generation):
            if time.monotonic() > deadline:
                kind, name = key_of(found[0])
                raise TargetError(f"The {kind} {name} of {uuid} is still there. Look at it: kubectl describe {kind}.")
            time.sleep(_PAUSE)

    def _remains_of(self, uuid: str, generation: int | None) -> list[Object]:
        if generation is None:
            return self._cluster.objects(self._of_uuid(uuid), _SLOW_KINDS)
        return [pod for pod in self._pods(self._of_uuid(uuid)) if generation_of(pod) == generation]

    def _restore(self, before: Sequence[Object], release: Release) -> None:
        known = {key_of(item) for item in before}
        for item in before:
            self._cluster.put_back(item)
        for item in self._objects_of(release.uuid, release.app.settings.uuid):
            if key_of(item) not in known:
                self._cluster.delete(item)

    def _remove_surplus(self, release: Release) -> None:
        """Delete the objects that a release no longer has, such as the route of a page that is not exposed now."""
        wanted = {key_of(item) for item in manifests(release, self._place)}
        for item in self._objects_of(release.uuid, release.app.settings.uuid):
            if key_of(item) not in wanted:
                self._cluster.delete(item)
