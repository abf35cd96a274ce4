"""A Docker for the tests of this folder, with an image that has the distributions of this workspace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine_targets import swarm_with_apps
from needed import needed, running
from servers import DockerEngine
from servers.python_image import apps_layers

#: Name of the image with the distributions.
IMAGE = "openfactory-apps:tests"


@pytest.fixture(scope="session")
def empty_engine() -> Iterator[DockerEngine]:
    """A Docker without images."""
    with running(DockerEngine()) as engine:
        yield engine


@pytest.fixture(scope="session")
def engine(empty_engine: DockerEngine) -> DockerEngine:
    """The same with the image of apps."""
    with needed("The image of apps"):
        empty_engine.load_image(IMAGE, apps_layers(), Env=["PYTHONUNBUFFERED=1"])
    return empty_engine


@pytest.fixture(scope="session")
def image(engine: DockerEngine) -> str:
    """Name of the image with the distributions of this workspace."""
    return IMAGE


@pytest.fixture(scope="session")
def swarm() -> Iterator[DockerEngine]:
    """A Docker that is a swarm of one node, with the image of apps."""
    with swarm_with_apps(IMAGE) as engine:
        yield engine


@pytest.fixture(scope="session")
def swarm_image(swarm: DockerEngine) -> str:
    """Name of the image with the distributions of this workspace, in the swarm."""
    return IMAGE
