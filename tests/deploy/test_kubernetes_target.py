"""The objects of Kubernetes, by its schemas; the target, on a stand-in of the API server."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest

from kubernetes_stand_in import StandIn, stand_in
from openfactory.deploy.app import Release
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.base import InstanceState, LogLine, Project, TargetError
from openfactory.deploy.targets.kubernetes import KubernetesTarget
from openfactory.deploy.targets.kubernetes.manifests import Place, manifests
from openfactory.deploy.targets.kubernetes.obstacles import obstacle_of
from openfactory.exceptions import MissingDistributionError
from releases_for_tests import WHOLE_APP, releases

PLACE = Place("hall-2", "plant", Addresses("factory.test", has_prefixes=True))
MILL: dict[str, Any] = {"uuid": "Mill_1", "image": "mill:1"}


def objects(place: Place = PLACE, /, **keys: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The objects of the only replica of an app."""
    [release] = releases("app", target="kubernetes", **keys)
    return {(item["kind"], item["metadata"]["name"]): item for item in manifests(release, place)}


def pod_of(found: dict[tuple[str, str], dict[str, Any]]) -> Any:
    return next(item for (kind, _), item in found.items() if kind == "Deployment")["spec"]["template"]["spec"]


# --- Objects


@pytest.mark.parametrize(
    "keys", [MILL, dict(WHOLE_APP), MILL | {"update": {"order": "stop-first"}, "deploy": {"replicas": 2}}]
)
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_objects_are_valid(keys: dict[str, Any], version: str) -> None:
    for release in releases("app", target="kubernetes", **keys):
        for item in manifests(release, PLACE):
            if not item["apiVersion"].startswith("traefik"):
                kubernetes_validate.validate(item, version, strict=True)


def test_the_whole_app_has_all_its_objects() -> None:
    found = objects(**WHOLE_APP)
    assert list(found) == [
        ("Secret", "mill-panel-secrets"),
        ("PersistentVolume", "plant-mill-panel-storage-2"),
        ("PersistentVolumeClaim", "mill-panel-storage-2"),
        ("Deployment", "mill-panel"),
        ("Service", "mill-panel"),
        ("Ingress", "mill-panel"),
        ("IngressRoute", "ofa-mill-panel-external"),
        ("Middleware", "ofa-mill-panel-slash"),
        ("Middleware", "ofa-mill-panel-strip"),
    ]
    pod = pod_of(found)
    [container] = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["PRICE"] == "$5 {{now}} $$(HOME)"  # Kubernetes reads `$$(` as `$(`
    assert (environment["APP_TAKE_OVER"], environment["APP_GENERATION"]) == ("1", "1")
    assert "correct horse" not in environment.values()
    assert container["args"] == ["run", "panel.py", "--cost=$5"]
    assert container["imagePullPolicy"] == "Always"
    assert pod["securityContext"] == {"runAsUser": 1200, "runAsGroup": 1300}
    assert pod["terminationGracePeriodSeconds"] == 90
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": str(512 * 2**20)},
        "requests": {"cpu": "250m", "memory": str(256 * 2**20)},
    }
    assert container["readinessProbe"]["httpGet"] == {"path": "/health/ready", "port": 4000}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": 4000}
    assert {volume["name"]: next(key for key in volume if key != "name") for volume in pod["volumes"]} == {
        "storage-1": "nfs",
        "storage-2": "persistentVolumeClaim",
        "secrets": "secret",
    }
    assert found["PersistentVolume", "plant-mill-panel-storage-2"]["spec"]["mountOptions"] == ["soft"]
    assert {mount["mountPath"]: mount["readOnly"] for mount in container["volumeMounts"]} == {
        "/mnt/d": False,
        "/mnt/s": True,
        "/run/secrets": True,
    }
    [term] = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "hall", "operator": "In", "values": ["2"]},
        {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["old"]},
    ]


def test_an_update_order_becomes_a_strategy() -> None:
    first, stopped = objects(**MILL), objects(**MILL, update={"order": "stop-first"})
    assert first["Deployment", "mill-1"]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert stopped["Deployment", "mill-1"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "APP_TAKE_OVER" not in {each["name"] for each in pod_of(stopped)["containers"][0]["env"]}


def test_a_secret_has_no_keys_that_the_server_would_keep() -> None:
    secret = objects(**MILL, secrets={"key": "ü"})["Secret", "mill-1-secrets"]
    assert {"data": {"key": "w7w="}}.items() <= secret.items()
    assert "stringData" not in secret


def test_a_secret_that_changes_makes_a_new_pod() -> None:
    templates = [
        objects(**MILL, secrets={"key": value})["Deployment", "mill-1"]["spec"]["template"] for value in ("a", "b")
    ]
    assert templates[0] != templates[1]


def test_a_folder_of_the_node_must_exist() -> None:
    storage = {"data": {"type": "local", "local_path": "/data", "mount_point": "/mnt/d"}}
    pod = pod_of(objects(**MILL, storage=storage))
    assert pod["volumes"] == [{"name": "storage-1", "hostPath": {"path": "/data", "type": "Directory"}}]


def test_an_app_without_pages_and_health_has_no_probe() -> None:
    assert {"readinessProbe", "livenessProbe"}.isdisjoint(pod_of(objects(**MILL))["containers"][0])
    with_pages = pod_of(objects(**MILL, routing={"port": 4000}))["containers"][0]
    assert with_pages["readinessProbe"]["tcpSocket"] == {"port": 4000}


def test_a_pod_loses_its_route_after_the_failed_checks_of_the_file() -> None:
    keys = MILL | {"routing": {"port": 4000}, "health": {"interval": "2500ms", "retries": 3}}
    probe = pod_of(objects(**keys))["containers"][0]["readinessProbe"]
    assert (probe["periodSeconds"], probe["failureThreshold"]) == (1, 8)


def test_an_ingress_needs_no_traefik_where_there_is_no_prefix() -> None:
    keys = MILL | {"routing": {"expose": True, "port": 4000}}
    kinds = {kind for kind, _ in objects(Place("p", "n", Addresses("factory.test")), **keys)}
    assert kinds == {"Deployment", "Service", "Ingress"}


# --- The target on a stand-in


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(tmp_path) as (state, kubeconfig):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        # The client reads the variable when it is imported.
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
        monkeypatch.setenv("OPENFACTORY_BASE_DOMAIN", "factory.test")
        monkeypatch.setenv("OPENFACTORY_ENV", "dev")
        yield state


@pytest.fixture
def target(server: StandIn, tmp_path: Path) -> Iterator[KubernetesTarget]:
    with closing(KubernetesTarget(Project("Hall 2", tmp_path))) as target:
        yield target


def release(generation: int = 1, **keys: Any) -> Release:
    [found] = releases("app", target="kubernetes", **MILL | keys)
    return msgspec.structs.replace(found, generation=generation)


def test_an_instance_is_that_of_its_release(target: KubernetesTarget) -> None:
    assert target.instances() == []
    first = release(generation=3)
    started = target.start(first)
    assert target.instances() == [started]
    assert (started.uuid, started.app, started.hash, started.generation) == ("Mill_1", "Mill_1", first.hash, 3)
    assert (started.state, started.program) == (InstanceState.RUNNING, "mill:1")
    assert abs(time.time() - (started.started or 0)) < 60
    with pytest.raises(TargetError, match="runs already"):
        target.start(first)


def test_a_stop_leaves_nothing_and_other_apps_alone(target: KubernetesTarget, server: StandIn, tmp_path: Path) -> None:
    other = KubernetesTarget(Project("other", tmp_path))
    kept = other.start(release(uuid="other"))
    [panel] = releases("panel", target="kubernetes", **WHOLE_APP)
    started = target.start(panel)
    assert len(server.objects) == 9 + 1 + 2
    target.stop(started)
    target.stop(started)
    assert target.instances() == []
    assert {name for _, name in server.objects} == {"other", "other-pod-1"}
    assert other.instances() == [kept]
    other.close()


def test_replicas_share_their_route_until_the_last_is_stopped(target: KubernetesTarget, server: StandIn) -> None:
    pair = releases(
        "pair",
        target="kubernetes",
        uuid="pair",
        image="i",
        deploy={"replicas": 2},
        routing={"expose": True, "port": 80},
    )
    first, second = [target.start(each) for each in pair]
    assert server.names("services") == {"pair", "pair-1", "pair-2"}
    target.stop(first)
    assert server.names("ingresses") == {"pair"}
    target.stop(second)
    assert server.objects == {}


def test_a_replacement_is_put_back_if_it_does_not_come_up(target: KubernetesTarget, server: StandIn) -> None:
    running = target.start(release())
    before = dict(server.objects)

    def fail(instance: object) -> None:
        assert server.names("secrets") == {"mill-1-secrets"}
        raise TargetError("it is not up")

    with pytest.raises(TargetError, match="it is not up"):
        target.replace(running, release(2, image="mill:2", secrets={"a": "b"}), fail)
    assert [instance.generation for instance in target.instances()] == [1]
    assert server.names("secrets") == set()
    assert server.objects["deployments", "mill-1"]["spec"] == before["deployments", "mill-1"]["spec"]


def test_the_pod_of_a_version_that_fails_is_gone_at_the_end(target: KubernetesTarget, server: StandIn) -> None:
    running = target.start(release())

    def fail(instance: object) -> None:
        server.lingering["pods"] = 3
        raise TargetError("it is not up")

    with pytest.raises(TargetError, match="it is not up"):
        target.replace(running, release(2, image="mill:2"), fail)
    assert server.names("pods") == {"mill-1-pod-1"}


def test_the_old_pod_of_a_replacement_stays_until_the_new_one_is_up(target: KubernetesTarget, server: StandIn) -> None:
    running = target.start(release())
    old = server.objects["pods", "mill-1-pod-1"]

    def is_up(instance: object) -> None:
        assert server.names("pods") == {"mill-1-pod-1", "mill-1-pod-2"}

    def fail(instance: object) -> None:
        is_up(instance)
        raise TargetError("it is not up")

    with pytest.raises(TargetError, match="it is not up"):
        target.replace(running, release(2, image="mill:2"), fail)
    assert server.names("pods") == {"mill-1-pod-1"}
    assert server.objects["pods", "mill-1-pod-1"] == old
    target.replace(running, release(2, image="mill:2"), is_up)
    assert server.names("pods") == {"mill-1-pod-2"}
    assert not {"minReadySeconds", "progressDeadlineSeconds"} & server.objects["deployments", "mill-1"]["spec"].keys()


def test_a_replacement_leaves_no_object_of_the_old_release(target: KubernetesTarget, server: StandIn) -> None:
    running = target.start(release(routing={"expose": True, "port": 4000}, secrets={"a": "b"}))
    replaced = target.replace(running, release(2, image="mill:2"), lambda _: None)
    assert target.instances() == [replaced]
    assert {kind for kind, _ in server.objects} == {"deployments", "pods"}


def test_a_refused_object_leaves_nothing_half_made(target: KubernetesTarget, server: StandIn) -> None:
    server.refused.add("services")
    with pytest.raises(TargetError, match=r"(?s)apply the Service mill-1: .*422.*is invalid.*Change the file"):
        target.start(release(routing={"expose": True, "port": 4000}))
    assert server.objects == {}


def test_an_object_of_somebody_else_is_left_alone(target: KubernetesTarget, server: StandIn) -> None:
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mill-1-secrets", "namespace": "plant"}}
    server.objects["secrets", "mill-1-secrets"] = other
    with pytest.raises(TargetError, match=r"(?s)another Secret mill-1-secrets exists.*another UUID"):
        target.start(release(secrets={"a": "b"}))
    assert server.objects == {("secrets", "mill-1-secrets"): other}


def test_an_account_needs_no_right_to_kinds_that_no_app_uses(target: KubernetesTarget, server: StandIn) -> None:
    server.forbidden |= {"persistentvolumes", "middlewares", "ingressroutes", "events"}
    target.stop(target.start(release(secrets={"a": "b"})))
    assert server.objects == {}
    server.forbidden |= {"deployments"}
    with pytest.raises(TargetError, match=r"list the Deployment objects.*403.*an account that may"):
        target.instances()


def test_a_stop_waits_until_the_volumes_are_gone(target: KubernetesTarget, server: StandIn) -> None:
    [panel] = releases("panel", target="kubernetes", **WHOLE_APP)
    started = target.start(panel)
    server.lingering = {"persistentvolumeclaims": 2, "persistentvolumes": 2}
    target.stop(started)
    assert server.objects == {}


def waiting(reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": f"{reason} of app."}}}]}


UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are there."}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (waiting("ErrImagePull"), "ErrImagePull of app. Correct the key image"),
        (waiting("InvalidImageName"), "InvalidImageName of app. Correct the key image"),
        (waiting("CreateContainerConfigError"), "CreateContainerConfigError of app. Correct the keys"),
        ({"conditions": [UNSCHEDULED]}, "0/1 nodes are there. Correct deploy.placement"),
        (waiting("ContainerCreating"), "/absent is not a directory. Correct what the text names"),
    ],
)
def test_a_pod_that_cannot_begin_is_told_and_leaves_nothing(
    target: KubernetesTarget,
    server: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    status: dict[str, Any],
    told: str,
) -> None:
    monkeypatch.setattr("openfactory.deploy.targets.kubernetes.target._BEGIN_SECONDS", 0.3)
    server.statuses["mill:bad"] = status
    server.warnings = [{"lastTimestamp": "2026-01-01T00:00:00Z", "message": "/absent is not a directory"}]
    bad = release(image="mill:bad", secrets={"a": "b"})
    with pytest.raises(TargetError, match=f"Mill_1 cannot be started: {told}"):
        target.start(bad)
    assert server.objects == {}
    running = target.start(release())
    with pytest.raises(TargetError, match=told):
        target.replace(running, msgspec.structs.replace(bad, generation=2), lambda _: None)
    assert [(instance.generation, instance.health) for instance in target.instances()] == [(1, "ready")]
    assert server.names("secrets") == set()


def test_a_slow_pull_of_an_image_goes_on(
    target: KubernetesTarget, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openfactory.deploy.targets.kubernetes.target._BEGIN_SECONDS", 0.3)
    server.statuses["mill:1"] = waiting("ContainerCreating")
    assert target.start(release()).state is InstanceState.STARTING


def test_a_refused_pod_is_told_by_its_deployment() -> None:
    condition = {"type": "ReplicaFailure", "status": "True", "message": "pods are forbidden: exceeded quota"}
    found = obstacle_of({"status": {"conditions": [condition]}}, None, ())
    assert found is not None
    assert (found.final, found.text.startswith("pods are forbidden: exceeded quota. Correct")) == (True, True)
    assert obstacle_of({"status": {}}, None, ()) is None


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"uuid": "a" * 64}, "64 characters"),
        ({"uuid": "3D-Printer", "routing": {"port": 4000}}, "begins with a letter"),
    ],
)
def test_a_name_that_kubernetes_refuses_is_told_before(
    target: KubernetesTarget, keys: dict[str, Any], told: str
) -> None:
    assert told in target.refuses(release(**keys))["uuid"]
    assert target.refuses(release(uuid="3D-Printer")) == {}


def test_a_cluster_without_traefik_runs_apps_with_host_names(
    target: KubernetesTarget, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.missing |= {"ingressroutes", "middlewares"}
    page = release(routing={"expose": True, "port": 4000})
    with pytest.raises(TargetError, match=r"(?s)404.*install Traefik"):
        target.start(page)
    assert server.objects == {}
    monkeypatch.setenv("OPENFACTORY_ENV", "")
    with closing(KubernetesTarget(target.project)) as production:
        production.start(page)
        assert production.apply_routes([page]) == {"Mill_1": "http://mill-1.factory.test/"}


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_a_restart_makes_a_new_pod(target: KubernetesTarget, server: StandIn, order: str) -> None:
    started = target.start(release(update={"order": order}))
    pod = server.objects["pods", "mill-1-pod-1"]
    target.restart(started)
    assert server.objects["pods", "mill-1-pod-1"] is not pod
    # A rolling update would start the container of the old pod again, which would take the UUID back.
    annotations = server.objects["deployments", "mill-1"]["spec"]["template"]["metadata"]["annotations"]
    assert ("openfactory.restarted" in annotations) == (order == "stop-first")
    assert target.instances()[0].generation == 1


def test_the_state_of_an_instance_is_that_of_its_pod(target: KubernetesTarget, server: StandIn) -> None:
    target.start(release())
    [status] = server.objects["pods", "mill-1-pod-1"]["status"]["containerStatuses"]

    def seen(**facts: Any) -> tuple[InstanceState, str, int | None, int]:
        status.clear()
        status.update(facts)
        [instance] = target.instances()
        return instance.state, instance.health, instance.exit_status, instance.restarts

    waiting = {"waiting": {"reason": "ImagePullBackOff"}}
    assert seen(state=waiting, restartCount=0) == (InstanceState.STARTING, "ImagePullBackOff", None, 0)
    ended = {"terminated": {"exitCode": 3}}
    assert seen(state=ended, restartCount=0) == (InstanceState.RESTARTING, "", 3, 0)
    pausing = {"waiting": {"reason": "CrashLoopBackOff"}}
    looping = seen(state=pausing, lastState=ended, restartCount=2)
    assert looping == (InstanceState.RESTARTING, "CrashLoopBackOff", 3, 2)
    server.objects["pods", "mill-1-pod-1"]["status"] = {"conditions": [UNSCHEDULED]}
    assert target.instances()[0].health == "0/1 nodes are there."
    server.objects["pods", "mill-1-pod-1"]["status"] = {"containerStatuses": [{"state": {"running": {}}}]}
    server.objects["pods", "mill-1-pod-1"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert target.instances()[0].state is InstanceState.STARTING
    server.delete_pods("mill-1")
    assert target.instances()[0].state is InstanceState.STARTING


@pytest.mark.parametrize("follow", [False, True])
def test_logs_are_those_of_the_pods(target: KubernetesTarget, server: StandIn, follow: bool) -> None:
    def logs(count: int, *uuids: str) -> list[LogLine]:
        lines = target.logs(uuids, follow=follow)
        return list(islice(lines, count) if follow else lines)

    target.start(release())
    target.start(release(uuid="other"))
    server.logs = {"mill-1-pod-1": "one\nzwei ü\nthree", "other-pod-1": "else\n"}
    assert [(line.uuid, line.text) for line in logs(3, "Mill_1")] == [
        ("Mill_1", "one"),
        ("Mill_1", "zwei ü"),
        ("Mill_1", "three"),
    ]
    assert sorted(line.uuid for line in logs(4)) == ["Mill_1", "Mill_1", "Mill_1", "other"]


def test_logs_have_the_lines_before_a_restart(target: KubernetesTarget, server: StandIn) -> None:
    target.start(release())
    server.objects["pods", "mill-1-pod-1"]["status"]["containerStatuses"][0]["restartCount"] = 1
    server.logs = {"mill-1-pod-1/previous": "no machine\n", "mill-1-pod-1": "\nagain\n"}
    assert sorted(line.text for line in target.logs()) == ["", "again", "no machine"]


def test_logs_go_on_with_a_later_pod_until_the_target_is_closed(target: KubernetesTarget, server: StandIn) -> None:
    running = target.start(release())
    server.logs = {"mill-1-pod-1": "one\n", "mill-1-pod-2": "two\n"}
    lines = target.logs(follow=True)
    assert next(lines) == LogLine("Mill_1", "one")
    target.replace(running, release(2, image="mill:2"), lambda _: None)
    assert next(lines) == LogLine("Mill_1", "two")
    target.close()
    assert list(lines) == []


def test_the_last_lines_of_a_log_are_in_the_order_of_their_times(target: KubernetesTarget, server: StandIn) -> None:
    target.start(release())
    target.start(release(uuid="other"))
    server.logs = {"mill-1-pod-1": "one\ntwo\nthree\n", "other-pod-1": "1\n2\n3\n"}
    assert [line.text for line in target.logs(tail=2)] == ["two", "2", "three", "3"]


def test_keys_that_kubernetes_lacks_are_told(target: KubernetesTarget) -> None:
    deploy = {
        "resources": {"limits": {"open_files": 10}},
        "placement": {"constraints": ("node.role == manager", "node.labels.a == b")},
    }
    [lacking] = releases("app", uuid="a1", file="a.py", restart="no", deploy=deploy)
    assert set(target.lacks(lacking)) == {
        "image", "restart", "deploy.resources.limits.open_files", "deploy.placement.constraints",
    }  # fmt: skip
    assert target.lacks(release()) == {}


def test_a_client_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(MissingDistributionError, match=r"pip install openfactory-deploy\[kubernetes\]"):
        KubernetesTarget(Project("p", tmp_path)).instances()


def test_a_server_that_is_away_is_told(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "away"
    path.write_text((tmp_path / "kubeconfig").read_text().replace("http://127.0.0.1:", "http://127.0.0.1:1#"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    with pytest.raises(TargetError, match="Check the server in the kubeconfig"):
        KubernetesTarget(Project("p", tmp_path)).instances()
