"""Apps as containers of one Docker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, cast

from openfactory.deploy.app import Release
from openfactory.deploy.targets.base import Instance, TargetError
from openfactory.deploy.targets.docker.connection import have_image, refusals
from openfactory.deploy.targets.docker.containers import container_of, instance_of, problems_of, secrets_archive
from openfactory.deploy.targets.docker.engine import EngineTarget
from openfactory.deploy.targets.identity import GENERATION, RESTART, UUID
from openfactory.deploy.targets.logs import Frames, seconds_before

__all__ = ["DockerTarget"]

_LOOK = "Look at the log of the engine."


class DockerTarget(EngineTarget):
    """Containers of the Docker that DOCKER_HOST names, or of that of this machine.

    A container has the UUID of its asset in lower case as its name; while two generations run beside each other, the
    second one has a name that ends in `.g` and its number.
    """

    name: ClassVar[str] = "docker"

    def lacks(self, release: Release) -> dict[str, str]:
        return self.refuses(release) | _ignored(release)

    def refuses(self, release: Release) -> dict[str, str]:
        return problems_of(release, self.name)

    def instances(self) -> list[Instance]:
        found = [instance_of(container) for container in self._containers()]
        return sorted(found, key=lambda instance: (instance.uuid, instance.generation))

    def start(self, release: Release) -> Instance:
        for problem in self.refuses(release).values():
            raise TargetError(f"Asset {release.uuid} cannot be started: {problem}")
        settings = release.app.settings
        others = self._containers(release.uuid)
        if any(_generation(other) == release.generation for other in others):
            raise TargetError(
                f"Asset {release.uuid} has a container of generation {release.generation} already. Stop it first."
            )
        assert settings.image is not None
        have_image(self._api, settings.image, always=settings.image_pull_policy == "always")
        for network in settings.networks:
            self._network(release, network, "docker network create")
        new_volumes = self._absent_volumes(release)
        name = f"{release.name}.g{release.generation}" if others else release.name
        description = container_of(release, self.project.name, self._addresses, beside=bool(others))
        with refusals(f"Asset {release.uuid} cannot be started", _remedy(name, release)):
            container = None
            try:
                container = self._api.create_container_from_config(description, name)["Id"]
                if release.secrets:
                    self._api.put_archive(container, "/", secrets_archive(release.secrets))
                for network in settings.networks[1:]:
                    self._api.connect_container_to_network(container, network, aliases=[release.name])
                self._api.start(container)
                return instance_of(self._api.inspect_container(container))
            except BaseException:
                self._undo(container, new_volumes)
                raise

    def replace(self, running: Instance, release: Release, wait_until_up: Callable[[Instance], None]) -> Instance:
        # It ends when the release has taken its UUID. Started again, it would take it back.
        with refusals(f"Asset {running.uuid} cannot be replaced", _LOOK):
            container = self._container(running)
            if container is not None and RESTART in container["Config"]["Labels"]:
                self._set_restart_policy(container, "no")
        try:
            return super().replace(running, release, wait_until_up)
        except BaseException:
            with suppress(TargetError):  # the first error counts, and the next deployment settles it too
                self._settle(running.uuid)
            raise

    def stop(self, instance: Instance) -> None:
        with refusals(f"Asset {instance.uuid} cannot be stopped", _LOOK):
            if (container := self._container(instance)) is not None:
                self._stop(container)
        self._settle(instance.uuid)

    def restart(self, instance: Instance) -> None:
        container = self._container(instance)
        if container is None:
            raise TargetError(f"Asset {instance.uuid} has no container any more. Start it: ofa apps up.")
        with refusals(f"Asset {instance.uuid} cannot be restarted", _LOOK):
            self._api.restart(container["Id"], timeout=_grace_of(container))

    def _containers(self, uuid: str | None = None) -> list[dict[str, Any]]:
        """Return the descriptions of the containers of the project, or of one asset, by the engine."""
        from docker.errors import NotFound

        found = []
        with refusals("The containers of the project cannot be listed", _LOOK):
            for listed in self._api.containers(all=True, filters=self._filters(uuid)):
                with suppress(NotFound):  # removed meanwhile
                    container = self._api.inspect_container(listed["Id"])
                    if container["State"]["Status"] != "removing":
                        found.append(container)
        return found

    def _container(self, instance: Instance) -> dict[str, Any] | None:
        for container in self._containers(instance.uuid):
            if _generation(container) == instance.generation:
                return container
        return None

    def _absent_volumes(self, release: Release) -> list[str]:
        """Return the volumes that the engine makes with the container."""
        from docker.errors import NotFound

        absent = []
        for mount in release.mounts:
            if mount["Type"] == "volume":
                try:
                    with refusals("The volumes cannot be listed", _LOOK):
                        self._api.inspect_volume(mount["Source"])
                except TargetError as error:
                    if not isinstance(error.__cause__, NotFound):
                        raise
                    absent.append(mount["Source"])
        return absent

    def _undo(self, container: str | None, new_volumes: Sequence[str]) -> None:
        """Remove the container and the volumes of a failed start, whose own error counts."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        with suppress(DockerException, RequestException):
            if container is not None:
                self._api.remove_container(container, v=True, force=True)
        for volume in new_volumes:
            with suppress(DockerException, RequestException):
                self._api.remove_volume(volume)

    def _stop(self, container: Mapping[str, Any]) -> None:
        from docker.errors import APIError

        try:
            self._api.stop(container["Id"], timeout=_grace_of(container))
            self._api.remove_container(container["Id"], v=True, force=True)
        except APIError as error:
            if error.status_code not in (404, 409):  # removed meanwhile, or being removed
                raise

    def _settle(self, uuid: str) -> None:
        """Give a container that is left alone the name of its asset, and the restart policy that it was made with.

        A deployment that was killed while it replaced the container has not done so; the next one does.
        """
        from docker.errors import APIError

        with refusals(f"The containers of {uuid} cannot be changed", _LOOK):
            for container in self._containers(uuid):
                self._set_restart_policy(container, container["Config"]["Labels"].get(RESTART, ""))
                name = container["Config"]["Labels"][UUID].lower()
                if container["Name"] != f"/{name}":
                    with suppress(APIError):  # another one still has it
                        self._api.rename(container["Id"], name)

    def _set_restart_policy(self, container: Mapping[str, Any], policy: str) -> None:
        from docker.errors import APIError

        if policy not in ("", container["HostConfig"]["RestartPolicy"]["Name"]):
            with suppress(APIError):  # it is gone, or the engine changes no policy, such as Podman 4
                self._api.update_container(container["Id"], restart_policy={"Name": policy})

    def _sources(self) -> dict[str, str]:
        with refusals("The containers of the project cannot be listed", _LOOK):
            listed = self._api.containers(all=True, filters=self._filters())
        return {found["Id"]: found["Labels"][UUID] for found in listed if found["State"] != "removing"}

    def _run_of(self, name: str) -> object:
        """Return the last start of a container, or an empty text if it is gone."""
        from docker.errors import NotFound

        with refusals("The log cannot be read", _LOOK), suppress(NotFound):
            return self._api.inspect_container(name)["State"]["StartedAt"]
        return ""

    def _read(self, name: str, *, follow: bool, tail: int | None, since: str | None) -> Frames:
        options = {"tail": "all" if tail is None else tail, "since": seconds_before(since) if since else None}
        with refusals("The log cannot be read", _LOOK):
            return cast(Frames, self._api.logs(name, stream=True, follow=follow, timestamps=True, **options))


def _ignored(release: Release) -> dict[str, str]:
    """Return the keys that mean nothing for one Docker; the app runs without them."""
    deploy = release.app.settings.deploy
    ignored = {}
    if deploy.constraints:
        ignored["deploy.placement"] = "one Docker has one node. Select the target swarm for several."
    if deploy.reservations.cpus is not None:
        ignored["deploy.resources.reservations.cpus"] = "no CPU is reserved on one Docker. Select the target swarm."
    return ignored


def _generation(container: Mapping[str, Any]) -> int:
    return int(container["Config"]["Labels"][GENERATION])


def _grace_of(container: Mapping[str, Any]) -> int:
    # Podman takes 0 if none is given.
    grace = container["Config"].get("StopTimeout")
    return 10 if grace is None else int(grace)


def _remedy(name: str, release: Release) -> str:
    remedies = [
        "Correct the keys of the app, or its image.",
        f"If another container has the name, remove it: docker rm --force {name}.",
    ]
    if any(mount["Type"] == "bind" for mount in release.mounts):
        remedies.append("The folder of a storage must be on the machine of the engine before.")
    return " ".join(remedies)
