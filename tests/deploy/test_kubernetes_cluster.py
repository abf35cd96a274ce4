"""The target kubernetes on the cluster that KUBECONFIG names, in the namespace of its context.

The pods run `python` of the image that OPENFACTORY_TEST_IMAGE names. The tests of the commands need an image with the
distributions, such as that of the Dockerfile, and a factory that pods reach, in OPENFACTORY_TEST_FACTORY.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
import pytest

from engine_targets import MILL
from ofa_apps import ofa_apps
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.base import Instance, InstanceState, Project, Target, TargetError
from openfactory.deploy.targets.kubernetes import KubernetesTarget
from openfactory.deploy.targets.kubernetes.cluster import KINDS, Cluster
from openfactory.deploy.targets.kubernetes.manifests import Place, manifests
from releases_for_tests import WHOLE_APP, releases_on
from target_conformance import REPORTER, Settings, TargetConformance, environments_of, report_of, running_in, until

pytestmark = pytest.mark.kubernetes

IMAGE = os.environ.get("OPENFACTORY_TEST_IMAGE", "python:3.13-slim")
PROGRAM: Settings = {"image": IMAGE, "command": ["python", "-c", REPORTER]}
STOP_FIRST = {"update": {"order": "stop-first"}}

#: The program of a web app that opens its port some seconds after it has claimed its UUID.
SLOW_PANEL = """
import time
from openfactory.apps import OpenFactoryFlaskApp

class Panel(OpenFactoryFlaskApp):
    def __init__(self):
        super().__init__(None)
        time.sleep({seconds})

Panel().run()
"""


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A second connection, by which a test sees what is there."""
    assert "KUBECONFIG" in os.environ, "Name the cluster in KUBECONFIG."
    monkeypatch.setenv("OPENFACTORY_BASE_DOMAIN", "factory.test")
    with closing(Cluster()) as cluster:
        yield cluster


class TestKubernetesTarget(TargetConformance):
    """The promises of all targets, as far as a Deployment can keep them."""

    @pytest.fixture(autouse=True)
    def know_cluster(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        with closing(KubernetesTarget(project)) as target:
            yield target
            for instance in target.instances():
                target.stop(instance)
            assert self.left_by(target) == []

    @pytest.fixture
    def program(self) -> Settings:
        return PROGRAM

    @pytest.fixture
    def missing_program(self) -> Settings:
        return {"image": "registry.invalid/none:1"}

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int]:
        return 10001, 10002

    def target_of(self, project: Project) -> Target:
        return KubernetesTarget(project)

    def kill_app(self, target: Target, instance: Instance) -> None:
        """End the app by a signal from inside, where SIGKILL does nothing to the first process."""
        import kubernetes
        from kubernetes.stream import stream

        [pod] = self.cluster.objects(f"openfactory.uuid={instance.uuid.lower()}", ["Pod"])
        options = {"command": ["python", "-c", "import os; os.kill(1, 15)"], "stdout": True, "_preload_content": False}
        names = pod["metadata"]["name"], pod["metadata"]["namespace"]
        with kubernetes.client.ApiClient() as client:
            api = kubernetes.client.CoreV1Api(client)
            command = stream(api.connect_get_namespaced_pod_exec, *names, **options)
            command.run_forever(timeout=30)
            command.sock.shutdown()  # its `close` leaves the socket open when the server has ended the connection

    def left_by(self, target: Target) -> list[str]:
        found = self.cluster.objects(f"openfactory.project={target.project.name}", [*KINDS, "Pod"])
        return [f"{item['kind']} {item['metadata']['name']}" for item in found]

    def test_an_app_finds_the_environment_of_its_release(self, target: Target, program: Settings) -> None:
        # With start-first, each pod takes the UUID over, because Kubernetes may replace it at any time.
        super().test_an_app_finds_the_environment_of_its_release(target, program | STOP_FIRST)

    def test_an_app_writes_into_its_storage(self, target: Target, program: Settings, tmp_path: Path) -> None:
        store = {"type": "local", "local_path": "/tmp", "mount_point": "/mnt/of-the-node"}
        target.start(self.release(target, program | {"storage": {"parts": store}}))
        assert report_of(target, "MILL-1")["storages"] == ["parts"]

    def test_a_memory_limit_ends_an_app_that_exceeds_it(self, target: Target, program: Settings) -> None:
        limit = {"deploy": {"resources": {"limits": {"memory": "128Mi"}}}}
        target.start(self.release(target, program | limit, TASK="fill:1024"))
        (ended,) = until(lambda: [instance for instance in target.instances() if instance.exit_status is not None])
        assert ended.exit_status not in (0, None)

    @pytest.mark.parametrize(("policy", "status", "again"), [("always", 0, True), ("always", 3, True)])
    def test_a_restart_policy_decides_after_an_exit(
        self, target: Target, program: Settings, policy: str, status: int, again: bool
    ) -> None:
        super().test_a_restart_policy_decides_after_an_exit(target, program, policy, status, again)

    def test_an_exited_instance_can_be_stopped(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program, TASK="exit:3"))
        until(lambda: [instance for instance in target.instances() if instance.state is InstanceState.RESTARTING])
        target.stop(started)
        assert target.instances() == []
        assert self.left_by(target) == []

    def test_a_replacement_runs_beside_the_old_instance_until_it_is_up(self, target: Target, program: Settings) -> None:
        old = target.start(self.release(target, program, VERSION="1"))
        report_of(target, "MILL-1")

        def is_up(new: Instance) -> None:
            until(lambda: {each.get("VERSION") for each in environments_of(target)} == {"1", "2"})
            assert [instance.generation for instance in target.instances()] == [2]

        new = target.replace(old, self.release(target, program, 2, VERSION="2"), is_up)
        until(lambda: {each.get("VERSION") for each in environments_of(target)} == {"2"})
        (running,) = until(lambda: running_in(target))
        assert (running.generation, running.hash, running.restarts) == (2, new.hash, 0)


@pytest.fixture
def target(tmp_path: Path, cluster: Cluster) -> Iterator[KubernetesTarget]:
    """A target whose instances are stopped at the end; then nothing is left."""
    with closing(KubernetesTarget(Project("hall-2", tmp_path))) as target:
        yield target
        for instance in target.instances():
            target.stop(instance)
        assert cluster.objects("openfactory.project=hall-2", [*KINDS, "Pod"]) == []


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_the_server_takes_all_keys_of_an_app(cluster: Cluster, target: KubernetesTarget, order: str) -> None:
    """No pod need begin: the server checks the objects, and those of a second version beside them."""
    storage = WHOLE_APP["storage"] | {"data": {"type": "local", "local_path": "/tmp", "mount_point": "/mnt/d"}}
    keys = dict(WHOLE_APP) | {"storage": storage, "update": {"order": order}}
    [panel] = releases_on(target, FactoryEnvironment({"KSQLDB_URL": "memory://none"}, {}), **keys)
    for item in manifests(panel, Place("hall-2", cluster.namespace, Addresses("factory.test"))):
        cluster.apply(item)
    [made] = target.instances()
    found = {item["kind"] for item in cluster.objects("openfactory.project=hall-2")}
    assert found == {"Secret", "PersistentVolume", "PersistentVolumeClaim", "Deployment", "Service", "Ingress"}
    for item in cluster.objects("openfactory.project=hall-2"):
        cluster.put_back(item)  # what the server has added is no obstacle
    assert target.instances()[0].hash == made.hash == panel.hash


def test_a_secret_that_is_left_out_is_gone(cluster: Cluster, target: KubernetesTarget) -> None:
    factory = FactoryEnvironment({"KSQLDB_URL": "memory://none"}, {})
    [both] = releases_on(target, factory, uuid="mill", secrets={"a": "1", "b": "2"}, **PROGRAM)
    [single] = releases_on(target, factory, uuid="mill", secrets={"a": "1"}, **PROGRAM)
    running = target.start(both)
    target.replace(running, msgspec.structs.replace(single, generation=2), lambda _: None)
    [secret] = cluster.objects("openfactory.project=hall-2", ["Secret"])
    assert secret["data"].keys() == {"a"}


def test_an_object_of_another_project_is_left_alone(target: KubernetesTarget) -> None:
    factory = FactoryEnvironment({"KSQLDB_URL": "memory://none"}, {})
    [mill] = releases_on(target, factory, uuid="mill", **PROGRAM)
    with closing(KubernetesTarget(Project("hall-3", target.project.folder))) as other:
        running = other.start(mill)
        with pytest.raises(TargetError, match="another Deployment mill exists"):
            target.start(mill)
        assert [instance.hash for instance in other.instances()] == [mill.hash]
        other.stop(running)


class Commands:
    """The commands of `ofa apps` on one file.

    The image has the distributions of this workspace, and pods and this machine reach the factory.
    """

    def __init__(self, file: Path) -> None:
        url = os.environ.get("OPENFACTORY_TEST_FACTORY")
        assert url is not None, "Name a factory in OPENFACTORY_TEST_FACTORY, such as kafka://HOST:9092."
        self._environment = {"KSQLDB_URL": url, "OPENFACTORY_BASE_DOMAIN": "factory.test"}
        self._file = file

    def write(self, program: str, *uuids: str, **keys: Any) -> None:
        """Have the file describe apps of one program."""
        apps = {
            f"app{number}": {"uuid": uuid, "image": IMAGE, "command": ["python", "-c", program], **keys}
            for number, uuid in enumerate(uuids)
        }
        self._file.write_text(json.dumps({"apps": apps}), encoding="utf-8")

    def run(self, *words: str | Path, status: int = 0) -> str:
        """Run a command, and return what it has printed."""
        common = ("--target", "kubernetes", "--project", "hall-2", self._file)
        done = ofa_apps(*words, *common, **self._environment)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def commands(tmp_path: Path, cluster: Cluster) -> Iterator[Commands]:
    """Commands whose apps are stopped at the end; then nothing is left."""
    commands = Commands(tmp_path / "app_mill.yml")
    yield commands
    commands.run("down")
    assert cluster.objects("openfactory.project=hall-2", [*KINDS, "Pod"]) == []


def test_commands_deploy_apps(commands: Commands) -> None:
    uuids = [f"Mill-{token_hex(4)}-{number}" for number in (1, 2)]
    run = commands.run

    def write(program: str, **keys: Any) -> None:
        commands.write(program, *uuids, **keys)

    write(MILL)
    assert run("up").count("it is AVAILABLE") >= 2
    assert "Nothing differs" in run("plan")
    assert run("up").count("unchanged") >= 2
    write(MILL, environment=["VERSION=2"])
    assert "generation 2 has replaced generation 1" in run("up")
    for _ in range(2):  # the old pod, whose container is started again, does not take the UUID back
        assert "it was started again" in run("restart")
    ended = "import sys, time; print('no machine', flush=True); time.sleep(3); sys.exit(7)"
    write(ended)
    failed = run("up", status=1)
    assert "has ended with status 7" in failed
    assert "no machine" in failed
    assert "Generation 2 went on" in failed or "Generation 2 was started again" in failed
    assert run("ls").count(" AVAILABLE") == 2
    write(MILL, environment=["VERSION=2"])
    assert "Nothing differs" in run("plan")
    assert run("rollback").count("has replaced generation") >= 2
    assert "Starting the main loop" in run("logs", "--tail", "20")
    removed = uuids.pop()
    write(MILL)
    assert removed in run("plan")
    assert "left" in run("up")
    assert "removed" in run("up", "--remove-orphans")
    assert removed not in run("ls")


@pytest.mark.parametrize(("keys", "seconds"), [({}, 3), ({"health": {}}, 5)])
def test_a_pod_of_a_page_is_ready_at_each_moment_of_an_update(
    commands: Commands, cluster: Cluster, keys: dict[str, Any], seconds: int
) -> None:
    uuid = f"Panel-{token_hex(4)}"
    keys = {"routing": {"expose": True, "port": 4000}, **keys}
    program = SLOW_PANEL.format(seconds=seconds)

    def ready() -> list[str]:
        """The pods that have requests, as the gateway is told."""
        pods = cluster.objects(f"openfactory.uuid={uuid.lower()}", ["Pod"])
        return [pod["metadata"]["name"] for pod in pods if is_ready(pod)]

    commands.write(program, uuid, **keys)
    commands.run("up")
    (old,) = until(ready)
    commands.write(program, uuid, environment=["VERSION=2"], **keys)
    with ThreadPoolExecutor() as pool:
        update = pool.submit(commands.run, "up")
        while not update.done():
            assert ready()
    assert "generation 2 has replaced generation 1" in update.result()
    assert old not in ready()


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")
