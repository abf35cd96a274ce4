"""A Docker for the tests of this folder, with an image that has the distributions of this workspace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import DockerEngine, NotOnThisMachineError
from servers.python_image import apps_layers

#: Name of the image with the distributions.
IMAGE = "openfactory-apps:tests"


@pytest.fixture(scope="session")
def empty_engine() -> Iterator[DockerEngine]:
    """A Docker without images."""
    try:
        with DockerEngine() as engine:
            yield engine
    except NotOnThisMachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def engine(empty_engine: DockerEngine) -> DockerEngine:
    """The same with the image of apps."""
    try:
        empty_engine.load_image(IMAGE, apps_layers(), Env=["PYTHONUNBUFFERED=1"])
    except NotOnThisMachineError as error:
        pytest.skip(str(error))
    return empty_engine


@pytest.fixture(scope="session")
def image(engine: DockerEngine) -> str:
    """Name of the image with the distributions of this workspace."""
    return IMAGE


@pytest.fixture(scope="session")
def swarm() -> Iterator[DockerEngine]:
    """A Docker that is a swarm of one node, with the image of apps."""
    try:
        with DockerEngine() as engine:
            engine.init_swarm()
            engine.load_image(IMAGE, apps_layers(), Env=["PYTHONUNBUFFERED=1"])
            yield engine
    except NotOnThisMachineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def swarm_image(swarm: DockerEngine) -> str:
    """Name of the image with the distributions of this workspace, in the swarm."""
    return IMAGE
