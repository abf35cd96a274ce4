"""A service of a release, as the interface of Docker has it: values, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from openfactory.deploy.app import Release
from openfactory.deploy.files.durations import seconds_of
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.names import secret_key
from openfactory.deploy.targets.base import Instance, InstanceState
from openfactory.deploy.targets.docker.containers import (
    environment_of,
    grace_period,
    health_of,
    labels_of,
    problems_of,
    time_of,
    ulimits_of,
)
from openfactory.deploy.targets.identity import APP, GENERATION, HASH, UUID, identity_labels
from openfactory.deploy.targets.resources import resource_amounts

__all__ = [
    "RESTART_CONDITIONS",
    "grace_of",
    "instance_of",
    "secret_name",
    "service_of",
    "swarm_problems_of",
    "without_templates",
]

#: Condition of Swarm for each restart policy of Docker.
RESTART_CONDITIONS = {"no": "none", "on-failure": "on-failure", "always": "any", "unless-stopped": "any"}
_STATES = {
    "running": InstanceState.RUNNING,
    "complete": InstanceState.EXITED,
    "failed": InstanceState.EXITED,
    "orphaned": InstanceState.EXITED,
    "rejected": InstanceState.EXITED,
    "remove": InstanceState.EXITED,
    "shutdown": InstanceState.EXITED,
}
#: States of a task that waits for no other one any more.
_BEGINS = ("starting", "running")
# Swarm replaces these facts of a task, and refuses all other text between such braces.
_FACT = re.compile(r"\{\{(?!\s*\.(?:Service|Node|Task)\.)")
_ONE_NODE = re.compile(r"node\.(id|hostname|labels\.\S+) ==")
_NAME = re.compile(r"[a-z0-9]+(?:[-_]+[a-z0-9]+)*")
#: Swarm's bound for the name of a service, less the characters of a generation.
_LONGEST = 63 - len("-g99999")


def swarm_problems_of(release: Release, target: str) -> dict[str, str]:
    """Return the keys of a release with which no service can be made, each with the problem and its remedy."""
    problems = problems_of(release, target)
    if not _NAME.fullmatch(release.name) or len(release.name) > _LONGEST:
        problems["uuid"] = (
            f"{release.uuid!r} is not a name for a service. Write at most {_LONGEST} letters a-z and digits, "
            "with `-` or `_` between them."
        )
    has_folder = any(mount["Type"] == "bind" for mount in release.mounts)
    if has_folder and not any(map(_ONE_NODE.match, release.app.settings.deploy.constraints)):
        problems["storage"] = (
            "a folder of one machine does not follow the app to another. Use a storage of type nfs, or bind the app "
            "to the machine: deploy.placement.constraints: [node.hostname==NAME]."
        )
    return problems


def service_of(
    release: Release,
    project: str,
    addresses: Addresses,
    *,
    image: str,
    secrets: Mapping[str, tuple[str, str]],
    beside: bool,
) -> dict[str, Any]:
    """Return the arguments that describe a service, but for its name.

    Args:
        release: the release.
        project: name of the project.
        addresses: rules for the addresses of web pages.
        image: image of the release, maybe with its digest.
        secrets: ids and names of Swarm's secrets by the names of those of the release.
        beside: whether another instance of the asset runs, whose work it takes over.
    """
    settings = release.app.settings
    labels = labels_of(release, project, addresses)
    container: dict[str, Any] = {
        "Image": image,
        "Env": [without_templates(variable) for variable in environment_of(release, beside=beside)],
        "Labels": identity_labels(project, release),
        "Mounts": [_literal(mount) for mount in release.mounts],
        "StopGracePeriod": grace_period(release) * 10**9,
        "Secrets": [_secret(name, *of_swarm) for name, of_swarm in secrets.items()],
        "Ulimits": ulimits_of(release),
    }
    if settings.command:
        container["Args"] = list(settings.command)
    if settings.runtime_uid is not None:
        container["User"] = f"{settings.runtime_uid}:{settings.runtime_gid}"
    if (health := health_of(release)) is not None:
        container["Healthcheck"] = health
    task: dict[str, Any] = {
        "ContainerSpec": container,
        "Networks": [_network(release, network) for network in settings.networks],
        "Placement": {"Constraints": list(settings.deploy.constraints)},
        "Resources": _resources(release),
        "RestartPolicy": {"Condition": RESTART_CONDITIONS[settings.restart], "Delay": 10**9},
    }
    # For updates by hand, and for restarts: a task that starts first would wait for the UUID of the other.
    update = {"Parallelism": 1, "Order": "stop-first", "Monitor": round(seconds_of(settings.update.monitor) * 1e9)}
    return {
        "task_template": task,
        "labels": labels,
        "mode": {"Replicated": {"Replicas": 1}},
        "update_config": {**update, "FailureAction": "rollback" if settings.update.rollback else "pause"},
        "rollback_config": update,
        # There is one task, so its name needs no load balancer, which would cut connections that are quiet for long.
        "endpoint_spec": {"Mode": "dnsrr"},
    }


def without_templates(text: str) -> str:
    """Return a text in which Swarm replaces nothing but the facts of a task."""
    return _FACT.sub('{{"{{"}}', text)


def secret_name(service: str, name: str) -> str:
    """Return the name of a secret in the swarm; two generations of an asset have secrets of their own."""
    return secret_key(service, name, distinct="_" in service)


def grace_of(service: Mapping[str, Any]) -> float:
    """Return the seconds that the tasks of a service have to end."""
    return float(service["Spec"]["TaskTemplate"]["ContainerSpec"].get("StopGracePeriod", 10 * 10**9) / 1e9)


def instance_of(service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> Instance:
    """Return the instance of a service.

    Args:
        service: its description by the engine.
        tasks: its tasks; Swarm keeps some that have ended, and makes a new one for each restart.
    """
    labels = service["Spec"]["Labels"]
    container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    newest = _newest_of(tasks)
    ended = [task for task in tasks if _STATES.get(task["Status"]["State"]) is InstanceState.EXITED]
    last_end = _newest_of(ended)
    condition = service["Spec"]["TaskTemplate"].get("RestartPolicy", {}).get("Condition", "any")
    state = InstanceState.STARTING if newest is None else _state(newest, condition, has_ended=bool(ended))
    status = newest["Status"] if newest is not None else {}
    running = state is InstanceState.RUNNING
    return Instance(
        uuid=labels[UUID],
        app=labels[APP],
        hash=labels[HASH],
        generation=int(labels[GENERATION]),
        state=state,
        exit_status=None if running or last_end is None else _container_status(last_end).get("ExitCode", 0),
        restarts=max(len(tasks) - 1, 0),
        started=time_of(status.get("Timestamp", "")) if running else None,
        program=container["Image"],
        address=_address(container, newest),
        health=str(status.get("Err", "")),
        is_ready=running,  # a task runs when it is healthy
        pid=_container_status(newest).get("PID") or None if newest is not None and running else None,
    )


def _newest_of(tasks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the task that was made last."""
    return max(tasks, key=lambda task: str(task["CreatedAt"]), default=None)


def _state(task: Mapping[str, Any], condition: str, *, has_ended: bool) -> InstanceState:
    name = task["Status"]["State"]
    state = _STATES.get(name, InstanceState.STARTING)
    is_restarted = condition == "any" or (condition == "on-failure" and name != "complete")
    if name not in _BEGINS and has_ended and is_restarted:
        return InstanceState.RESTARTING
    return state


def _container_status(task: Mapping[str, Any]) -> Mapping[str, Any]:
    status: Mapping[str, Any] = task["Status"].get("ContainerStatus") or {}
    return status


def _address(container: Mapping[str, Any], task: Mapping[str, Any] | None) -> str | None:
    variables = dict(item.split("=", 1) for item in container.get("Env") or () if "=" in item)
    if task is None or "PORT" not in variables:
        return None
    for attachment in task.get("NetworksAttachments") or ():
        if attachment["Network"]["Spec"]["Name"] == "host":
            return f"http://127.0.0.1:{variables['PORT']}"
        for address in attachment.get("Addresses") or ():
            return f"http://{address.partition('/')[0]}:{variables['PORT']}"
    return None


def _network(release: Release, network: str) -> dict[str, Any]:
    return {"Target": network} if network == "host" else {"Target": network, "Aliases": [release.name]}


def _literal(mount: Mapping[str, Any]) -> dict[str, Any]:
    return {**mount, "Source": without_templates(mount["Source"])}


def _secret(name: str, id: str, name_in_swarm: str) -> dict[str, Any]:
    file = {"Name": name, "UID": "0", "GID": "0", "Mode": 0o444}
    return {"SecretID": id, "SecretName": name_in_swarm, "File": file}


def _resources(release: Release) -> dict[str, Any]:
    cpus = ("NanoCPUs", lambda number: round(number * 1e9))
    return resource_amounts(release, ("Limits", "Reservations"), cpus, ("MemoryBytes", int))
