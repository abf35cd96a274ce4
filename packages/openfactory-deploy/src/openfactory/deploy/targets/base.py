"""The interface of the targets: where apps run, and how they are started, replaced and stopped there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.environment import container_secret_path
from openfactory.exceptions import OpenFactoryError

__all__ = ["Instance", "InstanceState", "LogLine", "Project", "Target", "TargetError"]


class TargetError(OpenFactoryError):
    """A target refused or failed to do something; the text ends with the remedy."""


class InstanceState(StrEnum):
    """The state of a replica."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"  # it has ended, and is started again after a pause
    EXITED = "exited"


class Project(msgspec.Struct, frozen=True):
    """The apps that are deployed together.

    Attributes:
        name: name of the project, by which a target tells its instances from those of others.
        folder: folder of the files; its own files are in `.openfactory` there.
    """

    name: str
    folder: Path

    @property
    def own_folder(self) -> Path:
        """The folder of the project's own files, as an absolute path."""
        return self.folder.absolute() / ".openfactory"


class Instance(msgspec.Struct, frozen=True):
    """One replica as it runs on a target.

    Attributes:
        uuid: UUID of its asset.
        app: UUID of its app, the same for all replicas.
        hash: hash of the release from which it was made.
        generation: number of that release.
        state: what it does.
        exit_status: status with which it ended last, or None.
        restarts: number of restarts by the target since it was made.
        started: time of its last start in seconds since 1970, or None.
        program: image, file or command.
        address: URL of its web pages as the gateway reaches them, or None.
        health: what the target says of its health, or an empty text.
        is_ready: whether a gateway sends requests to it; with `health`, not before its first check.
        pid: its process id on this machine, or None.
    """

    uuid: str
    app: str
    hash: str
    generation: int
    state: InstanceState
    exit_status: int | None = None
    restarts: int = 0
    started: float | None = None
    program: str = ""
    address: str | None = None
    health: str = ""
    is_ready: bool = True
    pid: int | None = None


class LogLine(msgspec.Struct, frozen=True):
    """One line that an app wrote to its standard output or error."""

    uuid: str
    text: str


class Target(ABC):
    """A place where apps run.

    Methods raise `TargetError`, and leave nothing half-made behind then. Instances of other projects are never touched.
    Several threads may call them at once, for different assets.

    Args:
        project: the apps that are deployed together.
    """

    #: Name of the target, as in `--target`.
    name: ClassVar[str]

    #: Whether the generations of an asset write into one log; else the log of each is removed with its instance.
    shares_logs: ClassVar[bool] = False

    def __init__(self, project: Project) -> None:
        self.project = project

    def lacks(self, release: Release) -> dict[str, str]:  # noqa: ARG002 - for targets that lack something
        """Return the keys of a release that the target cannot honour, each with the problem and its remedy."""
        return {}

    def refuses(self, release: Release) -> dict[str, str]:  # noqa: ARG002 - for targets that refuse something
        """Return those keys that `lacks` returns, and for which `start` raises an error."""
        return {}

    @property
    def default_url(self) -> str | None:
        """KSQLDB_URL of the apps if neither it nor KAFKA_BROKER is set, or None if one of them is needed."""
        return None

    def secret_path(self, uuid: str, name: str) -> str:
        """Return the path at which an asset reads a secret."""
        return container_secret_path(uuid, name)

    @abstractmethod
    def instances(self) -> list[Instance]:
        """Return the instances of the project, in the order of UUID and generation."""

    @abstractmethod
    def start(self, release: Release) -> Instance:
        """Start a replica; an instance of another generation of the same UUID goes on meanwhile.

        Beside an instance of another generation, the app finds APP_TAKE_OVER=1 in its environment: it takes the UUID
        over when it is up. The hash of the release does not change by that.

        Raises:
            TargetError: the release cannot run here, or an instance of its UUID and generation exists.
        """

    def replace(self, running: Instance, release: Release, wait_until_up: Callable[[Instance], None]) -> Instance:
        """Put a release in the place of a running instance, which goes on until the release is up.

        Args:
            running: the instance to replace.
            release: the new release, of a higher generation.
            wait_until_up: returns when the new instance does its work, or raises an error.

        Raises:
            OpenFactoryError: the error of `wait_until_up`; the old instance runs still, and the new one is gone.
        """
        started = self.start(release)
        try:
            wait_until_up(started)
        except BaseException:
            self.stop(started)
            raise
        self.stop(running)
        return started

    @abstractmethod
    def stop(self, instance: Instance) -> None:
        """Stop an instance within its grace period, and remove it with all that was made for it alone.

        An instance that is gone already is no error.
        """

    @abstractmethod
    def restart(self, instance: Instance) -> None:
        """Stop an instance and start the same release again."""

    @abstractmethod
    def logs(self, uuids: Collection[str] = (), *, follow: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        """Return lines of the logs of the given assets, or of all.

        Args:
            uuids: UUIDs of assets; empty for all of the project.
            follow: go on with new lines until the iterator is closed.
            tail: number of last lines of each asset to begin with; None for all.
        """

    def apply_routes(self, releases: Sequence[Release]) -> dict[str, str]:  # noqa: ARG002 - for targets with routes
        """Route the gateway to the instances that run, and return the URL of each asset with web pages."""
        return {}

    def urls(self, releases: Sequence[Release]) -> dict[str, str]:  # noqa: ARG002 - for targets with routes
        """Return the URL at which a gateway has each asset with web pages, as far as it has the route already."""
        return {}

    def close(self) -> None:  # noqa: B027 - a target without connections need not override it
        """Release connections and end logs that are followed; the instances go on."""
