"""The descriptions of containers and services, without an engine."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.base import InstanceState
from openfactory.deploy.targets.docker import containers
from openfactory.deploy.targets.swarm import services
from releases_for_tests import WHOLE_APP, releases

ADDRESSES = Addresses("factory.test")


def release_of(**keys: Any) -> Release:
    (release,) = releases(**{"uuid": "MILL-1", "image": "mill:1", **keys})
    return release


def container_of(release: Release, *, beside: bool = False) -> dict[str, Any]:
    return containers.container_of(release, "hall-2", ADDRESSES, beside=beside)


def service_of(release: Release, *, beside: bool = False) -> dict[str, Any]:
    secrets = {name: (f"id-of-{name}", f"swarm_{name}") for name in release.secrets}
    return services.service_of(release, "hall-2", ADDRESSES, image="mill:1", secrets=secrets, beside=beside)


def test_a_container_has_all_that_its_file_says() -> None:
    release = release_of(**WHOLE_APP)
    found = container_of(release)
    assert found["Image"] == "registry.test:5000/panel:1.2"
    assert found["Cmd"] == ["run", "panel.py", "--cost=$5"]
    assert found["User"] == "1200:1300"
    assert found["StopTimeout"] == 90
    assert found["Healthcheck"]["Interval"] == 5_000_000_000
    assert "http://127.0.0.1:4000/health/ready" in found["Healthcheck"]["Test"][-1]
    host = found["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 512 * 2**20, 512 * 2**20)
    assert host["MemoryReservation"] == 256 * 2**20
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 4096, "Hard": 4096}]
    assert host["RestartPolicy"] == {"Name": "on-failure"}
    assert [mount["Type"] for mount in host["Mounts"]] == ["volume", "volume"]
    assert host["NetworkMode"] == "factory-net"
    assert found["NetworkingConfig"]["EndpointsConfig"]["factory-net"]["Aliases"] == ["mill_panel"]
    assert "UMLAUT=ü: #1" in found["Env"]
    assert "correct horse" not in str(found)


def test_labels_are_those_of_gateway_file_and_target() -> None:
    release = release_of(**WHOLE_APP)
    for labels in (container_of(release)["Labels"], service_of(release)["labels"]):
        assert labels["owner"] == "hall 2: {{x}} $y"
        assert labels["openfactory.uuid"] == "Mill_Panel"
        assert labels["openfactory.hash"] == release.hash
        assert "Host(`mill-panel.factory.test`)" in labels["traefik.http.routers.ofa-mill-panel.rule"]


def test_a_smallest_app_has_no_limits_and_the_health_check_of_its_image() -> None:
    found = container_of(release_of())
    assert not {"Cmd", "User", "Healthcheck", "NetworkingConfig"} & found.keys()
    assert not {"Memory", "NanoCpus"} & found["HostConfig"].keys()
    assert found["HostConfig"]["NetworkMode"] == "default"
    assert found["StopTimeout"] == 10


@pytest.mark.parametrize("restart", ["no", "on-failure", "always", "unless-stopped"])
def test_the_restart_policy_is_that_of_the_file(restart: str) -> None:
    assert container_of(release_of(restart=restart))["HostConfig"]["RestartPolicy"] == {"Name": restart}


def test_an_app_without_a_restart_policy_comes_back_with_the_engine() -> None:
    assert container_of(release_of())["HostConfig"]["RestartPolicy"] == {"Name": "always"}


def test_only_an_instance_beside_another_takes_over() -> None:
    assert "APP_TAKE_OVER=1" not in container_of(release_of())["Env"]
    assert "APP_TAKE_OVER=1" in container_of(release_of(), beside=True)["Env"]
    assert "APP_TAKE_OVER=1" in service_of(release_of(), beside=True)["task_template"]["ContainerSpec"]["Env"]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"image": None, "file": "mill.py"}, "file"),
        ({"image": None, "command": ("mill",)}, "command"),
        ({"networks": ("host", "plant")}, "networks"),
    ],
)
def test_what_no_container_can_be_is_refused(keys: dict[str, Any], problem: str) -> None:
    for target in ("docker", "swarm"):
        problems = containers.problems_of(release_of(**keys), target)
        assert list(problems) == [problem]
        assert problems[problem].endswith(".")


def test_grace_periods_are_whole_seconds() -> None:
    assert container_of(release_of(stop_grace_period="1500ms"))["StopTimeout"] == 2


def test_secrets_are_files_that_every_user_of_the_container_reads() -> None:
    with tarfile.open(fileobj=io.BytesIO(containers.secrets_archive({"db_password": "ü"}))) as archive:
        assert archive.getnames() == ["run/secrets", "run/secrets/db_password"]
        file = archive.getmember("run/secrets/db_password")
        content = archive.extractfile(file)
        assert content is not None
        assert (file.mode, content.read().decode()) == (0o444, "ü")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-01T00:00:01.123456789Z", 1.123456), ("1970-01-01T00:00:02Z", 2.0), ("0001-01-01T00:00:00Z", None)],
)
def test_times_of_an_engine(text: str, seconds: float | None) -> None:
    assert containers.time_of(text) == seconds


def test_a_service_has_all_that_its_file_says() -> None:
    found = service_of(release_of(**WHOLE_APP))
    task = found["task_template"]
    assert task["Placement"]["Constraints"] == ["node.labels.hall == 2", "node.hostname != old"]
    assert task["Resources"]["Limits"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 512 * 2**20}
    assert task["Resources"]["Reservations"] == {"NanoCPUs": 250_000_000, "MemoryBytes": 256 * 2**20}
    assert task["RestartPolicy"]["Condition"] == "on-failure"
    assert task["Networks"] == [{"Target": name, "Aliases": ["mill_panel"]} for name in ("factory-net", "plant")]
    container = task["ContainerSpec"]
    assert container["StopGracePeriod"] == 90_000_000_000
    assert container["Args"] == ["run", "panel.py", "--cost=$5"]
    assert container["Ulimits"] == [{"Name": "nofile", "Soft": 4096, "Hard": 4096}]
    (secret,) = container["Secrets"]
    assert (secret["SecretID"], secret["SecretName"]) == ("id-of-db_password", "swarm_db_password")
    assert secret["File"]["Name"] == "db_password"
    assert found["update_config"]["FailureAction"] == "rollback"
    assert found["update_config"]["Monitor"] == 5_000_000_000
    assert "correct horse" not in str(found)


def test_swarm_replaces_facts_of_the_task_and_nothing_else() -> None:
    release = release_of(environment=("NODE={{.Node.Hostname}}", "PRICE={{now}} {{.x}}"))
    variables = service_of(release)["task_template"]["ContainerSpec"]["Env"]
    assert "NODE={{.Node.Hostname}}" in variables
    assert 'PRICE={{"{{"}}now}} {{"{{"}}.x}}' in variables


def test_a_folder_of_one_machine_needs_a_constraint_to_it() -> None:
    store = {"data": {"type": "local", "local_path": "/data", "mount_point": "/mnt/data"}}
    assert "storage" in services.swarm_problems_of(release_of(storage=store), "swarm")
    for constraint in ("node.hostname==mill", "node.id = x1"):
        here = {"placement": {"constraints": (constraint,)}}
        assert services.swarm_problems_of(release_of(storage=store, deploy=here), "swarm") == {}
    elsewhere = {"placement": {"constraints": ("node.hostname!=mill",)}}
    assert "storage" in services.swarm_problems_of(release_of(storage=store, deploy=elsewhere), "swarm")


@pytest.mark.parametrize("uuid", ["MILL_", "MILL-" + "1" * 60])
def test_swarm_has_narrower_names(uuid: str) -> None:
    assert "uuid" not in containers.problems_of(release_of(uuid=uuid), "docker")
    assert "uuid" in services.swarm_problems_of(release_of(uuid=uuid), "swarm")


def task(state: str, created: str, **container: int) -> dict[str, Any]:
    status = {"State": state, "Timestamp": "2026-01-01T00:00:00Z", "ContainerStatus": container}
    return {"CreatedAt": created, "Status": status}


@pytest.mark.parametrize(
    ("restart", "states", "expected"),
    [
        ("always", [], InstanceState.STARTING),
        ("always", ["preparing"], InstanceState.STARTING),
        ("always", ["running"], InstanceState.RUNNING),
        ("always", ["failed"], InstanceState.RESTARTING),
        ("always", ["failed", "ready"], InstanceState.RESTARTING),
        ("always", ["failed", "running"], InstanceState.RUNNING),
        ("on-failure", ["complete"], InstanceState.EXITED),
        ("on-failure", ["failed"], InstanceState.RESTARTING),
        ("no", ["failed"], InstanceState.EXITED),
    ],
)
def test_the_state_of_a_service_is_that_of_its_newest_task(
    restart: str, states: list[str], expected: InstanceState
) -> None:
    description = service_of(release_of(restart=restart))
    service = {"Spec": {"Labels": description["labels"], "TaskTemplate": description["task_template"]}}
    tasks = [task(state, f"2026-01-01T00:00:0{number}Z", ExitCode=3) for number, state in enumerate(states)]
    found = services.instance_of(service, tasks[::-1])
    assert found.state is expected
    assert found.restarts == max(len(tasks) - 1, 0)
