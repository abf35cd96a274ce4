"""The environment of an app: what is in it, and that apps read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openfactory.deploy.app import App, Release
from openfactory.deploy.env_files import variables_in
from openfactory.deploy.environment import CONTRACT_VARIABLES, releases_of
from openfactory.deploy.factory_environment import FactoryEnvironment, factory_environment
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.problems import Place
from openfactory.deploy.targets.base import Project
from openfactory.deploy.targets.process import ProcessTarget
from openfactory.exceptions import ConfigurationError
from openfactory.settings import VARIABLES

SERVERS = FactoryEnvironment(
    {"KAFKA_BROKER": "broker:9092", "KSQLDB_URL": "http://ksqldb:8088", "OPENFACTORY_LOG_BACKEND": "text"}, {}
)


def releases(
    folder: Path, settings: dict[str, Any], factory: FactoryEnvironment = SERVERS, **more: Any
) -> list[Release]:
    """Return the releases of an app in a file of a folder."""
    checked = AppFile.model_validate({"uuid": "Mill_1", "image": "mill:1", **settings})
    app = App("app", Place(folder / "app_mill.yml", 2), checked)
    return releases_of(app, factory, **{"target": "docker", **more})


def environment_of(folder: Path, settings: dict[str, Any], *arguments: Any, **more: Any) -> dict[str, str]:
    (release,) = releases(folder, settings, *arguments, **more)
    return dict(release.environment)


def test_a_small_app_has_its_identity_and_its_servers(tmp_path: Path) -> None:
    assert environment_of(tmp_path, {}) == {
        "APP_UUID": "Mill_1",
        "DOCKER_SERVICE": "mill_1",
        "KAFKA_BROKER": "broker:9092",
        "KSQLDB_URL": "http://ksqldb:8088",
        "OPENFACTORY_LOG_BACKEND": "text",
        "KSQLDB_LOG_LEVEL": "WARNING",
    }


def test_web_pages_have_a_port_and_a_prefix(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, {"routing": {"port": 4004}, "metrics": {"port": 4004}})
    assert environment["PORT"] == "4004"
    assert environment["OPENFACTORY_ROOT_PATH"] == "/mill-1"
    assert "OPERATIONS_PORT" not in environment  # the metrics are among the web pages


@pytest.mark.parametrize(
    ("keys", "target", "seconds"),
    [
        ({}, "docker", "1"),
        ({"health": {"interval": "10s", "timeout": "2500ms"}}, "docker", "18"),
        ({"health": {"interval": "10s", "timeout": "2500ms"}}, "process", "1"),
        ({}, "kubernetes", "6"),  # each pod with a port has a probe
        ({"health": {"interval": "10s", "timeout": "2500ms"}}, "kubernetes", "18"),
    ],
)
def test_an_app_serves_until_the_gateway_leads_to_the_next_one(
    tmp_path: Path, keys: dict[str, Any], target: str, seconds: str
) -> None:
    settings = {"routing": {"port": 4004, "expose": True}, **keys}
    assert environment_of(tmp_path, settings, target=target)["HANDOVER_SECONDS"] == seconds
    assert "HANDOVER_SECONDS" not in environment_of(tmp_path, {"routing": {"port": 4004}, **keys}, target=target)


def test_a_factory_with_a_domain_has_no_prefixes(tmp_path: Path) -> None:
    factory = FactoryEnvironment({}, {}, prefixes=False)
    assert "OPENFACTORY_ROOT_PATH" not in environment_of(tmp_path, {"routing": {"port": 4004}}, factory)


def test_metrics_of_an_app_without_web_pages_are_on_the_operations_port(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, {"metrics": {"port": 4005}})
    assert environment["OPERATIONS_PORT"] == "4005"
    assert "PORT" not in environment


def test_replicas_have_uuids_of_their_own_and_share_the_prefix(tmp_path: Path) -> None:
    found = releases(tmp_path, {"deploy": {"replicas": 2}, "routing": {"port": 4004}})
    assert [release.uuid for release in found] == ["Mill_1-1", "Mill_1-2"]
    assert [release.environment["APP_UUID"] for release in found] == ["Mill_1-1", "Mill_1-2"]
    assert [release.environment["DOCKER_SERVICE"] for release in found] == ["mill_1-1", "mill_1-2"]
    assert {release.environment["OPENFACTORY_ROOT_PATH"] for release in found} == {"/mill-1"}


def test_a_swarm_tells_its_tasks(tmp_path: Path) -> None:
    environment = environment_of(tmp_path, {}, target="swarm")
    assert environment["SWARM_TASK_SLOT"] == "{{.Task.Slot}}"
    assert environment["SWARM_REPLICAS"] == "1"
    assert not any(name.startswith("SWARM") for name in environment_of(tmp_path, {}))


def test_a_storage_is_json_with_its_mounts(tmp_path: Path) -> None:
    store = {"type": "nfs", "server": "n.h", "remote_path": "/e/d", "mount_point": "/mnt/d", "description": None}
    (release,) = releases(tmp_path, {"storage": {"data": store}})
    stored = json.loads(release.environment["STORAGE"])
    assert stored == {"data": {"type": "nfs", "server": "n.h", "remote_path": "/e/d", "mount_point": "/mnt/d"}}
    (mount,) = release.mounts
    assert (mount["Type"], mount["Source"], mount["Target"]) == ("volume", "nfs_n_h_e_d", "/mnt/d")


def test_variables_of_the_app_go_before_those_of_its_files(tmp_path: Path) -> None:
    content = "\ufeff# of the mill\nexport SPEED=1\n\nNAME = 'a=b'\nKSQLDB_LOG_LEVEL=INFO\n"
    (tmp_path / "mill.env").write_text(content, encoding="utf-8")
    settings = {"env_file": ["mill.env"], "environment": ["SPEED = 2", "TEXT=a=b"]}
    environment = environment_of(tmp_path, settings)
    assert environment["SPEED"] == "2"
    assert environment["NAME"] == environment["TEXT"] == "a=b"
    assert environment["KSQLDB_LOG_LEVEL"] == "INFO"


@pytest.mark.parametrize("content", ["NAME\n", "=1\n"])
def test_a_line_of_a_file_that_is_no_variable_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "mill.env").write_text(f"A=1\n{content}")
    with pytest.raises(ConfigurationError, match=r"mill\.env:2: .* Write it so"):
        variables_in(tmp_path / "mill.env")


def test_a_missing_file_of_variables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.env cannot be read .* Correct the path"):
        releases(tmp_path, {"env_file": ["absent.env"]})


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"environment": ["APP_UUID=other"]}, "set the key uuid"),
        ({"environment": ["PORT=1"], "routing": {"port": 4004}}, r"set the key routing\.port"),
    ],
)
def test_an_app_does_not_change_what_the_deployment_sets(tmp_path: Path, settings: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        releases(tmp_path, settings)


def test_secrets_are_paths_in_the_environment_and_not_in_the_hash_in_clear(tmp_path: Path) -> None:
    factory = FactoryEnvironment({}, {"nats_token": "of-the-factory"})
    (release,) = releases(tmp_path, {"secrets": {"db_password": "of-the-app"}}, factory)
    assert release.environment["DB_PASSWORD_FILE"] == "/run/secrets/db_password"
    assert release.environment["NATS_TOKEN_FILE"] == "/run/secrets/nats_token"
    assert release.secrets == {"db_password": "of-the-app", "nats_token": "of-the-factory"}
    assert "of-the" not in str(dict(release.environment))
    (other,) = releases(tmp_path, {"secrets": {"db_password": "another"}}, factory)
    assert other.hash != release.hash


def test_an_app_gets_the_servers_and_logins_of_the_deployer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_text("-- certificates --\n")
    for name, value in {
        "KAFKA_BROKER": "broker:9092",
        "KSQLDB_URL": "http://ksqldb:8088",
        "ASSET_ROUTER_URL": "http://router:8002",
        "NATS_CLUSTER_C1": "nats://a:4222, nats://b:4222",
        "NATS_CLUSTER_EMPTY": " ",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "mill",
        "KAFKA_SASL_PASSWORD": "hidden",
        "KAFKA_SSL_CA_FILE": str(authorities),
        "LIVENESS_TIMEOUT": "20",
        "APPLICATION_VERSION": "of the deployer",
        "PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    factory = factory_environment("sqlite:///not-used.db")
    assert factory.secrets == {"kafka_sasl_password": "hidden", "kafka_ssl_ca": "-- certificates --\n"}
    assert factory.variables == {
        "KAFKA_BROKER": "broker:9092",
        "KSQLDB_URL": "http://ksqldb:8088",
        "ASSET_ROUTER_URL": "http://router:8002",
        "NATS_CLUSTER_C1": "nats://a:4222,nats://b:4222",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "mill",
        "LIVENESS_TIMEOUT": "20",
        "OPENFACTORY_LOG_BACKEND": "text",
    }
    environment = environment_of(tmp_path, {}, factory)
    assert environment["KAFKA_SSL_CA_FILE"] == "/run/secrets/kafka_ssl_ca"
    assert environment["KAFKA_SASL_PASSWORD_FILE"] == "/run/secrets/kafka_sasl_password"


def test_data_is_where_the_target_has_it_unless_the_deployer_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = ProcessTarget(Project("hall-2", tmp_path))
    assert factory_environment(target.default_url).variables["KSQLDB_URL"] == (
        f"sqlite:///{tmp_path}/.openfactory/factory.db"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSQLDB_URL", "sqlite:///data.db?keep_events=100")
    assert factory_environment(target.default_url).variables["KSQLDB_URL"] == (
        f"sqlite:///{tmp_path.resolve()}/data.db?keep_events=100"
    )
    monkeypatch.delenv("KSQLDB_URL")
    monkeypatch.setenv("KAFKA_BROKER", "broker:9092")
    with pytest.raises(ConfigurationError, match="Set KSQLDB_URL too"):
        factory_environment(target.default_url)


@pytest.mark.parametrize(
    ("variables", "prefixes"),
    [
        ({}, True),
        ({"OPENFACTORY_BASE_DOMAIN": "factory.local"}, False),
        ({"OPENFACTORY_BASE_DOMAIN": "factory.local", "OPENFACTORY_ENV": "dev"}, True),
    ],
)
def test_prefixes_are_for_development_and_where_there_is_no_domain(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], prefixes: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert factory_environment().prefixes is prefixes


def test_each_variable_is_one_that_apps_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"KSQLDB_URL": "http://ksqldb:8088", "NATS_CLUSTER_C1": "nats://a", "NATS_TOKEN": "x"}.items():
        monkeypatch.setenv(name, value)
    store = {"type": "nfs", "server": "n.h", "remote_path": "/e", "mount_point": "/mnt/d"}
    settings = {"routing": {"port": 4004}, "metrics": {"port": 4005}, "storage": {"data": store}}
    environment = environment_of(tmp_path, settings, factory_environment(), target="swarm")
    known = {*VARIABLES, *CONTRACT_VARIABLES}
    assert [name for name in environment if name not in known] == ["NATS_CLUSTER_C1"]
    assert "NATS_CLUSTER_<NAME>" in known
    assert not set(CONTRACT_VARIABLES) & VARIABLES.keys()
