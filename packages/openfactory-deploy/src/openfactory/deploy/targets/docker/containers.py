"""A container of a release, as the interface of Docker has it: values, no I/O."""

from __future__ import annotations

import io
import math
import re
import tarfile
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.files.sizes import bytes_of
from openfactory.deploy.gateway.labels import gateway_labels
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.base import Instance, InstanceState
from openfactory.deploy.targets.health import health_check
from openfactory.deploy.targets.identity import APP, GENERATION, HASH, RESTART, UUID, identity_labels

__all__ = [
    "container_of",
    "environment_of",
    "grace_period",
    "health_of",
    "instance_of",
    "labels_of",
    "problems_of",
    "secrets_archive",
    "time_of",
    "ulimits_of",
]

_STATES = {
    "paused": InstanceState.RUNNING,
    "restarting": InstanceState.RESTARTING,
    "running": InstanceState.RUNNING,
}
_FOLDER_OF_SECRETS = "run/secrets"


def problems_of(release: Release, target: str) -> dict[str, str]:
    """Return the keys of a release with which no container can be made, each with the problem and its remedy."""
    settings = release.app.settings
    problems = {}
    if settings.image is None:
        key = "file" if settings.file is not None else "command"
        problems[key] = f"the target {target} runs images. Add the key image, or select the target process."
    if len(settings.networks) > 1 and "host" in settings.networks:
        problems["networks"] = "the network of the host goes with no other one. Remove the others, or host."
    return problems


def container_of(release: Release, project: str, addresses: Addresses, *, beside: bool) -> dict[str, Any]:
    """Return the description of a container.

    Args:
        release: the release.
        project: name of the project.
        addresses: rules for the addresses of web pages.
        beside: whether another instance of the asset runs, whose work it takes over.
    """
    settings = release.app.settings
    networks = settings.networks[:1]
    restart_policy = _restart_policy(settings)
    container: dict[str, Any] = {
        "Image": settings.image,
        "Env": environment_of(release, beside=beside),
        "Labels": {**labels_of(release, project, addresses), RESTART: restart_policy},
        "StopTimeout": grace_period(release),
        "HostConfig": {
            "RestartPolicy": {"Name": restart_policy},
            "Mounts": [dict(mount) for mount in release.mounts],
            "NetworkMode": networks[0] if networks else "default",
            "Ulimits": ulimits_of(release),
            **_resources(release),
        },
    }
    if networks and networks[0] != "host":
        container["NetworkingConfig"] = {"EndpointsConfig": {networks[0]: {"Aliases": [release.name]}}}
    if settings.command:
        container["Cmd"] = list(settings.command)
    if settings.runtime_uid is not None:
        container["User"] = f"{settings.runtime_uid}:{settings.runtime_gid}"
    if (health := health_of(release)) is not None:
        container["Healthcheck"] = health
    return container


def environment_of(release: Release, *, beside: bool) -> list[str]:
    """Return the environment of a release; beside another instance, the app takes the UUID over."""
    variables = {**release.variables, **({"APP_TAKE_OVER": "1"} if beside else {})}
    return [f"{name}={value}" for name, value in variables.items()]


def labels_of(release: Release, project: str, addresses: Addresses) -> dict[str, str]:
    """Return the labels of the gateway, those of the file, and those by which a target finds its instances."""
    own = release.app.settings.labels
    return {**gateway_labels(release, addresses), **own, **identity_labels(project, release)}


def grace_period(release: Release) -> int:
    """Return the whole seconds that an app has to end; engines know no parts of them."""
    return math.ceil(seconds_of(release.app.settings.stop_grace_period))


def health_of(release: Release) -> dict[str, Any] | None:
    """Return the health check, with times in nanoseconds, or None for that of the image."""
    check = health_check(release)
    if check is None:
        return None
    return {
        "Test": ["CMD", *check.command],
        "Interval": round(check.interval * 1e9),
        "Timeout": round(check.timeout * 1e9),
        "StartPeriod": round(check.start_period * 1e9),
        "Retries": check.retries,
    }


def ulimits_of(release: Release) -> list[dict[str, Any]]:
    """Return the limit of open files."""
    open_files = release.app.settings.deploy.limits.open_files
    return [] if open_files is None else [{"Name": "nofile", "Soft": open_files, "Hard": open_files}]


def _restart_policy(settings: AppFile) -> str:
    """Return the policy of the file; without one, apps come back with a daemon that was killed.

    Docker takes the kill of its containers at its own start for a stop by hand. After one, `unless-stopped` stays down.
    """
    return settings.restart if "restart" in settings.model_fields_set else "always"


def _resources(release: Release) -> dict[str, Any]:
    limits, reservations = release.app.settings.deploy.limits, release.app.settings.deploy.reservations
    found: dict[str, Any] = {}
    if limits.cpus is not None:
        found["NanoCpus"] = round(limits.cpus * 1e9)
    if limits.memory is not None:
        # Without the second, the app gets as much again as swap.
        found["Memory"] = found["MemorySwap"] = bytes_of(limits.memory)
    if reservations.memory is not None:
        found["MemoryReservation"] = bytes_of(reservations.memory)
    return found


def secrets_archive(secrets: Mapping[str, str]) -> bytes:
    """Return an archive with the files of secrets; the processes of a container can read them, whatever their user."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo(_FOLDER_OF_SECRETS)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for name, value in secrets.items():
            content = value.encode()
            info = tarfile.TarInfo(f"{_FOLDER_OF_SECRETS}/{name}")
            info.size, info.mode = len(content), 0o444
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def instance_of(found: Mapping[str, Any]) -> Instance:
    """Return the instance of a container, from its description by the engine."""
    labels, state = found["Config"]["Labels"], found["State"]
    running = _STATES.get(state["Status"], InstanceState.EXITED)
    health = state.get("Health", {}).get("Status", "")
    return Instance(
        uuid=labels[UUID],
        app=labels[APP],
        hash=labels[HASH],
        generation=int(labels[GENERATION]),
        state=running,
        exit_status=None if running is InstanceState.RUNNING else state.get("ExitCode"),
        restarts=found.get("RestartCount", 0),
        started=time_of(state.get("StartedAt", "")),
        program=found["Config"]["Image"],
        address=_address(found),
        health=health,
        is_ready=health in ("", "none", "healthy"),
        pid=state.get("Pid") or None,
    )


def time_of(text: str) -> float | None:
    """Return a time of the engine in seconds since 1970; it says the year 1 for a time that has not come."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", text)).timestamp()


def _address(found: Mapping[str, Any]) -> str | None:
    variables = dict(item.split("=", 1) for item in found["Config"].get("Env") or () if "=" in item)
    if "PORT" not in variables:
        return None
    networks = found["NetworkSettings"]["Networks"]
    if "host" in networks:
        return f"http://127.0.0.1:{variables['PORT']}"
    host = next((network["IPAddress"] for network in networks.values() if network["IPAddress"]), None)
    return f"http://{host}:{variables['PORT']}" if host else None
