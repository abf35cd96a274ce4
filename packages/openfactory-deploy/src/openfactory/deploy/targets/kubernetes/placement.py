"""Nodes of Kubernetes for the placement constraints of an app, which are in the spelling of Docker."""

from __future__ import annotations

import re
from typing import Any

from openfactory.deploy.files.schema import AppFile

__all__ = ["scheduling", "unknown_constraints"]

_CONSTRAINT = re.compile(r"(node\.\S+) (==|!=) (.+)")

# Facts of a node that Kubernetes has as labels; a label of the node has its own name.
_LABELS = {
    "node.hostname": "kubernetes.io/hostname",
    "node.platform.os": "kubernetes.io/os",
    "node.platform.arch": "kubernetes.io/arch",
}


def unknown_constraints(settings: AppFile) -> list[str]:
    """Return the constraints that have no counterpart in Kubernetes, such as `node.role == manager`."""
    return [text for text in settings.deploy.constraints if _requirement(text) is None]


def scheduling(settings: AppFile) -> dict[str, Any]:
    """Return the keys of a pod that keep it on the nodes of its constraints."""
    requirements = [found for text in settings.deploy.constraints if (found := _requirement(text)) is not None]
    if not requirements:
        return {}
    term = {"nodeSelectorTerms": [{"matchExpressions": requirements}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}}


def _requirement(text: str) -> dict[str, Any] | None:
    found = _CONSTRAINT.fullmatch(text)
    if found is None:
        return None
    subject, operator, value = found.groups()
    key = _LABELS.get(subject) or (subject.removeprefix("node.labels.") if subject.startswith("node.labels.") else None)
    if key is None:
        return None
    return {"key": key, "operator": "NotIn" if operator == "!=" else "In", "values": [value]}
