"""The docker target on the API that Podman has for Docker's clients: a smoke test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from needed import needed
from openfactory.deploy.app import Release
from openfactory.deploy.targets.base import InstanceState, Project
from openfactory.deploy.targets.docker import DockerTarget
from releases_for_tests import releases
from servers.podman_engine import PodmanEngine
from servers.python_image import apps_layers

Eventually = Callable[..., None]

pytestmark = pytest.mark.thorough  # Podman is one more package, and its image takes half a minute

IMAGE = "localhost/openfactory-apps:tests"

# Says its version, and notes the signal that ends it.
PROGRAM = """
import os, signal, sys, time
def end(*_):
    open("/data/ended", "w").write("by a signal")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("version", os.environ["VERSION"], flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def podman() -> Iterator[PodmanEngine]:
    with ExitStack() as stack:
        with needed("Podman with the image of apps"):
            engine = stack.enter_context(PodmanEngine())
            engine.load_image(IMAGE, apps_layers(), Env=["PYTHONUNBUFFERED=1"])
        yield engine


def test_an_app_is_started_replaced_and_stopped_within_its_grace_period(
    podman: PodmanEngine, tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", podman.host)

    def release(generation: int) -> Release:
        (found,) = releases(
            uuid="mill-1",
            image=IMAGE,
            command=("python", "-c", PROGRAM),
            environment=(f"VERSION={generation}",),
            storage={"data": {"type": "local", "local_path": str(tmp_path), "mount_point": "/data"}},
            secrets={"key": "of the app"},
        )
        return msgspec.structs.replace(found, generation=generation)

    with closing(DockerTarget(Project("hall-2", tmp_path))) as target:
        old = target.start(release(1))
        eventually(lambda: [line.text for line in target.logs()] == ["version 1"])
        new = target.replace(old, release(2), lambda _: time.sleep(0.1))
        assert (tmp_path / "ended").read_text() == "by a signal"  # and not killed at once, as Podman does by default
        [running] = target.instances()
        assert (running.generation, running.state) == (2, InstanceState.RUNNING)
        eventually(lambda: "version 2" in [line.text for line in target.logs()])
        target.stop(new)
        assert target.instances() == []
