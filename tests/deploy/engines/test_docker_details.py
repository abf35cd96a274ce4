"""The docker target where it is more than other targets: names, networks, images, limits, late failures, real apps."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine_targets import MILL, WAITING, target_of_engine, waiting_release
from ofa_apps import ofa_apps
from openfactory.assets import Factory
from openfactory.deploy.targets.base import Instance, InstanceState, Project, TargetError
from openfactory.deploy.targets.docker import DockerTarget
from servers import DockerEngine, free_port

Eventually = Callable[..., None]

REGISTRY = """
from http.server import BaseHTTPRequestHandler, HTTPServer
import sys

class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/v2/"
        body = b"{}" if known else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}'
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

HTTPServer(("127.0.0.1", int(sys.argv[1])), Registry).serve_forever()
"""


@pytest.fixture
def target(engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerTarget]:
    with target_of_engine(DockerTarget, engine, Project("hall-2", tmp_path), monkeypatch) as target:
        yield target
    assert engine.docker("ps", "--all", "--quiet") == ""
    assert engine.docker("volume", "ls", "--quiet") == ""


@pytest.fixture
def networks(engine: DockerEngine) -> Iterator[tuple[str, str]]:
    """Two networks of the engine."""
    names = ("factory-net", "plant-net")
    for name in names:
        engine.docker("network", "create", name)
    yield names
    engine.docker("network", "rm", *names)


def inspected(engine: DockerEngine, name: str) -> dict[str, Any]:
    (found,) = json.loads(engine.docker("inspect", name))
    return dict(found)


def names(engine: DockerEngine) -> list[str]:
    return sorted(engine.docker("ps", "--all", "--format={{.Names}}").split())


def answers(engine: DockerEngine, port: int) -> bool:
    try:
        engine.connect("127.0.0.1", port).close()
    except OSError:
        return False
    return True


@contextmanager
def registry(engine: DockerEngine, eventually: Eventually) -> Iterator[str]:
    """Yield the address of a registry without images, in the network of an engine."""
    port = free_port()
    with subprocess.Popen(engine.inside("python3", "-c", REGISTRY, str(port))) as process:
        try:
            eventually(lambda: answers(engine, port))
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


# --- Names


def test_a_container_has_the_name_of_its_asset(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    old = target.start(waiting_release(image))
    assert names(engine) == ["mill-1"]
    target.replace(old, waiting_release(image, 2), lambda new: assert_names(engine, ["mill-1", "mill-1.g2"]))
    assert names(engine) == ["mill-1"]
    (running,) = target.instances()
    assert running.generation == 2


def assert_names(engine: DockerEngine, expected: list[str]) -> None:
    assert names(engine) == expected


def test_a_container_of_another_keeps_its_name(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    engine.docker("run", "--detach", "--name=mill-1", image, *WAITING)
    try:
        with pytest.raises(TargetError, match=r"docker rm --force mill-1\."):
            target.start(waiting_release(image, secrets={"password": "correct horse"}))
        assert names(engine) == ["mill-1"]
        assert inspected(engine, "mill-1")["State"]["Running"]
        assert target.instances() == []
    finally:
        engine.docker("rm", "--force", "mill-1")


# --- Networks


def test_an_app_is_in_its_networks_by_the_name_of_its_asset(
    networks: tuple[str, str], target: DockerTarget, engine: DockerEngine, image: str, eventually: Eventually
) -> None:
    server = ("python", "-m", "http.server", "4000")
    keys: dict[str, Any] = {
        "networks": networks,
        "routing": {"port": 4000},
        "command": server,
        "stop_grace_period": "1s",
    }
    old = target.start(waiting_release(image, **keys))
    assert set(inspected(engine, "mill-1")["NetworkSettings"]["Networks"]) == set(networks)

    def answers(network: str) -> bool:
        ask = "import urllib.request as r; print(r.urlopen('http://mill-1:4000/', timeout=5).status)"
        words = ("run", "--rm", f"--network={network}", image, "python", "-c", f"try: {ask}\nexcept OSError: pass")
        return engine.docker(*words).strip() == "200"

    for network in networks:
        eventually(lambda network=network: answers(network))

    def is_up(new: Instance) -> None:
        assert new.address is not None
        assert new.address != old.address
        target.stop(old)
        eventually(lambda: answers(networks[1]))

    target.replace(old, waiting_release(image, 2, **keys), is_up)


def test_a_network_that_is_absent_is_named(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    with pytest.raises(TargetError, match=r"'nowhere'.*docker network create nowhere\."):
        target.start(waiting_release(image, networks=("nowhere",)))
    assert names(engine) == []


def test_an_app_can_be_in_the_network_of_the_host(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    started = target.start(waiting_release(image, networks=("host",), routing={"port": 4000}))
    assert started.address == "http://127.0.0.1:4000"
    assert list(inspected(engine, "mill-1")["NetworkSettings"]["Networks"]) == ["host"]


# --- Images


def test_an_absent_tag_and_a_registry_that_is_away_are_two_errors(
    target: DockerTarget, engine: DockerEngine, eventually: Eventually
) -> None:
    with registry(engine, eventually) as address, pytest.raises(TargetError) as absent:
        target.start(waiting_release(f"{address}/mill:2"))
    with pytest.raises(TargetError) as away:
        target.start(waiting_release(f"{address}/mill:2"))
    assert "does not have it" in str(absent.value)
    assert str(absent.value).endswith("docker login.")
    assert "cannot be reached" in str(away.value)
    assert "does not have it" not in str(away.value)


def test_an_image_is_pulled_always_if_the_file_says_so(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    local = f"127.0.0.1:{free_port()}/mill:1"
    engine.docker("tag", image, local)
    started = target.start(waiting_release(local))
    target.stop(started)
    with pytest.raises(TargetError, match="cannot be reached"):
        target.start(waiting_release(local, image_pull_policy="always"))
    engine.docker("rmi", local)


# --- Late failures


def test_a_storage_that_cannot_be_mounted_leaves_nothing(
    target: DockerTarget, engine: DockerEngine, image: str
) -> None:
    store = {"type": "nfs", "server": "127.0.0.1", "remote_path": "/e/d", "mount_point": "/mnt/d"}
    for _ in range(2):
        with pytest.raises(TargetError, match="MILL-1"):
            target.start(waiting_release(image, storage={"data": store}))
        assert names(engine) == []
        assert engine.docker("volume", "ls", "--quiet") == ""


def test_a_program_that_the_image_lacks_leaves_nothing(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    with pytest.raises(TargetError, match="no-such-program"):
        target.start(waiting_release(image, command=("no-such-program",)))
    assert names(engine) == []


# --- What the engine is told


def test_limits_and_time_out_are_those_of_the_file(target: DockerTarget, engine: DockerEngine, image: str) -> None:
    limits = {"limits": {"cpus": 0.5, "memory": "64Mi", "open_files": 321}}
    shown = ("sh", "-c", "ulimit -n; trap 'exit 0' TERM; while :; do sleep 0.1; done")
    target.start(waiting_release(image, deploy={"resources": limits}, command=shown, stop_grace_period="42s"))
    found = inspected(engine, "mill-1")
    assert (found["HostConfig"]["NanoCpus"], found["HostConfig"]["Memory"]) == (500_000_000, 64 * 2**20)
    assert found["Config"]["StopTimeout"] == 42
    assert next(target.logs(follow=True)).text == "321"


def test_a_secret_is_not_in_the_description_of_a_container(
    target: DockerTarget, engine: DockerEngine, image: str
) -> None:
    target.start(waiting_release(image, secrets={"db_password": "correct horse"}))
    assert "correct horse" not in json.dumps(inspected(engine, "mill-1"))
    assert engine.docker("exec", "mill-1", "cat", "/run/secrets/db_password") == "correct horse"
    target.restart(target.instances()[0])
    assert engine.docker("exec", "mill-1", "cat", "/run/secrets/db_password") == "correct horse"


def test_the_health_of_an_app_is_that_of_its_page(target: DockerTarget, image: str, eventually: Eventually) -> None:
    server = ("python", "-m", "http.server", "4000")
    quick = {"interval": "1s", "timeout": "2s", "retries": 1}
    keys: dict[str, Any] = {"routing": {"port": 4000}, "command": server, "stop_grace_period": "1s"}
    started = target.start(waiting_release(image, health={"path": "/", **quick}, **keys))
    assert started.health == "starting"
    eventually(lambda: target.instances()[0].health == "healthy")
    target.stop(target.instances()[0])
    target.start(waiting_release(image, health={"path": "/no-such-page", "start_period": "1s", **quick}, **keys))
    eventually(lambda: target.instances()[0].health == "unhealthy")


def test_a_container_that_is_replaced_is_not_started_again_by_the_engine(
    target: DockerTarget, engine: DockerEngine, image: str
) -> None:
    def policy(name: str) -> str:
        return engine.docker("inspect", "--format={{.HostConfig.RestartPolicy.Name}}", name).strip()

    def fails(started: Instance) -> None:
        assert policy("mill-1") == "no"
        assert policy("mill-1.g2") == "on-failure"
        raise TargetError("it does not come up. Correct it.")

    keys: dict[str, Any] = {"restart": "on-failure", "stop_grace_period": "1s"}
    old = target.start(waiting_release(image, **keys))
    with pytest.raises(TargetError, match="it does not come up"):
        target.replace(old, waiting_release(image, 2, **keys), fails)
    assert policy("mill-1") == "on-failure"
    with pytest.raises(TargetError, match=r"registry\.invalid"):
        target.replace(old, waiting_release("registry.invalid/none:1", 2, **keys), fails)
    assert policy("mill-1") == "on-failure"
    engine.docker("update", "--restart=no", "mill-1")  # as by a deployment that was killed
    beside = target.start(waiting_release(image, 2, **keys))
    target.stop(beside)
    assert policy("mill-1") == "on-failure"


# --- Real apps


def test_a_killed_app_is_available_again_within_seconds(
    target: DockerTarget, engine: DockerEngine, image: str, tmp_path: Path, eventually: Eventually
) -> None:
    store = {"data": {"type": "local", "local_path": str(tmp_path), "mount_point": "/data"}}
    release = waiting_release(image, storage=store, command=("python", "-c", MILL), stop_grace_period="2s")
    release = msgspec.structs.replace(
        release, environment={**release.environment, "KSQLDB_URL": "sqlite:////data/factory.db"}
    )
    target.start(release)
    with Factory(f"sqlite:///{tmp_path}/factory.db") as factory:

        def epoch() -> int | None:
            """The number of the claim by which the app is available."""
            if factory.availability(["MILL-1"]).get("MILL-1") != "AVAILABLE":
                return None
            sighting = factory.owners(["MILL-1"]).get("MILL-1")
            return None if sighting is None else sighting.owner.epoch

        eventually(epoch)
        before = epoch()
        (running,) = target.instances()
        assert running.pid is not None
        killed = time.monotonic()
        engine.signal(running.pid, signal.SIGKILL)
        eventually(lambda: epoch() not in (None, before))
        assert time.monotonic() - killed < 30  # 5 s on an idle machine
    assert target.instances()[0].restarts == 1


def test_apps_come_back_with_a_killed_daemon(
    target: DockerTarget, engine: DockerEngine, image: str, eventually: Eventually
) -> None:
    target.start(waiting_release(image))
    engine.kill_daemon()
    eventually(lambda: [instance.state for instance in target.instances()] == [InstanceState.RUNNING])
    assert target.instances()[0].uuid == "MILL-1"


def test_the_reason_of_an_app_that_ends_at_once_is_told_and_kept(
    engine: DockerEngine, image: str, tmp_path: Path
) -> None:
    program = "raise RuntimeError('the oven is cold')"
    app = {"uuid": "oven", "image": image, "command": ["python", "-c", program], "stop_grace_period": "1s"}
    (tmp_path / "app_oven.yml").write_text(json.dumps({"apps": {"oven": app}}))
    variables = {"DOCKER_HOST": engine.host, "KSQLDB_URL": f"sqlite:///{tmp_path}/factory.db"}
    done = ofa_apps("up", "--target=docker", "--json", tmp_path, **variables)
    assert done.returncode == 1
    (result,) = json.loads(done.stdout)["results"]
    assert result["outcome"] == "failed"
    assert result["exit_status"] in (1, None)  # Docker has none of a container that it has started again already
    assert "RuntimeError: the oven is cold" in result["log"]
    assert names(engine) == []
    told = ofa_apps("logs", "--target=docker", tmp_path, **variables)
    assert "oven | RuntimeError: the oven is cold" in told.stdout
    assert "oven: generation 1 did not come up" in told.stderr


# --- The engine itself


def test_an_engine_that_does_not_answer_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    with pytest.raises(TargetError, match=r"No Docker answers .*DOCKER_HOST"):
        DockerTarget(Project("hall-2", tmp_path)).instances()
