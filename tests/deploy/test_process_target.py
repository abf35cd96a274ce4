"""The process target: the promises of a target, and those of a supervisor that is killed."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openfactory.deploy.targets.base import Project, Target, TargetError
from openfactory.deploy.targets.process import ProcessTarget
from target_conformance import REPORTER, Settings, TargetConformance, until

#: Files that stay in `.openfactory` when all apps are gone.
KEPT = {".gitignore", "supervisor.lock", "supervisor.log"}


def stop_all(target: Target) -> None:
    for instance in target.instances():
        target.stop(instance)


class TestProcessTarget(TargetConformance):
    """The conformance suite on processes."""

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        target = ProcessTarget(project)
        yield target
        stop_all(target)
        until(lambda: self.left_by(target) == [])

    @pytest.fixture
    def program(self) -> Settings:
        return {"command": (sys.executable, "-c", REPORTER)}

    @pytest.fixture
    def missing_program(self) -> Settings:
        return {"command": ("/nowhere/python", "-c", "1")}

    def target_of(self, project: Project) -> Target:
        return ProcessTarget(project)

    def left_by(self, target: Target) -> list[str]:
        folder = target.project.folder / ".openfactory"
        until(lambda: not (folder / "supervisor.sock").exists() or target.instances())  # it ends in a moment
        if target.instances() or not folder.exists():
            return []
        return sorted(str(path) for path in folder.rglob("*") if path.name not in KEPT)
