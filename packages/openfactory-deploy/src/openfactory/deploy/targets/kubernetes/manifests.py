"""The objects of Kubernetes for one release, as values: no I/O, no client."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.names import MAX_LABEL, normalised_name
from openfactory.deploy.targets.health import ALIVE, health_check
from openfactory.deploy.targets.identity import APP, PROJECT, UUID, identity_labels
from openfactory.deploy.targets.kubernetes.placement import scheduling
from openfactory.deploy.targets.kubernetes.routes import route_objects
from openfactory.deploy.targets.kubernetes.volumes import Volumes, volumes_of
from openfactory.deploy.targets.resources import resource_amounts

__all__ = ["Place", "manifests", "name_problem", "secret_name"]

# Folder of the secrets, as in all containers.
_SECRETS = "/run/secrets"


class Place(msgspec.Struct, frozen=True):
    """Where the objects belong.

    Attributes:
        project: name of the project.
        namespace: namespace of Kubernetes.
        addresses: rules for host names and prefixes.
    """

    project: str
    namespace: str = "default"
    addresses: Addresses = Addresses()


def secret_name(release: Release) -> str:
    """Return the name of the object with the secrets of a release."""
    return f"{normalised_name(release.uuid)}-secrets"


def name_problem(release: Release) -> str | None:
    """Return the reason for which Kubernetes refuses the name of a release, with the remedy, or None."""
    name = normalised_name(release.uuid)
    if len(name) > MAX_LABEL:
        return f"Its name in Kubernetes has {len(name)} characters. Write a UUID of at most {MAX_LABEL}."
    if name[0].isdigit() and _ports(release):
        return f"The name of a Service begins with a letter, and {name!r} does not. Begin the UUID with a letter."
    return None


def manifests(release: Release, place: Place, *, as_file: bool = False) -> list[dict[str, Any]]:
    """Return the objects of a release, in the order in which they are made.

    Each replica of an app is a Deployment of its own, because it is an asset of its own.

    Args:
        release: the release, whose app has an image.
        place: project and namespace.
        as_file: leave out what is of one deployment: the values of the secrets, and the generation of the app.
    """
    settings = release.app.settings
    name = normalised_name(release.uuid)
    volumes = volumes_of(release, name, place.namespace)
    variables = release.environment if as_file else release.variables
    objects: list[dict[str, Any]] = []
    if release.secrets and not as_file:
        objects.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret_name(release)}, "type": "Opaque"}
            # Not `stringData`: the server keeps a key that is left out of it.
            | {"data": {name: b64encode(value.encode()).decode() for name, value in release.secrets.items()}}
        )
    objects += volumes.objects
    objects.append(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {UUID: name}},
                "strategy": _strategy(settings.update.order),
                "template": _pod_template(release, place, volumes, variables),
            },
        }
    )
    if ports := _ports(release):
        objects.append(_service(name, {UUID: name}, ports))
    own = _identity(release, place)
    return [_identified(item, own, place) for item in objects] + _shared_by_replicas(release, place, name, ports)


def _shared_by_replicas(release: Release, place: Place, name: str, ports: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the objects of the app's route, which are the same for each replica."""
    settings = release.app.settings
    if (route := place.addresses.route(settings)) is None:
        return []
    app = normalised_name(settings.uuid)
    objects = [] if app == name else [_service(app, {APP: app, PROJECT: place.project}, {"web": ports["web"]})]
    shared = {"labels": {PROJECT: place.project, APP: app}, "annotations": {APP: settings.uuid}}
    return [_identified(item, shared, place) for item in [*objects, *route_objects(route, app)]]


def _identified(item: dict[str, Any], identity: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Return an object with its namespace, and with the labels and annotations by which it is found."""
    metadata = {**item["metadata"], **identity}
    if item["kind"] != "PersistentVolume":
        metadata["namespace"] = place.namespace
    return {**item, "metadata": metadata}


def _identity(release: Release, place: Place) -> dict[str, dict[str, str]]:
    """Return the identity of a release: names as labels, and the UUIDs themselves, which may have any characters."""
    names = {
        PROJECT: place.project,
        APP: normalised_name(release.app.settings.uuid),
        UUID: normalised_name(release.uuid),
    }
    return {"labels": names, "annotations": identity_labels(place.project, release)}


def _strategy(order: str) -> dict[str, Any]:
    if order == "stop-first":
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _pod_template(release: Release, place: Place, volumes: Volumes, variables: Mapping[str, str]) -> dict[str, Any]:
    settings = release.app.settings
    container: dict[str, Any] = {
        "name": "app",
        "image": settings.image,
        "imagePullPolicy": "Always" if settings.image_pull_policy == "always" else "IfNotPresent",
        "env": _environment(release, variables),
    }
    if settings.command:
        container["args"] = [_without_references(word) for word in settings.command]
    if ports := _ports(release):
        container["ports"] = [{"name": key, "containerPort": port} for key, port in ports.items()]
    container |= _probes(release)
    if resources := _resources(release):
        container["resources"] = resources
    mounts, pod_volumes = list(volumes.mounts), list(volumes.volumes)
    if release.secrets:
        mounts.append({"name": "secrets", "mountPath": _SECRETS, "readOnly": True})
        pod_volumes.append({"name": "secrets", "secret": {"secretName": secret_name(release)}})
    if mounts:
        container["volumeMounts"] = mounts
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": math.ceil(seconds_of(settings.stop_grace_period)),
        # Kubernetes adds a variable for each Service otherwise, and `PORT` of another app may be among them.
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "containers": [container],
    }
    if settings.runtime_uid is not None:
        spec["securityContext"] = {"runAsUser": settings.runtime_uid, "runAsGroup": settings.runtime_gid}
    if pod_volumes:
        spec["volumes"] = pod_volumes
    spec |= scheduling(settings)
    # A changed value of a secret makes a new pod, because the hash of the release is part of the template.
    metadata = _identity(release, place)
    metadata["annotations"] = {**settings.labels, **metadata["annotations"]}
    return {"metadata": metadata, "spec": spec}


def _environment(release: Release, variables: Mapping[str, str]) -> list[dict[str, Any]]:
    if release.app.settings.update.order == "start-first":
        variables = {"APP_TAKE_OVER": "1", **variables}  # a new pod runs beside an old one
    return [{"name": name, "value": _without_references(value)} for name, value in variables.items()]


def _without_references(text: str) -> str:
    """Return a text in which Kubernetes replaces nothing: it takes `$(NAME)` for a reference to a variable."""
    return text.replace("$(", "$$(")


def _ports(release: Release) -> dict[str, int]:
    """Return the ports of the app by name; a port of two purposes has the name of the first."""
    settings = release.app.settings
    named = {
        "web": settings.routing.port if settings.routing else None,
        "metrics": settings.metrics.port if settings.metrics else None,
        "health": check.port if (check := health_check(release)) else None,
    }
    ports: dict[str, int] = {}
    for name, port in named.items():
        if port is not None and port not in ports.values():
            ports[name] = port
    return ports


def _service(name: str, selector: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "selector": dict(selector),
            "ports": [{"name": key, "port": port, "targetPort": port} for key, port in ports.items()],
        },
    }


def _probes(release: Release) -> dict[str, Any]:
    """Return the probes: the health pages if the file has `health`, otherwise only that the web port is open."""
    if (check := health_check(release)) is None:
        routing = release.app.settings.routing
        if routing is None or routing.port is None:
            return {}
        return {"readinessProbe": {"tcpSocket": {"port": routing.port}, "periodSeconds": 1}}
    times = {"periodSeconds": _seconds(check.interval), "timeoutSeconds": _seconds(check.timeout)}
    alive, ready = ({"httpGet": {"path": path, "port": check.port}} for path in (ALIVE, check.path))
    tries = math.ceil(check.start_period)
    return {
        "startupProbe": {**alive, "periodSeconds": 1, "timeoutSeconds": times["timeoutSeconds"]}
        | {"failureThreshold": max(tries, 1)},
        "livenessProbe": {**alive, **times, "failureThreshold": check.retries},
        # Often: the old pod of an update goes when the new one is ready. The old one, whose asset is UNAVAILABLE then,
        # has its route as long as the file says.
        "readinessProbe": {**ready, "periodSeconds": 1, "timeoutSeconds": times["timeoutSeconds"]}
        | {"failureThreshold": math.ceil(check.retries * check.interval)},
    }


def _seconds(seconds: float) -> int:
    return max(math.ceil(seconds), 1)


def _resources(release: Release) -> dict[str, Any]:
    cpu = ("cpu", lambda number: f"{round(number * 1000)}m")
    return resource_amounts(release, ("limits", "requests"), cpu, ("memory", str))
