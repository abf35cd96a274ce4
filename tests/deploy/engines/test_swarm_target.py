"""The swarm target, on a real Docker that is a swarm of one node."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from openfactory.deploy.targets.base import Instance, Project, Target
from openfactory.deploy.targets.swarm import SwarmTarget
from servers import DockerEngine
from target_conformance import REPORTER, TargetConformance

pytestmark = pytest.mark.thorough  # the docker target proves most of it, and the services of a swarm are slow


class TestSwarmTarget(TargetConformance):
    """The promises of all targets."""

    @pytest.fixture(autouse=True)
    def docker_host(self, swarm: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", swarm.host)
        self.swarm = swarm

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        with closing(SwarmTarget(project)) as target:
            yield target
            for instance in target.instances():
                target.stop(instance)

    @pytest.fixture
    def program(self, swarm_image: str) -> dict[str, Any]:
        node = self.swarm.docker("info", "--format={{.Name}}").strip()
        here = {"placement": {"constraints": [f"node.hostname={node}"]}}  # a folder of the machine is on no other node
        return {"image": swarm_image, "command": ["python", "-c", REPORTER], "deploy": here}

    @pytest.fixture
    def missing_program(self) -> dict[str, Any]:
        return {"image": "registry.invalid/none:1"}

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int]:
        return 10001, 10002

    def target_of(self, project: Project) -> Target:
        return SwarmTarget(project)

    def kill_app(self, target: Target, instance: Instance) -> None:
        assert instance.pid is not None
        self.swarm.signal(instance.pid, signal.SIGKILL)

    def left_by(self, target: Target) -> list[str]:
        listed = (("service", "ls"), ("secret", "ls"), ("ps", "--all"), ("volume", "ls"))
        return [id for words in listed for id in self.swarm.docker(*words, "--quiet").split()]
