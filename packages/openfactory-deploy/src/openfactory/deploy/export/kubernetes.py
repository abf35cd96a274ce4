"""A file of Kubernetes' objects for several releases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.export.services import checked_releases
from openfactory.deploy.export.text import yaml_text
from openfactory.deploy.targets.kubernetes.manifests import Place, manifests, secret_name

__all__ = ["kubernetes_objects", "kubernetes_text"]


def kubernetes_text(releases: Sequence[Release], place: Place) -> str:
    """Return the text of a file for `kubectl apply`.

    Raises:
        ConfigurationError: an app has no image.
    """
    comment = ["Written by `ofa apps export --target kubernetes`."]
    if commands := [_command(release, place) for release in releases if release.secrets]:
        comment += ["", "Create the secrets before:", *commands]
    return yaml_text(kubernetes_objects(releases, place), comment)


def kubernetes_objects(releases: Sequence[Release], place: Place) -> list[dict[str, Any]]:
    """Return the objects of the releases, each once; the replicas of an app share some. Secrets are not among them."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for release in checked_releases(releases, "kubernetes"):
        for item in manifests(release, place, as_file=True):
            found.setdefault((item["kind"], item["metadata"]["name"]), item)
    return list(found.values())


def _command(release: Release, place: Place) -> str:
    files = " ".join(f"--from-file={name}=FILE" for name in release.secrets)
    return f"kubectl --namespace {place.namespace} create secret generic {secret_name(release)} {files}"
