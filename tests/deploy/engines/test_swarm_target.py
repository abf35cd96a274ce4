"""The swarm target, on a real Docker that is a swarm of one node."""

from __future__ import annotations

from typing import Any

import pytest

from engine_targets import EngineConformance
from openfactory.deploy.targets.swarm import SwarmTarget
from servers import DockerEngine
from target_conformance import REPORTER

pytestmark = pytest.mark.thorough  # the docker target proves most of it, and the services of a swarm are slow


class TestSwarmTarget(EngineConformance):
    """The promises of all targets."""

    kind = SwarmTarget
    listed = (("service", "ls"), ("secret", "ls"), ("ps", "--all"), ("volume", "ls"))

    @pytest.fixture
    def engine(self, swarm: DockerEngine) -> DockerEngine:
        return swarm

    @pytest.fixture
    def program(self, engine: DockerEngine, swarm_image: str) -> dict[str, Any]:
        node = engine.docker("info", "--format={{.Name}}").strip()
        here = {"placement": {"constraints": [f"node.hostname={node}"]}}  # a folder of the machine is on no other node
        return {"image": swarm_image, "command": ["python", "-c", REPORTER], "deploy": here}
