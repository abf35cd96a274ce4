"""The swarm target where it is more than others: services, secrets, constraints, networks, a replaced service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine_targets import MILL, target_of_engine, waiting_release
from openfactory.assets import Asset
from openfactory.deploy.targets.base import Instance, Project, TargetError
from openfactory.deploy.targets.swarm import SwarmTarget
from openfactory.kafka import KSQLDBClient
from servers import DockerEngine, free_port

pytestmark = pytest.mark.thorough  # the docker target proves most of it, and the services of a swarm are slow

Eventually = Callable[..., None]


@pytest.fixture
def target(swarm: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SwarmTarget]:
    with target_of_engine(SwarmTarget, swarm, Project("hall-2", tmp_path), monkeypatch) as target:
        yield target
    assert swarm.docker("service", "ls", "--quiet") == ""
    assert swarm.docker("secret", "ls", "--quiet") == ""


def services(swarm: DockerEngine) -> list[str]:
    return sorted(swarm.docker("service", "ls", "--format={{.Name}}").split())


def inspected(swarm: DockerEngine, name: str) -> dict[str, Any]:
    (found,) = json.loads(swarm.docker("service", "inspect", name))
    return dict(found)


def test_generations_have_names_of_their_own_while_both_run(
    target: SwarmTarget, swarm: DockerEngine, swarm_image: str
) -> None:
    def names_are(*expected: str) -> Callable[[Instance], None]:
        def check(new: Instance) -> None:
            assert services(swarm) == list(expected)

        return check

    first = target.start(waiting_release(swarm_image))
    assert services(swarm) == ["mill-1"]
    second = target.replace(first, waiting_release(swarm_image, 2), names_are("mill-1", "mill-1-g2"))
    assert services(swarm) == ["mill-1-g2"]
    target.replace(second, waiting_release(swarm_image, 3), names_are("mill-1", "mill-1-g2"))
    assert services(swarm) == ["mill-1"]


def test_a_service_is_described_as_its_file_says(target: SwarmTarget, swarm: DockerEngine, swarm_image: str) -> None:
    deploy = {
        "resources": {"limits": {"cpus": 0.5, "memory": "64Mi", "open_files": 321}},
        "placement": {"constraints": ("node.role=manager", "node.labels.hall!=9")},
    }
    shown = ("sh", "-c", "ulimit -n; trap 'exit 0' TERM; while :; do sleep 0.1; done")
    target.start(waiting_release(swarm_image, deploy=deploy, command=shown, stop_grace_period="42s"))
    task = inspected(swarm, "mill-1")["Spec"]["TaskTemplate"]
    assert task["Placement"]["Constraints"] == ["node.role == manager", "node.labels.hall != 9"]
    assert task["Resources"]["Limits"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 64 * 2**20}
    assert task["ContainerSpec"]["StopGracePeriod"] == 42_000_000_000
    assert next(target.logs(follow=True)).text == "321"


def test_a_constraint_that_no_node_meets_is_an_error_and_leaves_nothing(
    target: SwarmTarget, swarm: DockerEngine, swarm_image: str
) -> None:
    nowhere = {"placement": {"constraints": ("node.labels.hall==2",)}}
    with pytest.raises(TargetError, match=r"no suitable node.*deploy\.placement"):
        target.start(waiting_release(swarm_image, deploy=nowhere, secrets={"password": "correct horse"}))
    assert services(swarm) == []
    assert swarm.docker("secret", "ls", "--quiet") == ""


def test_a_secret_is_one_of_the_swarm(target: SwarmTarget, swarm: DockerEngine, swarm_image: str) -> None:
    first = target.start(waiting_release(swarm_image, secrets={"db_password": "correct horse"}))
    assert swarm.docker("secret", "ls", "--format={{.Name}}").split() == ["mill-1_db_password"]
    assert "correct horse" not in json.dumps(inspected(swarm, "mill-1"))
    target.replace(first, waiting_release(swarm_image, 2, secrets={"db_password": "battery"}), lambda new: None)
    assert swarm.docker("secret", "ls", "--format={{.Name}}").split() == ["mill-1-g2_db_password"]


def test_a_network_of_one_machine_is_refused(target: SwarmTarget, swarm: DockerEngine, swarm_image: str) -> None:
    swarm.docker("network", "create", "plant-net")
    try:
        with pytest.raises(TargetError, match=r"'plant-net' is on one machine alone.*--driver overlay"):
            target.start(waiting_release(swarm_image, networks=("plant-net",)))
        with pytest.raises(TargetError, match=r"'nowhere' does not exist.*--driver overlay"):
            target.start(waiting_release(swarm_image, networks=("nowhere",)))
    finally:
        swarm.docker("network", "rm", "plant-net")


def test_an_app_is_found_on_its_network_by_the_name_of_its_asset(
    target: SwarmTarget, swarm: DockerEngine, swarm_image: str, eventually: Eventually
) -> None:
    swarm.docker("network", "create", "--driver=overlay", "--attachable", "factory-net")
    server = ("python", "-m", "http.server", "4000")
    keys: dict[str, Any] = {"networks": ("factory-net",), "routing": {"port": 4000}, "command": server}
    keys["stop_grace_period"] = "1s"

    def answers() -> bool:
        ask = "import urllib.request as r; print(r.urlopen('http://mill-1:4000/', timeout=5).status)"
        words = ("run", "--rm", "--network=factory-net", swarm_image)
        return swarm.docker(*words, "python", "-c", f"try: {ask}\nexcept OSError: pass").strip() == "200"

    first = target.start(waiting_release(swarm_image, **keys))
    eventually(answers)
    second = target.replace(first, waiting_release(swarm_image, 2, **keys), lambda new: None)
    eventually(answers)
    target.stop(second)
    eventually(lambda: not swarm.docker("ps", "--all", "--quiet"))
    swarm.docker("network", "rm", "factory-net")


def test_an_app_can_be_in_the_network_of_the_host(target: SwarmTarget, swarm: DockerEngine, swarm_image: str) -> None:
    target.start(waiting_release(swarm_image, networks=("host",), routing={"port": 4000}))
    assert target.instances()[0].address == "http://127.0.0.1:4000"


def test_an_image_of_a_registry_that_is_away_is_an_error(target: SwarmTarget, swarm: DockerEngine) -> None:
    away = f"127.0.0.1:{free_port()}/mill:1"
    with pytest.raises(TargetError, match="cannot be reached"):
        target.start(waiting_release(away, image_pull_policy="always"))
    with pytest.raises(TargetError, match=r"No such image.*registry that all nodes reach"):
        target.start(waiting_release(away))
    assert services(swarm) == []


def test_an_engine_outside_of_a_swarm_is_an_error_with_a_remedy(
    empty_engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", empty_engine.host)
    with (
        closing(SwarmTarget(Project("hall-2", tmp_path))) as target,
        pytest.raises(TargetError, match="docker swarm init"),
    ):
        target.instances()


def test_an_old_version_that_is_started_again_leaves_the_uuid_to_the_newer_one(
    target: SwarmTarget, swarm: DockerEngine, swarm_image: str, tmp_path: Path, eventually: Eventually
) -> None:
    """A deployer was killed after the new version had taken over, and before it had stopped the old one."""
    url = f"sqlite:///{tmp_path}/factory.db"
    node = swarm.docker("info", "--format={{.Name}}").strip()
    keys: dict[str, Any] = {
        "command": ("python", "-c", MILL),
        "environment": (f"KSQLDB_URL={url}",),
        "storage": {"hall": {"type": "local", "local_path": str(tmp_path), "mount_point": str(tmp_path)}},
        "deploy": {"placement": {"constraints": (f"node.hostname == {node}",)}},
    }
    client = KSQLDBClient(url)
    with Asset("MILL-1", client) as mill:

        def generation() -> int | None:
            return mill.owner.generation if mill.owner is not None and mill.avail.value == "AVAILABLE" else None

        target.start(waiting_release(swarm_image, 1, **keys))
        eventually(lambda: generation() == 1)
        target.start(waiting_release(swarm_image, 2, **keys))  # it may take over too
        eventually(lambda: generation() == 2)
        [_, second] = target.instances()
        target.start(waiting_release(swarm_image, 3, **keys))
        eventually(lambda: generation() == 3)
        eventually(lambda: target.instances()[1].restarts > second.restarts + 1)
        assert (generation(), target.instances()[2].restarts) == (3, 0)
    client.close()
