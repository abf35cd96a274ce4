"""`docker compose up --wait` of compose.yml in a whole Docker, with our images as the Dockerfile makes them.

The servers are stand-ins, see `stand_in_images`. ksqlDB is left out, because no program of it can be had: the state is
read from the log and from the keeper's topic.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from distributions import ROOT
from images_of_dockerfile import load_images
from needed import needed
from servers import DockerEngine
from servers.pinned import docker_compose
from stand_in_images import load_kafka, load_nats, load_traefik

pytestmark = pytest.mark.thorough  # the images take most of a minute, the factory half of one

Compose = Callable[..., str]

WITHOUT_KSQLDB = """
services:
  ksqldb:
    profiles: [absent]
  setup:
    environment:
      KSQLDB_URL: kafka://kafka:29092
    depends_on: !override
      kafka:
        condition: service_healthy
"""

SERVICES = {"kafka", "nats", "router", "forwarder", "keeper", "traefik"}

# Prints the subject of a message by which NATS has an event that was written to Kafka.
LISTEN = """
import asyncio, nats, os
from openfactory.assets import Asset, AssetAttribute
from openfactory.kafka import KSQLDBClient

def write():
    with Asset("LATHE-1", ksqlClient=KSQLDBClient(os.environ["KSQLDB_URL"])) as asset:
        asset.add_attribute(AssetAttribute(id="speed", value=5.0, type="Samples", tag="Speed"))

async def main():
    heard = asyncio.Queue()
    client = await nats.connect("nats://nats:4222")
    await client.subscribe(">", cb=heard.put)
    await client.flush()
    await asyncio.to_thread(write)
    while True:
        message = await asyncio.wait_for(heard.get(), 60)
        if "LATHE-1" in message.subject:
            print(message.subject)
            return

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def factory(empty_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """A factory by `docker compose up --wait`; call it with the words of further commands."""
    override = tmp_path_factory.mktemp("compose") / "without-ksqldb.yml"
    override.write_text(WITHOUT_KSQLDB, encoding="utf-8")
    with needed("An image of compose.yml, or Docker Compose,"):
        load_images(empty_engine)
        for load in (load_kafka, load_nats, load_traefik):
            load(empty_engine)
        program = docker_compose()

    def compose(*words: str) -> str:
        return run(empty_engine, program, "--file", str(override), *words)

    try:
        compose("up", "--wait", "--wait-timeout=300", "--no-build", "--pull=never")
        yield compose
    finally:
        compose("down", "--volumes", "--timeout=10")


def run(engine: DockerEngine, program: Path, *words: str) -> str:
    done = subprocess.run(
        [program, "--file", ROOT / "compose.yml", *words],
        env={**os.environ, **engine.client_environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def get(engine: DockerEngine, port: int, path: str) -> tuple[int, bytes]:
    """Return the answer of a port that compose.yml opens to its machine."""
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        connection.sock = engine.connect("127.0.0.1", port)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def states(compose: Compose) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in compose("ps", "--all", "--format=json").splitlines():
        container = json.loads(line)
        found.setdefault(container["Service"], []).append(container)
    return found


def test_every_service_is_healthy_and_the_setup_is_done(factory: Compose) -> None:
    found = states(factory)
    assert {name for name, containers in found.items() if containers[0]["Health"] == "healthy"} == SERVICES
    (setup,) = found["setup"]
    assert (setup["State"], setup["ExitCode"]) == ("exited", 0)


def test_a_second_up_changes_nothing(factory: Compose) -> None:
    before = {container["ID"] for containers in states(factory).values() for container in containers}
    factory("up", "--wait", "--no-build", "--pull=never")
    assert {container["ID"] for containers in states(factory).values() for container in containers} == before


def test_the_router_names_the_server_of_an_asset(factory: Compose, empty_engine: DockerEngine) -> None:
    status, body = get(empty_engine, 8002, "/asset/MILL-1")
    assert (status, json.loads(body)["nats_url"]) == (200, "nats://nats:4222")
    assert get(empty_engine, 80, "/")[0] == 404  # Traefik, without apps


def test_an_event_goes_from_kafka_to_nats(factory: Compose, empty_engine: DockerEngine) -> None:
    settings = ("--env=KAFKA_BROKER=kafka:29092", "--env=KSQLDB_URL=kafka://kafka:29092", "--env=NO_COLOR=1")
    client = ("run", "--rm", "--network=factory-net", *settings)
    said = empty_engine.docker(*client, "--entrypoint=python", "openfactory-fanout", "-c", LISTEN)
    assert "LATHE-1" in said
    assert "✓ broker" in empty_engine.docker(*client, "openfactory-fanout", "doctor")


def test_more_forwarders_share_the_work(factory: Compose) -> None:
    factory("up", "--wait", "--scale=forwarder=2", "--no-build", "--pull=never")
    assert [container["Health"] for container in states(factory)["forwarder"]] == ["healthy", "healthy"]
