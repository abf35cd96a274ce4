"""The targets of the engines of Docker, for their tests: what a single machine and a swarm share."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest

from needed import needed
from openfactory.deploy.app import Release
from openfactory.deploy.targets.base import Instance, Project, Target
from releases_for_tests import releases
from servers import DockerEngine
from servers.python_image import apps_layers
from target_conformance import TargetConformance

__all__ = ["MILL", "WAITING", "EngineConformance", "swarm_with_apps", "target_of_engine", "waiting_release"]

AnyTarget = TypeVar("AnyTarget", bound=Target)

#: A command that runs until it is told to end.
WAITING = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")

#: The program of a real app.
MILL = """
import os, time
from openfactory.apps import OpenFactoryApp
from openfactory.kafka import KSQLDBClient

class Mill(OpenFactoryApp):
    def main_loop(self):
        while True:
            time.sleep(1)

Mill(ksqlClient=KSQLDBClient(os.environ["KSQLDB_URL"])).run()
"""


@contextmanager
def swarm_with_apps(image: str, **settings: Any) -> Iterator[DockerEngine]:
    """Yield a Docker that is a swarm of one node, with an image that has the distributions of this workspace."""
    with ExitStack() as stack:
        with needed("A swarm with the image of apps"):
            engine = stack.enter_context(DockerEngine())
            engine.init_swarm()
            engine.load_image(image, apps_layers(), Env=["PYTHONUNBUFFERED=1"], **settings)
        yield engine


@contextmanager
def target_of_engine(
    kind: type[AnyTarget], engine: DockerEngine, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AnyTarget]:
    """Yield a target on an engine. At the end of the block, its instances are stopped and it is closed."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with closing(kind(project)) as target:
        yield target
        for instance in target.instances():
            target.stop(instance)


def waiting_release(image: str, generation: int = 1, **keys: Any) -> Release:
    """Return a release of MILL-1 that only waits, unless the keys have another command."""
    (release,) = releases(**{"uuid": "MILL-1", "image": image, "command": WAITING, **keys})
    return msgspec.structs.replace(release, generation=generation)


class EngineConformance(TargetConformance):
    """The conformance suite on an engine: a subclass sets `kind`, and overrides the fixture `program`."""

    #: The target under test.
    kind: ClassVar[type[Target]]

    #: The commands that list what an instance may leave behind.
    listed: ClassVar[Sequence[tuple[str, str]]] = (("ps", "--all"), ("volume", "ls"))

    @pytest.fixture(autouse=True)
    def know_engine(self, engine: DockerEngine) -> None:
        self.docker_engine = engine

    @pytest.fixture
    def target(self, project: Project, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
        with target_of_engine(self.kind, engine, project, monkeypatch) as target:
            yield target

    @pytest.fixture
    def missing_program(self) -> dict[str, Any]:
        return {"image": "registry.invalid/none:1"}

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int]:
        return 10001, 10002

    def target_of(self, project: Project) -> Target:
        return self.kind(project)

    def kill_app(self, target: Target, instance: Instance) -> None:
        assert instance.pid is not None
        self.docker_engine.signal(instance.pid, signal.SIGKILL)

    def left_by(self, target: Target) -> list[str]:
        return [id for words in self.listed for id in self.docker_engine.docker(*words, "--quiet").split()]
