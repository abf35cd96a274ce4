"""A Compose file of several releases."""

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
    variable_of_secret,
)
from openfactory.deploy.export.text import yaml_text
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.docker.containers import labels_of
from openfactory.deploy.targets.health import health_check

__all__ = ["compose_file", "compose_text"]


def compose_text(releases: Sequence[Release], project: str, addresses: Addresses) -> str:
    """Return the text of a Compose file.

    Raises:
        ConfigurationError: an app has no image.
    """
    comment = ["Written by `ofa apps export --target compose`."]
    if variables := _secret_variables(releases):
        comment += ["", "Set these variables, from which the secrets are read:", *sorted(variables.values())]
    return yaml_text([compose_file(releases, project, addresses)], comment)


def compose_file(releases: Sequence[Release], project: str, addresses: Addresses) -> dict[str, Any]:
    """Return a Compose file as a value. The values of secrets are not in it."""
    names = _services_of_apps(checked_releases(releases, "compose"))
    secrets = secret_keys(releases)
    services = {
        release.name: _service(release, project, addresses, names, secrets[release.uuid]) for release in releases
    }
    declared = {key: {"environment": variable} for key, variable in _secret_variables(releases).items()}
    return document_of({"name": project, "services": services}, releases, declared)


def _service(
    release: Release,
    project: str,
    addresses: Addresses,
    names: Mapping[str, Sequence[Release]],
    secrets: Mapping[str, str],
) -> dict[str, Any]:
    settings = release.app.settings
    labels = labels_of(release, project, addresses)
    service = {"container_name": release.name, **common_keys(release, secrets)}
    service |= {"environment": dict(release.environment), "labels": labels, "restart": settings.restart}
    if settings.image_pull_policy == "always":
        service["pull_policy"] = "always"
    if mounts := mounts_of(release, bind_options={"bind": {"create_host_path": False}}):
        service["volumes"] = mounts
    if resources := resources_of(release):
        service["deploy"] = {"resources": resources}
    if settings.depends_on:
        service["depends_on"] = {
            first.name: {"condition": "service_healthy" if health_check(first) else "service_started"}
            for app in settings.depends_on
            for first in names.get(app, ())
        }
    return service


def _services_of_apps(releases: Sequence[Release]) -> dict[str, list[Release]]:
    """Return the releases of each app, by its name in the file."""
    found: dict[str, list[Release]] = {}
    for release in releases:
        found.setdefault(release.app.name, []).append(release)
    return found


def _secret_variables(releases: Sequence[Release]) -> dict[str, str]:
    """Return the environment variable of each secret, which the user sets for Compose."""
    return {key: variable_of_secret(key) for keys in secret_keys(releases).values() for key in keys.values()}
