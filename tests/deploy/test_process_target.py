"""The process target: the promises of a target, and those of a supervisor that is killed."""

from __future__ import annotations

import os
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


def python_of_all() -> str:
    """A Python that each user may run; that of these tests may be in a home folder."""
    candidates = (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3")
    return next(path for path in candidates if os.geteuid() != 0 or is_of_all(Path(path)))


def is_of_all(path: Path) -> bool:
    return path.exists() and all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


class TestProcessTarget(TargetConformance):
    """The conformance suite on processes."""

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        target = ProcessTarget(project)
        yield target
        stop_all(target)
        until(lambda: self.left_by(target) == [])
        target.close()

    @pytest.fixture
    def project(self, public_folder: Path) -> Project:
        return Project("hall-2", public_folder)

    @pytest.fixture
    def public_folder(self) -> Iterator[Path]:
        """A folder that other users can enter, unlike those of pytest."""
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            yield Path(folder)

    @pytest.fixture
    def program(self) -> Settings:
        return {"command": (python_of_all(), "-c", REPORTER)}

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int] | None:
        return (1200, 1300) if os.geteuid() == 0 else None

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
