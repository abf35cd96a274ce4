"""Apps as Deployments of Kubernetes.

`manifests` turns a release into objects, without I/O. `cluster` applies, lists and deletes objects. `target` is the
target.
"""

from __future__ import annotations

from openfactory.deploy.targets.kubernetes.target import KubernetesTarget

__all__ = ["KubernetesTarget"]
