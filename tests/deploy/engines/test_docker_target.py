"""The docker target, on a real Docker."""

from __future__ import annotations

from typing import Any

import pytest

from engine_targets import EngineConformance
from openfactory.deploy.targets.docker import DockerTarget
from target_conformance import REPORTER


class TestDockerTarget(EngineConformance):
    """The promises of all targets."""

    kind = DockerTarget

    @pytest.fixture
    def program(self, image: str) -> dict[str, Any]:
        return {"image": image, "command": ["python", "-c", REPORTER]}
