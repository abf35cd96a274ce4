"""The parts that targets on the API of Docker share: the client, logs, and the URLs of web pages."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.base import LogLine, Project, Target, TargetError
from openfactory.deploy.targets.docker.connection import check_client, connect, refusals
from openfactory.deploy.targets.identity import PROJECT, UUID
from openfactory.deploy.targets.logs import Frames, followed_logs, merged_logs

if TYPE_CHECKING:
    from docker import APIClient

__all__ = ["EngineTarget"]


class EngineTarget(Target):
    """A target on the engine that DOCKER_HOST names, or on that of this machine."""

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        check_client()
        self._addresses = Addresses.from_settings()
        self._client: APIClient | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def _api(self) -> APIClient:
        with self._lock:
            if self._client is None:
                self._client = connect()
            return self._client

    def logs(self, uuids: Collection[str] = (), *, follow: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        def sources() -> dict[str, str]:
            return {name: uuid for name, uuid in self._sources().items() if uuid in uuids or not uuids}

        if follow:
            return followed_logs(sources, self._run_of, self._read, tail, self._ended)
        return merged_logs(sources(), self._read, tail)

    def apply_routes(self, releases: Sequence[Release]) -> dict[str, str]:
        return self.urls(releases)  # Traefik finds them by their labels

    def urls(self, releases: Sequence[Release]) -> dict[str, str]:
        return self._addresses.urls(releases)

    def close(self) -> None:
        self._ended.set()
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _network(self, release: Release, network: str, create: str) -> dict[str, Any]:
        """Return the description of a network that a release needs.

        Args:
            release: the release.
            network: name of the network.
            create: command that creates it, without the name.

        Raises:
            TargetError: it does not exist.
        """
        from docker.errors import NotFound

        with refusals(f"Asset {release.uuid} cannot be started", "Look at the log of the engine."):
            try:
                return dict(self._api.inspect_network(network))
            except NotFound as error:
                raise TargetError(
                    f"Asset {release.uuid} cannot be started: the network {network!r} does not exist. "
                    f"Create it: {create} {network}."
                ) from error

    def _filters(self, uuid: str | None = None) -> dict[str, list[str]]:
        """Return the filters that find the parts of the project, or of one asset, on the engine."""
        return {"label": [f"{PROJECT}={self.project.name}", *([f"{UUID}={uuid}"] if uuid is not None else [])]}

    @abstractmethod
    def _sources(self) -> dict[str, str]:
        """Return the UUIDs of the assets by the ids of their containers or services, which have logs."""

    def _run_of(self, name: str) -> object:  # noqa: ARG002 - for containers
        """Return a value that changes when output goes on after an end; None if it goes on at any time."""
        return None

    @abstractmethod
    def _read(self, name: str, *, follow: bool, tail: int | None, since: str | None) -> Frames:
        """Return the output of a container or service from a time on."""
