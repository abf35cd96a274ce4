"""The reasons for which a cluster does not run a pod, as its server tells them: no I/O, no client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

__all__ = ["Obstacle", "has_begun", "obstacle_of", "unscheduled"]

# Reasons of a container that waits, by which it does not start before something is corrected; each with the remedy.
_FINAL = {
    "CreateContainerConfigError": "Correct the keys of the app.",
    "CreateContainerError": "Correct the keys of the app.",
    "ErrImageNeverPull": "Correct the key image, or load the image on the nodes.",
    "ErrImagePull": "Correct the key image, or push the image to a registry that all nodes reach.",
    "ImagePullBackOff": "Correct the key image, or push the image to a registry that all nodes reach.",
    "InvalidImageName": "Correct the key image.",
}


class Obstacle(msgspec.Struct, frozen=True):
    """A reason for which a pod has not begun.

    Attributes:
        text: sentence of the cluster, and the remedy.
        final: whether it stays until something is corrected.
    """

    text: str
    final: bool


def has_begun(pod: Mapping[str, Any]) -> bool:
    """Return whether the container of a pod has run."""
    for status in _statuses(pod):
        state = status.get("state") or {}
        if state.get("running") or state.get("terminated") or status.get("restartCount"):
            return True
    return False


def obstacle_of(
    deployment: Mapping[str, Any], pod: Mapping[str, Any] | None, warnings: Iterable[Mapping[str, Any]]
) -> Obstacle | None:
    """Return the reason for which the pod of a Deployment has not begun, or None if the cluster tells no reason.

    Args:
        deployment: the Deployment.
        pod: its newest pod, or None.
        warnings: the warnings about the pod, as the cluster lists them.
    """
    if pod is None:
        for condition in _conditions(deployment):
            if (condition["type"], condition["status"]) == ("ReplicaFailure", "True"):
                remedy = "Correct the keys of the app, or the rules of the namespace."
                return Obstacle(_sentence(condition.get("message"), remedy), final=True)
        return None
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if (reason := waiting.get("reason")) in _FINAL:
            return Obstacle(_sentence(waiting.get("message") or reason, _FINAL[reason]), final=True)
    if (text := unscheduled(pod)) is not None:
        return Obstacle(_sentence(text, "Correct deploy.placement and deploy.resources, or add a node."), final=False)
    told = [str(warning.get("message") or warning.get("reason")) for warning in warnings]
    return Obstacle(_sentence(told[-1], "Correct what the text names."), final=False) if told else None


def unscheduled(pod: Mapping[str, Any]) -> str | None:
    """Return the reason for which no node takes a pod, or None."""
    for condition in _conditions(pod):
        if (condition["type"], condition["status"]) == ("PodScheduled", "False"):
            return str(condition.get("message") or condition.get("reason") or "no node takes the pod")
    return None


def _statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def _conditions(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((item.get("status") or {}).get("conditions") or ())


def _sentence(text: Any, remedy: str) -> str:
    return f"{str(text).strip().rstrip('.')}. {remedy}"
