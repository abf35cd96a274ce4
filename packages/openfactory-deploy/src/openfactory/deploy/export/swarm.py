"""A stack file for `docker stack deploy`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.export.services import (
    checked_releases,
    common_keys,
    document_of,
    mounts_of,
    resources_of,
    secret_keys,
)
from openfactory.deploy.export.text import yaml_text
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.docker.containers import labels_of
from openfactory.deploy.targets.swarm.services import RESTART_CONDITIONS, without_templates

__all__ = ["stack_file", "stack_text"]


def stack_text(releases: Sequence[Release], project: str, addresses: Addresses) -> str:
    """Return the text of a stack file.

    Raises:
        ConfigurationError: an app has no image.
    """
    comment = ["Written by `ofa apps export --target swarm`.", f"docker stack deploy -c FILE {project}"]
    if secrets := [key for keys in secret_keys(releases).values() for key in keys.values()]:
        comment += ["", "Create the secrets before:", *(f"docker secret create {key} FILE" for key in secrets)]
    return yaml_text([stack_file(releases, project, addresses)], comment)


def stack_file(releases: Sequence[Release], project: str, addresses: Addresses) -> dict[str, Any]:
    """Return a stack file as a value. Each replica is a service of its own, because it is an asset of its own."""
    secrets = secret_keys(releases)
    services = {
        release.name: _service(release, project, addresses, secrets[release.uuid])
        for release in checked_releases(releases, "swarm")
    }
    declared = {key: {"external": True} for keys in secrets.values() for key in keys.values()}
    return document_of({"version": "3.8", "services": services}, releases, declared)


def _service(release: Release, project: str, addresses: Addresses, secrets: Mapping[str, str]) -> dict[str, Any]:
    settings = release.app.settings
    labels = labels_of(release, project, addresses)
    deploy: dict[str, Any] = {"replicas": 1, "labels": labels}
    update = {"order": settings.update.order, "monitor": settings.update.monitor}
    deploy["update_config"] = {**update, "failure_action": "rollback" if settings.update.rollback else "pause"}
    deploy["rollback_config"] = {"order": settings.update.order}
    deploy["restart_policy"] = {"condition": RESTART_CONDITIONS[settings.restart]}
    if resources := resources_of(release):
        deploy["resources"] = resources
    if settings.deploy.constraints:
        deploy["placement"] = {"constraints": list(settings.deploy.constraints)}
    environment = {name: without_templates(value) for name, value in release.environment.items()}
    if settings.update.order == "start-first":
        # The new task runs beside the old one, and takes its UUID over.
        environment.setdefault("APP_TAKE_OVER", "1")
    service = {**common_keys(release, secrets), "environment": environment, "deploy": deploy}
    mounts = [{**mount, "source": without_templates(mount["source"])} for mount in mounts_of(release)]
    return {**service, "volumes": mounts} if mounts else service
