"""The page on deploying does as printed, with a real Traefik, a real Docker that is a swarm, and a cluster if asked."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from distributions import ROOT
from engine_targets import swarm_with_apps
from needed import needed
from openfactory.deploy.targets.base import Project, Target
from openfactory.deploy.targets.kubernetes import KubernetesTarget
from openfactory.deploy.targets.process import ProcessTarget
from servers import DockerEngine, free_port
from servers.docker_engine import docker_client
from servers.fetching import program
from servers.pinned import traefik
from servers.ports import HOST

Follow = Callable[..., None]

PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")

#: Sections that need an engine, and the one that needs a cluster.
WITH_ENGINE = ("Docker", "Swarm")
WITH_CLUSTER = "Kubernetes"

#: Ids of the user and the group of a reader, who is not root.
READER = (10001, 10002)

#: Creates a factory.
CREATE = """
import sys
from openfactory.kafka import KSQLDBClient
KSQLDBClient(sys.argv[1]).query("SELECT * FROM assets")
"""


def installs(block: Any) -> bool:
    return bool(block.section == "Install")


def needs_no_engine(block: Any) -> bool:
    return block.section not in ("Install", *WITH_ENGINE, WITH_CLUSTER)


@pytest.fixture
def with_traefik(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traefik is installed, as the page asks for."""
    with needed("Traefik"):
        programs = traefik().parent
    monkeypatch.setenv("PATH", os.pathsep.join((str(programs), os.environ["PATH"])))


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[None]:
    """End the apps of the page, if the page does not: they run without a terminal."""
    yield
    with closing(ProcessTarget(Project("hall", tmp_path / "folder"))) as target:
        stop_all(target)


def stop_all(target: Target) -> None:
    for instance in target.instances():
        target.stop(instance)


@pytest.mark.thorough
def test_the_installation_brings_the_command(follow: Follow, installing: dict[str, str]) -> None:
    follow(PAGE, installs, **installing)


@pytest.mark.usefixtures("ended", "with_traefik")
def test_every_other_block_runs_in_the_order_of_the_page(follow: Follow) -> None:
    with needed("curl"):
        program("curl", "curl")
    gateway, panel = free_port(), free_port()
    page = PAGE.replace("localhost:8080", f"localhost:{gateway}").replace("port: 4000", f"port: {panel}")
    follow(page, needs_no_engine, OPENFACTORY_GATEWAY=f"{HOST}:{gateway}", OPENFACTORY_HOST=HOST)


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    """A swarm of one node, which has the image that the Dockerfile makes."""
    with swarm_with_apps("openfactory-apps:latest", Entrypoint=["ofa"], WorkingDir="/factory") as engine:
        yield engine


@pytest.fixture
def with_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `docker` is that of the engine: another one on PATH may lack the builder."""
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "docker").symlink_to(docker_client())
    monkeypatch.setenv("PATH", os.pathsep.join((str(folder), os.environ["PATH"])))


@pytest.mark.usefixtures("with_docker")
def test_the_walks_with_an_engine_do_as_printed(follow: Follow, engine: DockerEngine, tmp_path: Path) -> None:
    # The reader of the page is not root: a user whose files root may write makes the factory.
    hall, (user, group) = tmp_path / "hall", READER
    hall.mkdir()
    os.chown(hall, user, group)
    options = (f"--user={user}:{group}", f"--volume={hall}:{hall}", "--entrypoint=python")
    engine.docker("run", "--rm", *options, "openfactory-apps", "-c", CREATE, f"sqlite:///{hall}/factory.db")
    page = PAGE.replace("/srv/hall", str(hall)).replace("$(id -u)", str(user)).replace("$(id -g)", str(group))
    follow(page, lambda block: block.section in WITH_ENGINE, **engine.client_environment)
    assert engine.docker("ps", "--all", "--quiet") + engine.docker("service", "ls", "--quiet") == ""


@pytest.mark.kubernetes
def test_the_walk_with_a_cluster_does_as_printed(
    follow: Follow, blocks: Callable[[str], list[Any]], tmp_path: Path
) -> None:
    """As in `test_kubernetes_cluster.py`, and the namespace of the context is empty."""
    assert "KUBECONFIG" in os.environ, "Name the cluster in KUBECONFIG."
    image, url = (os.environ.get(f"OPENFACTORY_TEST_{name}") for name in ("IMAGE", "FACTORY"))
    assert image is not None, "Name an image with the distributions in OPENFACTORY_TEST_IMAGE."
    assert url is not None, "Name a factory in OPENFACTORY_TEST_FACTORY, such as kafka://HOST:9092."
    assert shutil.which("kubectl") is not None, "Install kubectl, or add its folder to PATH."
    # The cluster may have no registry to push the image of the page to, so its program is an argument.
    [oven] = [block.text for block in blocks(PAGE) if block.name == "line/oven.py"]
    command = json.dumps(["python", "-c", oven])
    page = re.sub(r"\boven\b", f"oven-{token_hex(4)}", PAGE)  # the factory may know the generations of another run
    page = replaced(page, "image: registry.plant.example/line\n", f"image: {image}\n    command: {command}\n")
    page = replaced(page, "kafka://kafka.plant.example:9092", url)
    with closing(KubernetesTarget(Project("cluster", tmp_path))) as target:
        try:
            follow(page, lambda block: block.section == WITH_CLUSTER, KUBECONFIG=os.environ["KUBECONFIG"])
            assert target.instances() == []
        finally:
            stop_all(target)


def replaced(page: str, old: str, new: str) -> str:
    """Return the page with a text in place of another, which it has once."""
    assert page.count(old) == 1
    return page.replace(old, new)
