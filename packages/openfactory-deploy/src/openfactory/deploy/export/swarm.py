"""A stack file for `docker stack deploy`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.export.services import (
    checked_releases,
    common_keys,
    doubled,
    mounts_of,
    networks_of,
    resources_of,
    secret_key,
    volumes_of,
)
from openfactory.deploy.export.text import yaml_text
from openfactory.deploy.gateway.labels import gateway_labels
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.identity import identity_labels

__all__ = ["stack_file", "stack_text"]

# Facts of the task, which the environment of an app on Swarm has, and which Swarm replaces.
_TASK_FACT = re.compile(r"\{\{\.(Task|Service|Node)\.\w+\}\}")

_RESTART = {"no": "none", "on-failure": "on-failure", "always": "any", "unless-stopped": "any"}


def stack_text(releases: Sequence[Release], project: str, addresses: Addresses) -> str:
    """Return the text of a stack file.

    Raises:
        ConfigurationError: an app has no image.
    """
    comment = ["Written by `ofa apps export --target swarm`.", f"docker stack deploy -c FILE {project}"]
    if secrets := _secrets(releases):
        comment += ["", "Create the secrets before:", *(f"docker secret create {key} FILE" for key in secrets)]
    return yaml_text([stack_file(releases, project, addresses)], comment)


def stack_file(releases: Sequence[Release], project: str, addresses: Addresses) -> dict[str, Any]:
    """Return a stack file as a value. Each replica is a service of its own, because it is an asset of its own."""
    services = {release.name: _service(release, project, addresses) for release in checked_releases(releases, "swarm")}
    document: dict[str, Any] = {"version": "3.8", "services": services}
    if networks := networks_of(releases):
        document["networks"] = networks
    if volumes := volumes_of(releases):
        document["volumes"] = volumes
    if secrets := _secrets(releases):
        document["secrets"] = {key: {"external": True} for key in secrets}
    return dict(doubled(document))


def _service(release: Release, project: str, addresses: Addresses) -> dict[str, Any]:
    settings = release.app.settings
    labels = {**gateway_labels(release, addresses), **settings.labels, **identity_labels(project, release)}
    deploy: dict[str, Any] = {"replicas": 1, "labels": labels}
    update = {"order": settings.update.order, "monitor": settings.update.monitor}
    deploy["update_config"] = {**update, "failure_action": "rollback" if settings.update.rollback else "pause"}
    deploy["rollback_config"] = {"order": settings.update.order}
    deploy["restart_policy"] = {"condition": _RESTART[settings.restart]}
    if resources := resources_of(release):
        deploy["resources"] = resources
    if settings.deploy.constraints:
        deploy["placement"] = {"constraints": list(settings.deploy.constraints)}
    environment = {name: _without_templates(value) for name, value in release.environment.items()}
    if settings.update.order == "start-first":
        # The new task runs beside the old one, and takes its UUID over.
        environment.setdefault("APP_TAKE_OVER", "1")
    service = {**common_keys(release), "environment": environment, "deploy": deploy}
    mounts = [{**mount, "source": _without_templates(mount["source"])} for mount in mounts_of(release)]
    return {**service, "volumes": mounts} if mounts else service


def _without_templates(text: str) -> str:
    """Return a text in which Swarm replaces nothing, except for a fact of the task."""
    return text if _TASK_FACT.fullmatch(text) else text.replace("{{", '{{"{{"}}')


def _secrets(releases: Sequence[Release]) -> list[str]:
    return [secret_key(release, name) for release in releases for name in release.secrets]
