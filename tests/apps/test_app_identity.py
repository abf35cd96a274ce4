"""Who an app is: the attributes that every app has, and what the environment says when it is built."""

from __future__ import annotations

import contextlib
import inspect
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import openfactory.apps
from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.assets import Asset
from openfactory.engines import Engine
from openfactory.exceptions import ConfigurationError, InvalidEventError
from openfactory.kafka import KSQLDBClient

Start = Callable[..., Any]
Watch = Callable[..., Asset]

# Id, value, type and tag, in the order in which they are published.
STANDARD = [
    ("avail", "UNAVAILABLE", "Events", "Availability"),
    ("application_version", "latest", "Events", "Application.Version"),
    ("application_manufacturer", "OpenFactoryIO", "Events", "Application.Manufacturer"),
    ("application_license", "BSD-3-Clause license", "Events", "Application.License"),
    ("openfactory_manufacturer", "OpenFactoryIO", "Events", "Library.Manufacturer"),
    ("openfactory_license", "Polyform Noncommercial License 1.0.0", "Events", "Library.License"),
    ("openfactory_version", openfactory.apps.__version__, "Events", "Library.Version"),
]


class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="App.Status")

    @ofa_method(description="Move")
    def move(self, x: float) -> None: ...


def test_every_app_says_the_standard_attributes(start: Start, watch: Watch, url: str) -> None:
    start(OpenFactoryApp, url, app_uuid="MILL")
    seen = watch("MILL")
    assert [(one.id, one.value, one.type, one.tag) for one in (seen[id] for id, *_ in STANDARD)] == STANDARD


def test_what_an_app_says_comes_in_order(start: Start, engine: Engine, url: str) -> None:
    start(Mill, url, app_uuid="MILL")
    ids = [event.id for event in engine.snapshot(["MILL"]).events["MILL"]]
    registration = ["AssetType", "references_below", "references_above"]
    assert ids == ["AssetOwner", "move_CONTRACT", "move", *(id for id, *_ in STANDARD), "status", *registration]


def test_the_environment_is_read_when_an_app_is_built(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_UUID", "FROM-ENVIRONMENT")
    monkeypatch.setenv("APPLICATION_VERSION", "7.1")
    monkeypatch.setenv("APPLICATION_MANUFACTURER", "ACME")
    monkeypatch.setenv("APPLICATION_LICENSE", "MIT")
    monkeypatch.setenv("KAFKA_BROKER", "broker:9092")
    monkeypatch.setenv("ASSET_ROUTER_URL", "http://router:8002")
    app = start(OpenFactoryApp)
    assert app.asset_uuid == "FROM-ENVIRONMENT"
    assert app.application_version.value == "7.1"
    assert app.application_manufacturer.value == "ACME"
    assert app.application_license.value == "MIT"
    assert app.bootstrap_servers == "broker:9092"
    assert app.asset_router_url == "http://router:8002"
    monkeypatch.setenv("APPLICATION_VERSION", "8")
    assert app.application_version.value == "7.1"
    assert start(OpenFactoryApp, app_uuid="NEXT").application_version.value == "8"


def test_without_an_environment_the_defaults_hold(start: Start) -> None:
    app = start(OpenFactoryApp)
    assert app.asset_uuid == "DEV-UUID"
    assert app.bootstrap_servers is None
    assert app.asset_router_url is None
    assert app.storage is None


def test_an_argument_wins_over_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_UUID", "FROM-ENVIRONMENT")
    monkeypatch.setenv("KAFKA_BROKER", "broker:9092")
    app = start(OpenFactoryApp, app_uuid="GIVEN", bootstrap_servers="mine:9092", asset_router_url="http://mine")
    assert (app.asset_uuid, app.bootstrap_servers, app.asset_router_url) == ("GIVEN", "mine:9092", "http://mine")


@pytest.mark.parametrize(
    ("environment", "uuid"),
    [
        ({"APP_UUID": "MILL", "SWARM_REPLICAS": "3", "SWARM_TASK_SLOT": "2"}, "MILL-2"),
        ({"APP_UUID": "MILL", "SWARM_REPLICAS": "1", "SWARM_TASK_SLOT": "2"}, "MILL"),
        ({"APP_UUID": "MILL", "SWARM_TASK_SLOT": "2"}, "MILL"),
        ({"SWARM_REPLICAS": "2", "SWARM_TASK_SLOT": "1"}, "DEV-UUID-1"),
        ({"APP_UUID": "", "SWARM_REPLICAS": ""}, "DEV-UUID"),
    ],
)
def test_a_replica_has_a_uuid_of_its_own(
    start: Start, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], uuid: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert start(OpenFactoryApp).asset_uuid == uuid


@pytest.mark.parametrize(
    ("environment", "error", "said"),
    [
        ({"SWARM_REPLICAS": "3"}, ConfigurationError, "Set SWARM_TASK_SLOT to the number of this replica"),
        ({"SWARM_REPLICAS": "many"}, ConfigurationError, "SWARM_REPLICAS='many' is not a whole number"),
        ({"APP_UUID": "cell.mill"}, InvalidEventError, "Use '-' or '_' in its place"),
        ({"APP_UUID": "a mill"}, InvalidEventError, "Leave out white space"),
    ],
)
def test_an_environment_that_cannot_be_used_says_what_to_do(
    start: Start, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], error: type[Exception], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=said):
        start(OpenFactoryApp)


def test_the_constructor_takes_what_the_page_says_in_its_order() -> None:
    parameters = inspect.signature(OpenFactoryApp).parameters.values()
    by_position = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [(one.name, one.default) for one in by_position] == [
        ("ksqlClient", inspect.Parameter.empty),
        ("bootstrap_servers", None),
        ("asset_router_url", None),
        ("loglevel", "INFO"),
        ("test_mode", False),
    ]
    assert all(one.kind is one.KEYWORD_ONLY for one in parameters if one not in by_position)


def test_an_app_without_a_place_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="set KSQLDB_URL"):
        OpenFactoryApp(None)


def test_an_app_has_a_logger_of_its_own(start: Start) -> None:
    app = start(OpenFactoryApp, app_uuid="logger-of-its-own", loglevel="debug")
    assert app.logger.name == "logger-of-its-own"
    assert app.logger.level == 10
    [handler] = app.logger.handlers
    record = app.logger.makeRecord("x", 20, "f", 1, "started with %d", (7,), None)
    assert handler.format(record).startswith("[LOGGER-OF-ITS-OWN] (")
    assert handler.format(record).endswith(") INFO started with 7")


def banner_of(app: OpenFactoryApp) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app.welcome_banner()
    return printed.getvalue()


def test_the_banner_says_who_starts(start: Start, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLICATION_VERSION", "7.1")
    monkeypatch.setenv("APPLICATION_MANUFACTURER", "ACME")
    text = banner_of(start(OpenFactoryApp, url, app_uuid="MILL"))
    for said in ("MILL", "7.1", "ACME", "BSD-3-Clause license", openfactory.apps.__version__, "OpenFactoryIO", url):
        assert said in text
    assert "Polyform Noncommercial License 1.0.0" in text


def test_the_banner_can_be_another(start: Start) -> None:
    class Quiet(OpenFactoryApp):
        def welcome_banner(self) -> None:
            print("my own banner")

        def main_loop(self) -> None: ...

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        start(Quiet).run()
    assert printed.getvalue() == "my own banner\n"


def test_what_users_code_reads_of_an_app_is_there(start: Start, url: str) -> None:
    client = KSQLDBClient(url)
    app = OpenFactoryApp(client, "broker:9092", "http://router", "INFO", app_uuid="MILL")
    try:
        assert app.ksql is client
        assert (app.bootstrap_servers, app.asset_router_url) == ("broker:9092", "http://router")
    finally:
        app.shutdown()
        client.close()


@pytest.mark.parametrize("level", ["DEBUG", "ERROR"])
def test_a_level_that_the_program_has_set_for_the_library_stays(level: str) -> None:
    program = f"""
import logging
logging.getLogger("openfactory").setLevel({level!r})
from openfactory.apps import OpenFactoryApp
OpenFactoryApp(None, test_mode=True).shutdown()
print(logging.getLevelName(logging.getLogger("openfactory").level))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.stdout.split() == [level], found.stderr
