"""Apps as services of a Docker Swarm."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from openfactory.deploy.app import Release
from openfactory.deploy.targets.base import Instance, TargetError
from openfactory.deploy.targets.docker.connection import pinned_image, refusals
from openfactory.deploy.targets.docker.engine import EngineTarget
from openfactory.deploy.targets.identity import GENERATION, UUID, identity_labels
from openfactory.deploy.targets.logs import Frames, seconds_before
from openfactory.deploy.targets.swarm.service_logs import service_frames
from openfactory.deploy.targets.swarm.services import (
    grace_of,
    instance_of,
    secret_name,
    service_of,
    swarm_problems_of,
)

__all__ = ["SwarmTarget"]

_LOOK = "Look at the log of the engine: it must be a manager of a swarm (docker swarm init)."
#: Seconds that Swarm itself may take, beside the app.
_PATIENCE = 60.0
#: Seconds in which a node has the image of a task.
_PULL_PATIENCE = 600.0
_PAUSE = 0.1
#: States of a task whose node fetches its image, and of one whose container has been made.
_PREPARED = ("preparing", "ready")
_BEGUN = ("starting", "running", "complete", "failed", "shutdown")


class SwarmTarget(EngineTarget):
    """Services of the swarm to which the Docker that DOCKER_HOST names belongs, as a manager.

    Each replica is a service of its own with one task, because it is an asset of its own. A service has the UUID of its
    asset in lower case as its name; the second of two generations has a name that ends in `-g` and its number. It keeps
    that name, because Swarm renames no service. On its networks, an asset has its UUID as name in any case.
    """

    name: ClassVar[str] = "swarm"

    def lacks(self, release: Release) -> dict[str, str]:
        return self.refuses(release)

    def refuses(self, release: Release) -> dict[str, str]:
        return swarm_problems_of(release, self.name)

    def instances(self) -> list[Instance]:
        services, tasks = self._services(), self._tasks()
        found = [instance_of(service, tasks[service["ID"]]) for service in services]
        return sorted(found, key=lambda instance: (instance.uuid, instance.generation))

    def start(self, release: Release) -> Instance:
        for problem in self.refuses(release).values():
            raise TargetError(f"Asset {release.uuid} cannot be started: {problem}")
        settings = release.app.settings
        others = self._services(release.uuid)
        if any(_generation(other) == release.generation for other in others):
            raise TargetError(
                f"Asset {release.uuid} has a service of generation {release.generation} already. Stop it first."
            )
        assert settings.image is not None
        image = pinned_image(self._api, settings.image, always=settings.image_pull_policy == "always")
        self._check_networks(release)
        taken = {other["Spec"]["Name"] for other in others}
        name = release.name if release.name not in taken else f"{release.name}-g{release.generation}"
        secrets: dict[str, tuple[str, str]] = {}
        service = None
        remedy = f"If another service has the name, remove it: docker service rm {name}."
        with refusals(f"Asset {release.uuid} cannot be started", remedy):
            try:
                self._make_secrets(release, name, secrets)
                description = service_of(
                    release, self.project.name, self._addresses, image=image, secrets=secrets, beside=bool(others)
                )
                service = self._api.create_service(name=name, **description)["ID"]
                self._until_begun(f"Asset {release.uuid} cannot be started", service, name)
                return instance_of(self._api.inspect_service(service), self._tasks_of(service))
            except BaseException:
                self._undo(service, secrets)
                raise

    def stop(self, instance: Instance) -> None:
        if (service := self._service(instance)) is not None:
            with refusals(f"Asset {instance.uuid} cannot be stopped", _LOOK):
                self._remove(service)

    def restart(self, instance: Instance) -> None:
        service = self._service(instance)
        if service is None:
            raise TargetError(f"Asset {instance.uuid} has no service any more. Start it: ofa apps up.")
        task = service["Spec"]["TaskTemplate"]
        before = [task["ID"] for task in self._tasks_of(service["ID"])]
        with refusals(f"Asset {instance.uuid} cannot be restarted", _LOOK):
            self._api.update_service(
                service["ID"],
                service["Version"]["Index"],
                name=service["Spec"]["Name"],
                task_template={**task, "ForceUpdate": task.get("ForceUpdate", 0) + 1},
                fetch_current_spec=True,
            )
            problem = f"Asset {instance.uuid} was not restarted"
            self._until_begun(problem, service["ID"], service["Spec"]["Name"], before, grace_of(service))

    def _services(self, uuid: str | None = None) -> list[dict[str, Any]]:
        """Return the descriptions of the services of the project, or of one asset, by the engine."""
        with refusals("The services of the project cannot be listed", _LOOK):
            return list(self._api.services(filters=self._filters(uuid)))

    def _tasks(self) -> dict[str, list[dict[str, Any]]]:
        """Return the tasks of the swarm by the ids of their services; no filter finds those of a removed service."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        with refusals("The tasks of the swarm cannot be listed", _LOOK):
            for task in self._api.tasks():
                found[task["ServiceID"]].append(task)
        return found

    def _tasks_of(self, service: str) -> list[dict[str, Any]]:
        """Return the tasks of a service that exists."""
        with refusals("The tasks of the service cannot be listed", _LOOK):
            return list(self._api.tasks(filters={"service": service}))

    def _service(self, instance: Instance) -> dict[str, Any] | None:
        for service in self._services(instance.uuid):
            if _generation(service) == instance.generation:
                return service
        return None

    def _check_networks(self, release: Release) -> None:
        for network in release.app.settings.networks:
            found = self._network(release, network, "docker network create --driver overlay --attachable")
            if network != "host" and found["Scope"] != "swarm":
                raise TargetError(
                    f"Asset {release.uuid} cannot be started: the network {network!r} is on one machine alone. "
                    "Make it anew with `--driver overlay`, or use another."
                )

    def _make_secrets(self, release: Release, service: str, made: dict[str, tuple[str, str]]) -> None:
        labels = identity_labels(self.project.name, release)
        for name, value in release.secrets.items():
            name_in_swarm = secret_name(service, name)
            made[name] = self._api.create_secret(name_in_swarm, value.encode(), labels)["ID"], name_in_swarm

    def _until_begun(
        self, problem: str, service: str, name: str, earlier: Collection[str] = (), grace: float = 0.0
    ) -> None:
        """Wait until Swarm has begun to run a new task, or says why it can't: an image, a mount, a constraint.

        Args:
            problem: first words of the error.
            service: id of the service.
            name: name of the service.
            earlier: ids of the tasks before.
            grace: seconds that those have to end.

        Raises:
            TargetError: no node can run it, or none has begun in time.
        """
        began = time.monotonic()
        while True:
            statuses = [task["Status"] for task in self._tasks_of(service) if task["ID"] not in earlier]
            for status in statuses:
                if status["State"] in _BEGUN:
                    return
                # The reservations of the tasks before count until they have ended.
                is_refused = status["State"] == "pending" and status.get("Err") and time.monotonic() - began > grace
                if status["State"] == "rejected" or is_refused:
                    raise _refusal(problem, str(status.get("Err", "")))
            states = [str(status["State"]) for status in statuses]
            patience = _PULL_PATIENCE if any(state in _PREPARED for state in states) else _PATIENCE
            if time.monotonic() - began > patience + grace:
                state = f"its task is {states[-1]}" if states else "it has no new task"
                raise TargetError(
                    f"{problem}: Swarm has not begun it within {patience + grace:g} s, {state}. "
                    f"Its tasks tell why: docker service ps --no-trunc {name}."
                )
            time.sleep(_PAUSE)

    def _undo(self, service: str | None, secrets: Mapping[str, tuple[str, str]]) -> None:
        """Remove the service and the secrets of a failed start, whose own error counts."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        with suppress(DockerException, RequestException, TargetError):
            if service is not None:
                self._remove(self._api.inspect_service(service))
        for secret, _ in secrets.values():
            with suppress(DockerException, RequestException):
                self._api.remove_secret(secret)

    def _remove(self, service: dict[str, Any]) -> None:
        """Remove a service, and return when its tasks are gone, and its containers from this machine."""
        from docker.errors import NotFound

        used = service["Spec"]["TaskTemplate"]["ContainerSpec"].get("Secrets") or ()
        with suppress(NotFound):  # removed meanwhile
            self._api.remove_service(service["ID"])
        deadline = time.monotonic() + grace_of(service) + _PATIENCE
        containers = {"label": f"com.docker.swarm.service.id={service['ID']}"}  # they go a moment after their tasks
        while self._tasks()[service["ID"]] or self._api.containers(all=True, quiet=True, filters=containers):
            if time.monotonic() > deadline:
                raise TargetError(f"The tasks of the service {service['Spec']['Name']} do not end. {_LOOK}")
            time.sleep(_PAUSE)
        for secret in used:
            with suppress(NotFound):
                self._api.remove_secret(secret["SecretID"])

    def _sources(self) -> dict[str, str]:
        return {service["ID"]: service["Spec"]["Labels"][UUID] for service in self._services()}

    def _read(self, name: str, *, follow: bool, tail: int | None, since: str | None) -> Frames:
        with refusals("The log cannot be read", _LOOK):
            return service_frames(
                self._api, name, follow=follow, tail=tail, since=seconds_before(since) if since else None
            )


def _generation(service: Mapping[str, Any]) -> int:
    return int(service["Spec"]["Labels"][GENERATION])


def _refusal(problem: str, said: str) -> TargetError:
    remedy = "Correct what the text names."
    if "No such image" in said:
        remedy = "Correct the key image, or push the image to a registry that all nodes reach."
    elif "no suitable node" in said:
        remedy = "Correct deploy.placement and deploy.resources, or add a node."
    return TargetError(f"{problem}: {said.strip().rstrip('.')}. {remedy}")
