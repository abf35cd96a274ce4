"""The images of the Dockerfile: built whole, run as a user without rights, healthy by their own health page."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from engine_targets import MILL
from images_of_dockerfile import load_images
from needed import needed
from servers import DockerEngine, NotOnThisMachineError

pytestmark = pytest.mark.thorough  # a build takes most of a minute

Eventually = Callable[..., None]

# The check of the image, at shorter intervals.
QUICK = ("--health-interval=1s", "--health-timeout=2s", "--health-retries=2", "--health-start-period=60s")


@pytest.fixture(scope="module")
def images(empty_engine: DockerEngine) -> DockerEngine:
    """A Docker with the images of the Dockerfile."""
    with needed("An image of the Dockerfile"):
        load_images(empty_engine)
    return empty_engine


@contextmanager
def container(engine: DockerEngine, *words: str) -> Iterator[str]:
    """Run a container within the block, and yield its id."""
    name = engine.docker("run", "--detach", *words).strip()
    try:
        yield name
    finally:
        engine.docker("rm", "--force", "--volumes", name)


def health(engine: DockerEngine, name: str) -> str:
    return engine.docker("inspect", "--format={{.State.Health.Status}}", name).strip()


def pid_of(engine: DockerEngine, name: str) -> int:
    return int(engine.docker("inspect", "--format={{.State.Pid}}", name))


def run(engine: DockerEngine, image: str, *words: str) -> str:
    return engine.docker("run", "--rm", f"--entrypoint={words[0]}", image, *words[1:]).strip()


@pytest.mark.parametrize("image", ["openfactory-apps", "openfactory-fanout"])
def test_an_image_runs_as_a_user_without_rights(images: DockerEngine, image: str) -> None:
    assert run(images, image, "id", "-u") == "10001"
    assert run(images, image, "sh", "-c", "touch mine && pwd") == "/factory"
    for folder in ("/", "/opt", "/usr/local/bin", "/usr/local/lib"):
        with pytest.raises(NotOnThisMachineError, match="Permission denied"):
            run(images, image, "touch", f"{folder}/mine")


def test_the_images_have_the_distributions_that_they_promise(images: DockerEngine) -> None:
    apps = set(images.docker("run", "--rm", "openfactory-apps", "version").split())
    assert {"openfactory-apps", "openfactory-fastapi", "openfactory-flask", "openfactory-storage"} <= apps
    fanout = set(images.docker("run", "--rm", "openfactory-fanout", "version").split())
    assert {"openfactory-apps", "openfactory-fanout"} <= fanout
    assert "router" in images.docker("run", "--rm", "openfactory-fanout")


def test_an_app_is_healthy_by_its_own_page_and_unhealthy_when_it_is_frozen(
    images: DockerEngine, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "mill.py").write_text(MILL, encoding="utf-8")
    (tmp_path / "Dockerfile").write_text('FROM openfactory-apps\nCOPY mill.py .\nCMD ["run", "mill.py"]\n')
    images.docker("build", "--tag=mill", tmp_path)
    settings = ("--env=APP_UUID=MILL-1", "--env=KSQLDB_URL=sqlite:///factory.db")
    with container(images, *settings, *QUICK, "mill") as name:
        eventually(lambda: health(images, name) == "healthy")
        (row,) = json.loads(images.docker("exec", name, "ofa", "asset", "ls", "--json"))
        assert (row["asset_uuid"], row["availability"]) == ("MILL-1", "AVAILABLE")
        said = json.loads(images.docker("inspect", "--format={{json .State.Health.Log}}", name))[-1]
        assert json.loads(said["Output"]) == {"status": "alive"}
        images.signal(pid_of(images, name), signal.SIGSTOP)
        eventually(lambda: health(images, name) == "unhealthy")
        images.signal(pid_of(images, name), signal.SIGCONT)
        eventually(lambda: health(images, name) == "healthy")
        images.docker("stop", "--time=30", name)
        assert images.docker("inspect", "--format={{.State.ExitCode}}", name).strip() == "0"


def test_the_router_is_healthy_by_its_own_page_and_answers(images: DockerEngine, eventually: Eventually) -> None:
    words = ("--env=NATS_CLUSTER_C1=nats://one:4222", "openfactory-fanout", "fanout", "router")
    with container(images, *words) as name:  # with the times of the image
        eventually(lambda: health(images, name) == "healthy")
        host = images.docker("inspect", "--format={{.NetworkSettings.IPAddress}}", name).strip()
        connection = HTTPConnection(host, 8002)
        connection.sock = images.connect(host, 8002)
        connection.request("GET", "/asset/MILL-1")
        answer = json.load(connection.getresponse())
        connection.close()
        assert (answer["asset_id"], answer["nats_url"]) == ("MILL-1", "nats://one:4222")
