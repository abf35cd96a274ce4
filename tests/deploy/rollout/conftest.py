"""A project with a factory in a file, and a target of plain processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openfactory.assets import Factory
from openfactory.deploy.app import Release
from openfactory.deploy.targets.base import Project
from plain_target import APP, PlainTarget, release_of


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with the file of an app."""
    (tmp_path / "press.py").write_text(APP)
    return Project("hall", tmp_path)


@pytest.fixture
def plain(project: Project) -> Iterator[PlainTarget]:
    """A target whose processes end with the test."""
    target = PlainTarget(project)
    yield target
    target.close()


@pytest.fixture
def factory(file_url: str) -> Iterator[Factory]:
    """The factory, as its users see it."""
    with Factory(file_url) as factory:
        yield factory


@pytest.fixture
def release(project: Project, file_url: str) -> Callable[..., Release]:
    """Makes releases: of a UUID, of a way to behave, and of further settings."""

    def made(uuid: str, way: str = "", **settings: object) -> Release:
        return release_of(project.folder, file_url, uuid, way, **settings)

    return made
