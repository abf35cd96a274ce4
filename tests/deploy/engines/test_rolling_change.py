"""A web app on the docker target behind a real Traefik: no request fails while it is replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from distributions import ROOT
from needed import needed
from openfactory.deploy.app import Release
from openfactory.deploy.targets.base import Instance, InstanceState, Project, TargetError
from openfactory.deploy.targets.docker import DockerTarget
from releases_for_tests import releases
from servers import DockerEngine
from stand_in_images import image_of, load_traefik

Eventually = Callable[..., None]

APP = """
import os
from flask import Flask
from openfactory.apps import OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient

class Panel(OpenFactoryFlaskApp):
    def create_flask_app(self):
        app = Flask("panel")
        app.get("/")(lambda: os.environ["VERSION"])
        return app

Panel(ksqlClient=KSQLDBClient("sqlite:////data/factory.db")).run()
"""


@pytest.fixture
def gateway(engine: DockerEngine) -> Iterator[DockerEngine]:
    """A Traefik with the settings of compose.yml, on port 80 of the engine."""
    with needed("The image of Traefik"):
        load_traefik(engine)
    compose = yaml.safe_load((ROOT / "compose.yml").read_text(encoding="utf-8"))
    engine.docker("network", "create", "factory-net")
    mount = "type=bind,source=/run/docker.sock,target=/var/run/docker.sock"
    options = ("--detach", "--name=traefik", "--network=factory-net", "--publish=127.0.0.1:80:80", f"--mount={mount}")
    engine.docker("run", *options, image_of("traefik"), *compose["services"]["traefik"]["command"])
    yield engine
    engine.docker("rm", "--force", "traefik")
    engine.docker("network", "rm", "factory-net")


class Clients:
    """Browsers that ask for a page without a pause, each request on a connection of its own."""

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.answers: list[str] = []
        self._ended = threading.Event()

    def ask(self) -> str:
        """Return the page, or the error of the request."""
        try:
            with closing(HTTPConnection("127.0.0.1", 80)) as connection:
                connection.sock = self._engine.connect("127.0.0.1", 80)
                connection.request("GET", "/", headers={"Host": "panel.factory.test"})
                answer = connection.getresponse()
                body = answer.read().decode()
                return body if answer.status == 200 else f"{answer.status} {body}"
        except (OSError, HTTPException) as error:
            return repr(error)

    def run(self) -> None:
        while not self._ended.is_set():
            self.answers.append(self.ask())
            time.sleep(0.005)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("health", [{}, {"health": {"interval": "5s"}}], ids=["without health", "with health"])
def test_no_request_fails_while_an_app_is_replaced(
    gateway: DockerEngine,
    image: str,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    health: dict[str, Any],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", gateway.host)
    monkeypatch.setenv("OPENFACTORY_BASE_DOMAIN", "factory.test")

    def release(generation: int, version: str, program: str = APP) -> Release:
        keys: dict[str, Any] = {
            "uuid": "panel",
            "image": image,
            "command": ("python", "-c", program),
            "environment": (f"VERSION={version}",),
            "storage": {"data": {"type": "local", "local_path": str(tmp_path), "mount_point": "/data"}},
            "routing": {"expose": True, "port": 4000},
            "networks": ("factory-net",),
            **health,
        }
        (found,) = releases(**keys)
        return msgspec.structs.replace(found, generation=generation)

    clients = Clients(gateway)
    with closing(DockerTarget(Project("hall-2", tmp_path))) as target:

        def until_it_answers(new: Instance) -> None:
            eventually(lambda: found(new).is_ready and clients.ask() == f"v{new.generation}")

        def until_exited(new: Instance) -> None:
            eventually(lambda: state(new) is not InstanceState.RUNNING)
            raise TargetError("it exits. Correct it.")

        def found(new: Instance) -> Instance:
            return next(seen for seen in target.instances() if seen.generation == new.generation)

        def state(new: Instance) -> InstanceState:
            return found(new).state

        try:
            old = target.start(release(1, "v1"))
            until_it_answers(old)
            with clients.running():
                with pytest.raises(TargetError, match="it exits"):
                    target.replace(old, release(2, "v2", "raise SystemExit(3)"), until_exited)
                broken = len(clients.answers)
                target.replace(old, release(3, "v3"), until_it_answers)
                replaced = len(clients.answers)
                eventually(lambda: len(clients.answers) > replaced + 50)
        finally:
            for instance in target.instances():
                target.stop(instance)
    assert set(clients.answers[:broken]) == {"v1"}
    assert set(clients.answers) == {"v1", "v3"}, {answer for answer in clients.answers if answer[0] != "v"}
    assert clients.answers[-1] == "v3"
