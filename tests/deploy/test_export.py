"""Exported files, checked by the tools that read them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from needed import needed
from openfactory.deploy.app import Release
from openfactory.deploy.export.compose import compose_text
from openfactory.deploy.export.kubernetes import kubernetes_text
from openfactory.deploy.export.swarm import stack_text
from openfactory.deploy.gateway.routes import Addresses
from openfactory.deploy.targets.kubernetes.manifests import Place
from openfactory.deploy.targets.swarm.services import secret_name
from openfactory.exceptions import ConfigurationError
from releases_for_tests import WHOLE_APP, releases
from servers.fetching import program
from servers.pinned import docker_compose

ADDRESSES = Addresses("factory.test", has_prefixes=True)
MILL: dict[str, Any] = {"uuid": "mill", "image": "mill:1", "health": {"port": 9100}}
PLAIN: dict[str, Any] = {"uuid": "plain", "image": "plain:1", "stop_grace_period": "500ms"}
PAIR: dict[str, Any] = {
    "uuid": "pair",
    "image": "pair:1",
    "deploy": {"replicas": 2},
    "routing": {"expose": True, "port": 80},
}

Composed = Callable[[str], dict[str, Any]]


def all_releases(target: str) -> list[Release]:
    apps = {"panel": WHOLE_APP, "mill": MILL, "plain": PLAIN, "pair": PAIR}
    return [release for name, keys in apps.items() for release in releases(name, target=target, **keys)]


@pytest.fixture
def composed(tmp_path: Path) -> Composed:
    """A Compose file as Docker Compose understands it."""
    with needed("Docker Compose"):
        compose = docker_compose()

    def understood_by_compose(text: str) -> dict[str, Any]:
        path = tmp_path / "compose.yml"
        path.write_text(text, encoding="utf-8")
        command = [str(compose), "--file", str(path), "config", "--format", "json"]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env={"MILL_PANEL_DB_PASSWORD": "x", "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert not [line for line in done.stderr.splitlines() if "obsolete" not in line]
        understood: dict[str, Any] = json.loads(done.stdout)
        return understood

    return understood_by_compose


def test_compose_understands_every_key(composed: Composed) -> None:
    [release] = releases(**WHOLE_APP)
    text = compose_text(all_releases("docker"), "hall-2", ADDRESSES)
    understood = composed(text)
    assert understood["name"] == "hall-2"
    assert sorted(understood["services"]) == ["mill", "mill_panel", "pair-1", "pair-2", "plain"]
    panel = understood["services"]["mill_panel"]
    # What Compose prints is a Compose file again, in which a `$` is doubled.
    environment = {name: value.replace("$$", "$") for name, value in panel["environment"].items()}
    assert environment == dict(release.environment)
    assert environment["PRICE"] == "$5 {{now}} $(HOME)"
    assert panel["command"] == ["run", "panel.py", "--cost=$$5"]
    assert panel["container_name"] == "mill_panel"
    assert panel["user"] == "1200:1300"
    assert panel["pull_policy"] == "always"
    assert panel["restart"] == "on-failure"
    assert panel["stop_grace_period"] == "1m30s"
    assert panel["deploy"]["resources"]["limits"] == {"cpus": 0.5, "memory": str(512 * 2**20)}
    assert panel["deploy"]["resources"]["reservations"] == {"cpus": 0.25, "memory": str(256 * 2**20)}
    assert panel["ulimits"] == {"nofile": {"soft": 4096, "hard": 4096}}
    assert panel["depends_on"] == {"mill": {"condition": "service_healthy", "required": True}}
    assert panel["healthcheck"]["test"][:3] == ["CMD", "python", "-c"]
    assert "http://127.0.0.1:4000/health/ready" in panel["healthcheck"]["test"][3]
    assert panel["labels"]["owner"] == "hall 2: {{x}} $$y"
    assert panel["labels"]["openfactory.uuid"] == "Mill_Panel"
    assert panel["labels"]["openfactory.hash"] == release.hash
    assert panel["labels"]["traefik.http.middlewares.ofa-mill-panel-slash.redirectregex.replacement"] == "$${1}/$${2}"
    assert set(panel["networks"]) == {"factory-net", "plant"}
    assert understood["networks"]["factory-net"]["external"] is True
    data, soft = panel["volumes"]
    assert (data["type"], data["target"], soft["target"]) == ("volume", "/mnt/d", "/mnt/s")
    assert understood["volumes"][data["source"]]["driver_opts"]["device"] == ":/e/d"
    assert panel["secrets"] == [{"source": "mill_panel_db_password", "target": "db_password"}]
    assert understood["secrets"]["mill_panel_db_password"]["environment"] == "MILL_PANEL_DB_PASSWORD"
    assert understood["services"]["plain"]["stop_grace_period"] == "500ms"
    assert "correct horse" not in text


def test_a_folder_that_does_not_exist_is_not_made(composed: Composed, tmp_path: Path) -> None:
    storage = {"data": {"type": "local", "local_path": str(tmp_path), "mount_point": "/mnt/d"}}
    understood = composed(compose_text(releases(uuid="a1", image="i", storage=storage), "p", ADDRESSES))
    [mount] = understood["services"]["a1"]["volumes"]
    assert (mount["type"], mount["source"], mount["target"]) == ("bind", str(tmp_path), "/mnt/d")
    assert not mount["bind"].get("create_host_path")


def test_a_stack_is_a_compose_file_with_its_labels_below_deploy(composed: Composed) -> None:
    text = stack_text(all_releases("swarm"), "hall-2", ADDRESSES)
    panel = composed(text)["services"]["mill_panel"]
    assert panel["environment"]["PRICE"] == '$$5 {{"{{"}}now}} $$(HOME)'
    assert panel["environment"]["SWARM_TASK_SLOT"] == "{{.Task.Slot}}"
    assert panel["environment"]["APP_TAKE_OVER"] == "1"
    deploy = panel["deploy"]
    assert deploy["labels"]["traefik.enable"] == "true"
    assert "labels" not in panel
    assert "container_name" not in panel
    assert deploy["update_config"] == {"order": "start-first", "monitor": "5s", "failure_action": "rollback"}
    assert deploy["restart_policy"] == {"condition": "on-failure"}
    assert deploy["placement"]["constraints"] == ["node.labels.hall == 2", "node.hostname != old"]
    assert panel["secrets"] == [{"source": "mill_panel_db_password", "target": "db_password"}]
    assert "docker secret create mill_panel_db_password FILE" in text
    assert "correct horse" not in text


def test_facts_of_a_task_stay_in_the_texts_of_a_stack(composed: Composed) -> None:
    environment = ("NODE=at {{.Node.Hostname}}", "SLOT={{ .Task.Slot }}", "OTHER={{.x}}")
    text = stack_text(releases(uuid="a1", image="i", environment=environment), "p", ADDRESSES)
    found = composed(text)["services"]["a1"]["environment"]
    assert (found["NODE"], found["SLOT"]) == ("at {{.Node.Hostname}}", "{{ .Task.Slot }}")
    assert found["OTHER"] == '{{"{{"}}.x}}'


def test_docker_takes_a_stack_as_it_is(tmp_path: Path) -> None:
    with needed("docker"):
        docker = program("docker", "docker.io")
    path = tmp_path / "stack.yml"
    path.write_text(stack_text(all_releases("swarm"), "hall-2", ADDRESSES), encoding="utf-8")
    done = subprocess.run(
        [docker, "stack", "config", "--compose-file", str(path)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    panel = yaml.safe_load(done.stdout)["services"]["mill_panel"]
    assert panel["environment"]["PRICE"] == '$5 {{"{{"}}now}} $(HOME)'
    assert panel["deploy"]["labels"]["owner"] == "hall 2: {{x}} $y"
    assert panel["ulimits"] == {"nofile": {"soft": 4096, "hard": 4096}}
    assert panel["secrets"] == [{"source": "mill_panel_db_password", "target": "db_password"}]


def test_the_objects_of_kubernetes_are_in_the_file_once() -> None:
    text = kubernetes_text(all_releases("kubernetes"), Place("hall-2", "plant", ADDRESSES))
    assert "APP_GENERATION" not in text  # it would keep the app from its UUID after a deployment from here
    objects = list(yaml.safe_load_all(text))
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))
    assert {name for kind, name in names if kind == "Deployment"} == {"mill-panel", "mill", "plain", "pair-1", "pair-2"}
    assert "Secret" not in {kind for kind, _ in names}
    create = "kubectl --namespace plant create secret generic mill-panel-secrets --from-file=db_password=FILE"
    assert create in text
    assert "correct horse" not in text


@pytest.mark.parametrize("text", [compose_text, stack_text])
def test_apps_without_an_image_are_refused_all_at_once(text: Callable[..., str]) -> None:
    plain = [*releases("one", uuid="a1", file="one.py"), *releases("two", uuid="a2", file="two.py")]
    with pytest.raises(ConfigurationError) as caught:
        text([*plain, *releases(**MILL)], "p", ADDRESSES)
    assert [line.split(" has no image")[0] for line in str(caught.value).splitlines()] == [
        "app_test.yml:2: one",
        "app_test.yml:2: two",
    ]


def test_names_of_secrets_are_no_longer_than_docker_takes_and_differ() -> None:
    longest = "x" * 60
    secrets = {f"{longest}_1": "a", f"{longest}_2": "b", "key_": "c", "key": "d"}
    first = releases("one", uuid="mi_1", image="i", secrets=secrets)
    apps = [*first, *releases("two", uuid="mi", image="i", secrets={"1_key": "e"})]
    text = stack_text(apps, "p", ADDRESSES)
    document = yaml.safe_load(text)
    names = list(document["secrets"])
    assert len(names) == 5
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9]", name) for name in names), names
    assert {secret["target"] for secret in document["services"]["mi_1"]["secrets"]} == secrets.keys()
    assert all(f"docker secret create {name} FILE" in text for name in names)
    compose = yaml.safe_load(compose_text(apps, "p", ADDRESSES))
    assert len({secret["environment"] for secret in compose["secrets"].values()}) == 5
    assert stack_text(apps, "p", ADDRESSES) == text


def test_names_of_secrets_that_only_differ_in_their_variables_differ_in_compose() -> None:
    secrets = {"db-key": "a", "db_key": "b"}
    compose = yaml.safe_load(compose_text(releases(uuid="mi", image="i", secrets=secrets), "p", ADDRESSES))
    assert len({secret["environment"] for secret in compose["secrets"].values()}) == 2


def test_generations_of_an_asset_have_secrets_of_their_own_in_a_swarm() -> None:
    name = "x" * 80
    assert len({secret_name(service, name) for service in ("mill", "mill-g2", "mill_x", "mill_xx")}) == 4
    assert secret_name("mill", "a_key") == "mill_a_key"
    assert secret_name("mill_a", "key") != "mill_a_key"
