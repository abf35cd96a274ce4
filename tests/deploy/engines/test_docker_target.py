"""The docker target, on a real Docker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from openfactory.deploy.targets.base import Instance, Project, Target
from openfactory.deploy.targets.docker import DockerTarget
from servers import DockerEngine
from target_conformance import REPORTER, TargetConformance


class TestDockerTarget(TargetConformance):
    """The promises of all targets."""

    @pytest.fixture(autouse=True)
    def docker_host(self, engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        self.engine = engine

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        with closing(DockerTarget(project)) as target:
            yield target
            for instance in target.instances():
                target.stop(instance)

    @pytest.fixture
    def program(self, image: str) -> dict[str, Any]:
        return {"image": image, "command": ["python", "-c", REPORTER]}

    @pytest.fixture
    def missing_program(self) -> dict[str, Any]:
        return {"image": "registry.invalid/none:1"}

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int]:
        return 10001, 10002

    def target_of(self, project: Project) -> Target:
        return DockerTarget(project)

    def kill_app(self, target: Target, instance: Instance) -> None:
        assert instance.pid is not None
        self.engine.signal(instance.pid, signal.SIGKILL)

    def left_by(self, target: Target) -> list[str]:
        containers = self.engine.docker("ps", "--all", "--quiet").split()
        return [*containers, *self.engine.docker("volume", "ls", "--quiet").split()]
