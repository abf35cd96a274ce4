"""Web apps on the target swarm behind a real Traefik, which finds their routes by the labels of their services.

Traefik reaches the tasks by their own addresses in the overlay network: services have the endpoint mode dnsrr.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from needed import needed
from ofa_apps import OFA_APPS, clean_environment
from servers import DockerEngine
from stand_in_images import image_of, load_traefik

pytestmark = pytest.mark.thorough  # the services of a swarm are slow

Eventually = Callable[..., None]

PROGRAM = """
import os
from flask import Flask, request
from openfactory.apps import OpenFactoryFlaskApp
from openfactory.kafka import KSQLDBClient

class Panel(OpenFactoryFlaskApp):
    def create_flask_app(self):
        app = Flask("panel")
        app.get("/<path:page>")(lambda page: f"{os.environ['VERSION']} {request.script_root} {page}")
        return app

Panel(ksqlClient=KSQLDBClient(os.environ["KSQLDB_URL"])).run()
"""

FILE = """
apps:
  panel:
    uuid: Panel_1
    image: {image}
    command: [python, -c, {program}]
    environment: [VERSION={version}]
    networks: [factory-net]
    routing: {{expose: true, port: 4000, hostname: hall}}
    stop_grace_period: 2s
    update: {{monitor: 300ms}}
    storage:
      data: {{type: local, local_path: "{folder}", mount_point: "{folder}"}}
    deploy: {{placement: {{constraints: [node.role == manager, "node.hostname == {node}"]}}}}
"""


@pytest.fixture
def gateway(swarm: DockerEngine) -> Iterator[DockerEngine]:
    """A swarm with an overlay network, and a Traefik in it."""
    with needed("The image of Traefik"):
        load_traefik(swarm)
    swarm.docker("network", "create", "--driver=overlay", "--attachable", "factory-net")
    mount = "type=bind,source=/run/docker.sock,target=/var/run/docker.sock"
    options = ("--detach", "--name=traefik", "--network=factory-net", "--publish=127.0.0.1:80:80", f"--mount={mount}")
    settings = (
        "--entrypoints.web.address=:80",
        "--serverstransport.maxidleconnsperhost=-1",
        "--serverstransport.forwardingtimeouts.dialtimeout=500ms",
        "--providers.providersthrottleduration=100ms",
        "--providers.swarm=true",
        "--providers.swarm.exposedbydefault=false",
        "--providers.swarm.network=factory-net",
        "--providers.swarm.refreshseconds=1",
    )
    swarm.docker("run", *options, image_of("traefik"), *settings)
    try:
        yield swarm
    finally:
        swarm.docker("rm", "--force", "traefik")
        swarm.docker("network", "rm", "factory-net")


def page(engine: DockerEngine, host: str, path: str) -> str:
    """Return the page that the gateway has at an address, or the error."""
    try:
        with closing(HTTPConnection("127.0.0.1", 80)) as connection:
            connection.sock = engine.connect("127.0.0.1", 80)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            body = answer.read().decode()
            return body if answer.status == 200 else f"{answer.status} {answer.headers['Location']} {body}"
    except (OSError, HTTPException) as error:
        return repr(error)


@contextmanager
def asking(engine: DockerEngine, host: str, path: str) -> Iterator[list[str]]:
    """Yield the answers of a browser that asks for a page without a pause."""
    answers: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(0.02):
            answers.append(page(engine, host, path))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def test_traefik_finds_the_pages_of_an_app_by_its_service(
    gateway: DockerEngine, swarm_image: str, tmp_path: Path, eventually: Eventually
) -> None:
    node = gateway.docker("node", "ls", "--format={{.Hostname}}").strip()
    environment = clean_environment(
        DOCKER_HOST=gateway.host,
        KSQLDB_URL=f"sqlite:///{tmp_path}/factory.db",
        OPENFACTORY_BASE_DOMAIN="factory.test",
        OPENFACTORY_ENV="dev",
    )

    def ofa(*words: str) -> Any:
        done = subprocess.run(
            [*OFA_APPS, *words, "--target=swarm", "--json"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def write(version: str) -> None:
        keys = {"image": swarm_image, "program": json.dumps(PROGRAM), "version": version, "node": node}
        (tmp_path / "app_panel.yml").write_text(FILE.format(folder=tmp_path, **keys))

    def answers(version: str) -> Callable[[], bool]:
        return lambda: (
            {page(gateway, host, "/board") for host in ("panel-1.factory.test", "hall.factory.test")}
            == {f"{version}  board"}
            and page(gateway, "localhost", "/panel-1/board") == f"{version} /panel-1 board"
        )

    try:
        write("v1")
        (result,) = ofa("up")["results"]
        assert (result["outcome"], result["address"]) == ("up", "http://localhost/panel-1/")
        (row,) = ofa("ls")
        assert row["address"] == result["address"]
        assert row["own_address"].endswith(":4000")
        eventually(answers("v1"))
        assert page(gateway, "localhost", "/panel-1").startswith("302 http://localhost/panel-1/")
        assert page(gateway, "panel-1.elsewhere.test", "/board").startswith("404")
        write("v2")
        with asking(gateway, "panel-1.factory.test", "/board") as seen:
            assert ofa("up")["results"][0]["outcome"] == "up"
            eventually(answers("v2"))
            time.sleep(2)  # Traefik may still have the address of the old task
        assert set(seen) == {"v1  board", "v2  board"}
    finally:
        ofa("down", "--now")
    eventually(lambda: page(gateway, "panel-1.factory.test", "/board").startswith("404"))
