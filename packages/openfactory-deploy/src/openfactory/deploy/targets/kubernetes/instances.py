"""Instances as the objects of a cluster tell of them: no I/O, no client."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from openfactory.deploy.targets.base import Instance, InstanceState
from openfactory.deploy.targets.identity import APP, GENERATION, HASH, UUID
from openfactory.deploy.targets.kubernetes.cluster import Object
from openfactory.deploy.targets.kubernetes.obstacles import unscheduled

__all__ = [
    "container_status",
    "generation_of",
    "grace_of",
    "holding",
    "instance_of",
    "key_of",
    "newest_pod",
    "run_of",
    "uuid_of",
]

# Seconds in which the old pod stays while its successor comes up, if nothing ends the update before.
_HELD_SECONDS = 600


def key_of(item: Object) -> tuple[str, str]:
    """Return kind and name of an object."""
    return item["kind"], item["metadata"]["name"]


def holding(item: Object) -> Object:
    """Return a Deployment whose new pod replaces the old one only after a long time."""
    if item["kind"] != "Deployment" or item["spec"]["strategy"]["type"] == "Recreate":
        return item
    times = {"minReadySeconds": _HELD_SECONDS, "progressDeadlineSeconds": 2 * _HELD_SECONDS}
    return {**item, "spec": {**item["spec"], **times}}


def grace_of(deployment: Object) -> float:
    """Return the seconds that the app of a Deployment has to end."""
    return float(deployment["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30))


def generation_of(item: Object) -> int:
    """Return the generation of a Deployment or a pod."""
    return int(item["metadata"]["annotations"][GENERATION])


def uuid_of(item: Object) -> str:
    """Return the UUID of the asset of an object."""
    return str(item["metadata"]["annotations"][UUID])


def run_of(pod: Object) -> str:
    """Return a text that changes with each start of the container of a pod."""
    status = container_status(pod)
    state = status.get("state") or {}
    begun = (state.get("running") or state.get("terminated") or {}).get("startedAt")
    return f"{status.get('restartCount') or 0} {begun}"


def newest_pod(deployment: Object, pods: Sequence[Object]) -> Object | None:
    """Return the newest pod of a Deployment, apart from pods that are being stopped, or None."""
    label, generation = deployment["metadata"]["labels"][UUID], generation_of(deployment)
    own = [
        pod
        for pod in pods
        if pod["metadata"]["labels"].get(UUID) == label
        and generation_of(pod) == generation
        and not pod["metadata"].get("deletionTimestamp")
    ]
    return max(own, key=lambda each: each["metadata"].get("creationTimestamp") or "", default=None)


def instance_of(deployment: Object, pods: Sequence[Object]) -> Instance:
    """Return the instance of a Deployment, whose state is that of its newest pod."""
    annotations = deployment["metadata"]["annotations"]
    pod = newest_pod(deployment, pods)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    status = container_status(pod)
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
        health="ready" if status.get("ready") else str(waiting.get("reason") or unscheduled(pod or {}) or ""),
        is_ready=bool(status.get("ready")),
    )


def container_status(pod: Object | None) -> dict[str, Any]:
    """Return the status of the container of a pod, which is empty before there is one."""
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
