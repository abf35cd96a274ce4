"""The asset router: it names the cluster of each asset as existing routers do, and core's client understands it."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from openfactory.engines.base import EngineHealth
from openfactory.engines.fanout.router import AssetRouter
from openfactory.fanout.router import AssetRouterApp
from running_services import FANOUT, StartService

SERVERS = {"C1": ("nats://one:4222", "nats://two:4222"), "C2": ("nats://app:secret@three:4222",)}
IN_ENVIRONMENT = {f"NATS_CLUSTER_{name}": ",".join(servers) for name, servers in SERVERS.items()}

# As the core's client and others write them, in a URL.
ODD_UUIDS = ("a b/c?d=é#%20", "plant/mill", "/plant//mill/", "100%", "ünïcode", "a%2Fb", "a+b&c")


@pytest.fixture
def router() -> Iterator[AssetRouterApp]:
    router = AssetRouterApp(None, clusters=SERVERS, test_mode=True)
    yield router
    router.shutdown()


@pytest.mark.smoke
def test_a_router_that_runs_answers_the_client_of_core(start_service: StartService) -> None:
    service = start_service("router", "--port", "0", **IN_ENVIRONMENT)
    url = f"http://127.0.0.1:{service.port}"
    client = AssetRouter(url, timeout=30)
    assert client.servers_of("OPCUA-SENSOR-001") == SERVERS["C1"]
    assert client.servers_of("cnc") == SERVERS["C2"]
    for asset_uuid in ODD_UUIDS:
        assert json.loads(service.ask(f"/asset/{quote(asset_uuid, safe='')}").text)["asset_id"] == asset_uuid
        assert client.servers_of(asset_uuid)
    client.close()
    assert service.ask("/asset/plant/mill").text == service.ask("/asset/plant%2Fmill").text
    assert service.ask("/health/ready").text == '{"status": "ready"}\n'
    assert 'openfactory_router_answers_total{cluster="C1"}' in service.ask("/metrics").text
    service.process.send_signal(signal.SIGTERM)
    assert service.ends() == 0
    written = service.log + service.out.read_text()
    assert "NATS cluster C2: nats://three:4222" in written
    assert "secret" not in written
    assert "/asset/" not in written


def test_the_answer_has_one_server_and_all(router: AssetRouterApp) -> None:
    pages = router.test_client()
    assert pages.get("/asset/app-scheduler").json == {
        "asset_id": "app-scheduler",
        "cluster_name": "C1",
        "nats_url": "nats://one:4222",
        "nats_urls": ["nats://one:4222", "nats://two:4222"],
    }
    # With its login: watchers need it.
    assert pages.get("/asset/cnc").json["nats_url"] == "nats://app:secret@three:4222"  # type: ignore[index]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/asset/", 404), ("GET", "/assets/MILL", 404), ("POST", "/asset/MILL", 405)],
)
def test_an_error_is_json(router: AssetRouterApp, method: str, path: str, status: int) -> None:
    response = router.test_client().open(path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/json"
    assert response.json is not None
    assert set(response.json) == {"detail"}
    assert response.json["detail"]
    assert ("Allow" in response.headers) is (status == 405)


def test_an_error_of_its_own_is_json_and_in_the_log(
    router: AssetRouterApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(key: str) -> str:
        raise RuntimeError("the ring is broken")

    monkeypatch.setattr(router.ring, "node_of", fail)
    router.logger.addHandler(caplog.handler)
    response = router.test_client().get("/asset/MILL")
    router.logger.removeHandler(caplog.handler)
    assert (response.status_code, response.content_type) == (500, "application/json")
    assert "the ring is broken" not in response.text
    assert "the ring is broken" in caplog.text


def test_the_answers_of_each_cluster_are_counted(router: AssetRouterApp) -> None:
    pages = router.test_client()
    for asset_uuid in ("app-scheduler", "testasset", "cnc"):
        pages.get(f"/asset/{asset_uuid}")
    text = pages.get("/metrics").text
    assert 'openfactory_router_answers_total{cluster="C1"} 2.0' in text
    assert 'openfactory_router_answers_total{cluster="C2"} 1.0' in text
    assert "secret" not in text


def test_requests_are_not_logged(router: AssetRouterApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    router.logger.addHandler(caplog.handler)
    router.test_client().get("/asset/MILL")
    router.logger.removeHandler(caplog.handler)
    assert "MILL" not in caplog.text


def test_a_router_is_ready_without_its_factory(router: AssetRouterApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router._engine, "health", lambda: EngineHealth(False, "No broker answers."))
    pages = router.test_client()
    assert "No broker answers." not in pages.get("/health/ready").text
    assert "openfactory_engine_connected 0.0" in pages.get("/metrics").text
    assert pages.get("/asset/MILL").status_code == 200


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "No NATS cluster is configured. Set NATS_CLUSTER_<NAME>"),
        ({**IN_ENVIRONMENT, "LOG_LEVEL": "loud"}, "'loud' is not a log level. Use DEBUG, INFO"),
    ],
)
def test_a_wrong_environment_is_one_line_with_the_remedy(environment: dict[str, str], sentence: str) -> None:
    command = [sys.executable, *FANOUT, "router", "--port", "0"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert found.returncode == 1
    assert found.stderr.startswith(sentence)
    assert found.stderr.count("\n") == 1


def test_each_router_is_an_asset_of_its_own_where_a_factory_is_named(
    start_service: StartService, tmp_path: Path
) -> None:
    # A file: the services then work without the factory, which is not on a Kafka.
    first, second = (
        start_service("router", "--port", "0", KSQLDB_URL=f"sqlite:///{tmp_path}/factory.db", **IN_ENVIRONMENT)
        for _ in range(2)
    )
    assert first.ask("/asset/MILL").text == second.ask("/asset/MILL").text
    assert not (tmp_path / "factory.db").exists()
    names = [service.log.partition("[")[2].partition("]")[0] for service in (first, second)]
    assert len(set(names)) == 2
    assert all(name.startswith("ASSET-ROUTER-") for name in names)
