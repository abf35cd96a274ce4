"""The target kubernetes: each replica is a Deployment of one pod."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.names import normalised_name
from openfactory.deploy.targets.base import Instance, InstanceState, LogLine, Project, Target, TargetError
from openfactory.deploy.targets.identity import APP, GENERATION, HASH, PROJECT, UUID
from openfactory.deploy.targets.kubernetes.cluster import Cluster, Object
from openfactory.deploy.targets.kubernetes.manifests import Place, manifests
from openfactory.deploy.targets.kubernetes.placement import unknown_constraints
from openfactory.deploy.targets.logs import followed_logs, merged_logs

__all__ = ["KubernetesTarget"]

# Seconds beyond the grace period in which a pod is gone.
_GONE_SECONDS = 60.0


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
        if release.app.settings.image is None:
            return {"image": "Kubernetes runs images only. Add `image`."}
        return {}

    def instances(self) -> list[Instance]:
        pods = self._pods(self._of_project)
        found = [_instance(item, pods) for item in self._cluster.objects(self._of_project, ["Deployment"])]
        return sorted(found, key=lambda instance: (instance.uuid, instance.generation))

    def start(self, release: Release) -> Instance:
        for problem in self.refuses(release).values():
            raise TargetError(f"{release.uuid} cannot be started: {problem}")
        running = self._deployment(release.uuid)
        if running is not None and _generation(running) == release.generation:
            raise TargetError(f"{release.uuid} of this generation runs already. Replace it by a higher generation.")
        self._apply(release)
        return self._find(release)

    def replace(
        self,
        running: Instance,  # noqa: ARG002 - Kubernetes stops its pod
        release: Release,
        wait_until_up: Callable[[Instance], None],
    ) -> Instance:
        before = self._apply(release)
        started = self._find(release)
        try:
            wait_until_up(started)
        except BaseException:
            self._restore(before, release)
            raise
        self._remove_surplus(release)
        return started

    def stop(self, instance: Instance) -> None:
        running = self._deployment(instance.uuid)
        if running is None or _generation(running) != instance.generation:
            return
        for item in reversed(self._cluster.objects(self._of_uuid(instance.uuid))):
            self._cluster.delete(item)
        if not self._cluster.objects(self._of_app(instance.app), ["Deployment"]):
            for item in self._cluster.objects(f"{self._of_app(instance.app)},!{UUID}"):
                self._cluster.delete(item)
        grace = running["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        deadline = time.monotonic() + grace + _GONE_SECONDS
        while self._pods(self._of_uuid(instance.uuid)):
            if time.monotonic() > deadline:
                raise TargetError(f"The pod of {instance.uuid} is still there. Look at it: kubectl describe pod.")
            time.sleep(0.2)

    def restart(self, instance: Instance) -> None:
        if (running := self._deployment(instance.uuid)) is None:
            raise TargetError(f"{instance.uuid} does not run. Start it: ofa apps up.")
        self._cluster.restart(running)

    def logs(self, uuids: Collection[str] = (), *, follow: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        wanted = {normalised_name(uuid) for uuid in uuids}
        runs: dict[str, str] = {}

        def sources() -> dict[str, str]:
            pods = {pod["metadata"]["name"]: pod for pod in self._pods(self._of_project)}
            runs.update({name: _run(pod) for name, pod in pods.items()})
            return {
                name: _uuid(pod)
                for name, pod in pods.items()
                if not wanted or pod["metadata"]["labels"].get(UUID) in wanted
            }

        if follow:
            return followed_logs(sources, runs.__getitem__, self._cluster.log, tail, self._ended)
        return merged_logs(sources(), self._cluster.log, tail)

    def apply_routes(self, releases: Sequence[Release]) -> dict[str, str]:
        # The routes are objects of the releases, so they are there already.
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
        if made is not None and _generation(made) == release.generation:
            return _instance(made, self._pods(self._of_uuid(release.uuid)))
        raise TargetError(f"{release.uuid} was deleted while it was made. Deploy it again.")

    def _apply(self, release: Release) -> list[Object]:
        """Apply the objects of a release, and return those before. If one is refused, all are as they were before."""
        before = self._objects_of(release.uuid, release.app.settings.uuid)
        try:
            for item in manifests(release, self._place):
                self._cluster.apply(item)
        except BaseException:
            self._restore(before, release)
            raise
        return before

    def _restore(self, before: Sequence[Object], release: Release) -> None:
        known = {_key(item) for item in before}
        for item in before:
            self._cluster.put_back(item)
        for item in self._objects_of(release.uuid, release.app.settings.uuid):
            if _key(item) not in known:
                self._cluster.delete(item)

    def _remove_surplus(self, release: Release) -> None:
        """Delete the objects that a release no longer has, such as the route of a page that is not exposed now."""
        wanted = {_key(item) for item in manifests(release, self._place)}
        for item in self._objects_of(release.uuid, release.app.settings.uuid):
            if _key(item) not in wanted:
                self._cluster.delete(item)


def _key(item: Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _generation(item: Object) -> int:
    return int(item["metadata"]["annotations"][GENERATION])


def _uuid(item: Object) -> str:
    return str(item["metadata"]["annotations"][UUID])


def _run(pod: Object) -> str:
    """Return a text that changes with each start of the container of a pod."""
    status = _container_status(pod)
    state = status.get("state") or {}
    begun = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    return f"{status.get('restartCount') or 0} {begun}"


def _instance(deployment: Object, pods: Sequence[Object]) -> Instance:
    """Return the instance of a Deployment, whose state is that of its newest pod."""
    annotations = deployment["metadata"]["annotations"]
    label = deployment["metadata"]["labels"][UUID]
    own = [
        pod
        for pod in pods
        if pod["metadata"]["labels"].get(UUID) == label
        and pod["metadata"]["annotations"].get(GENERATION) == annotations[GENERATION]
    ]
    pod = max(own, key=lambda each: each["metadata"].get("creationTimestamp") or "", default=None)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    status = _container_status(pod)
    ended = (status.get("lastState") or {}).get("terminated") or {}
    ended = (status.get("state") or {}).get("terminated") or ended
    running = (status.get("state") or {}).get("running") or {}
    waiting = (status.get("state") or {}).get("waiting") or {}
    ports = [port["containerPort"] for port in container.get("ports", ()) if port["name"] == "web"]
    return Instance(
        uuid=annotations[UUID],
        app=annotations[APP],
        hash=annotations[HASH],
        generation=int(annotations[GENERATION]),
        state=_state(status),
        exit_status=ended.get("exitCode"),
        restarts=status.get("restartCount") or 0,
        started=_timestamp(running.get("startedAt")),
        program=container["image"],
        address=f"http://{deployment['metadata']['name']}:{ports[0]}" if ports else None,
        health="ready" if status.get("ready") else str(waiting.get("reason") or ""),
        is_ready=bool(status.get("ready")),
    )


def _container_status(pod: Object | None) -> dict[str, Any]:
    statuses = ((pod or {}).get("status") or {}).get("containerStatuses") or [{}]
    return dict(statuses[0])


def _state(status: dict[str, Any]) -> InstanceState:
    state = status.get("state") or {}
    if "running" in state and state["running"] is not None:
        return InstanceState.RUNNING
    if status.get("restartCount") or state.get("terminated"):
        return InstanceState.RESTARTING
    return InstanceState.STARTING


def _timestamp(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()
