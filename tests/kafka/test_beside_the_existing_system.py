"""Beside the existing system in one cluster: its columns, and a register that both keep, where its tables lag."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from ksqldb_factory import KsqlDBFactory
from openfactory.apps.cli.root import ofa
from openfactory.assets import Asset, AssetUNS
from openfactory.engines import Engine, open_engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.events.timestamp import milliseconds_of
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from openfactory.utils import deregister_asset, register_asset
from servers import KafkaBroker
from workers.bare_log import append

# Of a server with its defaults.
LAG = 0.15

TOMBSTONES = ("assets_types_topic", "assets_avail_topic", "docker_services_topic")


@pytest.fixture(scope="module", params=[True, False], ids=["existing", "ours"])
def factory(request: pytest.FixtureRequest, kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, existing=request.param) as factory:
        yield factory


@pytest.fixture
def client(factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[KSQLDBClient]:
    """A client; the tables lag behind the log, until the test has ended."""
    with KSQLDBClient(factory.entered(monkeypatch)) as client:
        assert client.engine.tables()
        factory.register.lag = LAG
        yield client
        factory.register.lag = 0.0
        factory.updated_at = str


@pytest.fixture(params=["ksqldb", "kafka"])
def writer(request: pytest.FixtureRequest, factory: KsqlDBFactory, client: KSQLDBClient) -> Iterator[Engine]:
    """The engine on the ksqlDB, or on Kafka alone beside it."""
    if request.param == "ksqldb":
        yield client.engine
        return
    with open_engine(f"kafka://{factory.bootstrap_servers}?prefix={factory.prefix}") as reference:
        yield reference.engine


def rows_of(factory: KsqlDBFactory, *asset_uuids: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of some assets in the register, after all that was written has passed."""
    factory.register.lag = 0.0
    names = ", ".join(f"'{asset_uuid}'" for asset_uuid in asset_uuids)
    found: dict[str, list[dict[str, Any]]] = {}
    for table in ("assets_type", "assets_avail", "docker_services"):
        if rows := factory.register.select(f"SELECT * FROM {table} WHERE asset_uuid IN ({names})"):  # noqa: S608
            found[table] = rows
    return found


def deregister_elsewhere(factory: KsqlDBFactory, asset_uuid: str) -> None:
    """Write what the existing system writes: no event, three tombstones and a place that is empty."""
    place = b'{"asset_uuid": null, "uns_id": null, "uns_levels": null, "updated_at": %d}' % (time.time() * 1000)
    append(factory.bootstrap_servers, f"{factory.prefix}asset_to_uns_map_topic", (asset_uuid, place))
    for topic in TOMBSTONES:
        append(factory.bootstrap_servers, factory.prefix + topic, (asset_uuid, None))


def test_deregistration_leaves_no_row_where_the_tables_lag(
    factory: KsqlDBFactory, client: KSQLDBClient, writer: Engine, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.id
    kept = f"KEPT-{kind}"
    writer.register(Registration(kept, "Device", "kept"))
    writer.publish(new_event(kept, "avail", "AVAILABLE", "Events", "Availability"))
    writer.flush()
    eventually(lambda: factory.register.select("SELECT * FROM assets_avail"))  # a table without rows is read for 2 s
    times = 50 if kind == "existing-ksqldb" else 5
    asset_uuids = [f"APP-{kind}-{number}" for number in range(times)]
    for number, asset_uuid in enumerate(asset_uuids):
        uns_id = f"{kind}/{number % 3}"
        writer.register(Registration(asset_uuid, "OpenFactoryApp", "app", uns_id=uns_id))
        writer.publish(new_event(asset_uuid, "avail", "AVAILABLE", "Events", "Availability"))
        writer.publish(new_event(asset_uuid, "avail", "UNAVAILABLE", "Events", "Availability"))
        writer.flush()
        if number % 10 == 0:  # mostly the tables have not seen it when it is deregistered
            assert [uuid for uuid, place in client.engine.uns_map().items() if place == uns_id] == [asset_uuid]
            assert client.engine.types([asset_uuid]) == {asset_uuid: "OpenFactoryApp"}
        writer.deregister(asset_uuid)
        writer.flush()
        assert client.engine.types([asset_uuid]) == client.engine.availability([asset_uuid]) == {}
        assert asset_uuid not in client.engine.uns_map()
    assert rows_of(factory, *asset_uuids) == {}
    assert rows_of(factory, kept).keys() == {"assets_type", "assets_avail", "docker_services"}


def test_an_asset_that_registers_again_keeps_its_row(factory: KsqlDBFactory, client: KSQLDBClient) -> None:
    for _ in range(10):
        register_asset("SAW", {"levels": {}, "uns_id": "plant/saw"}, "Device", client)
        deregister_asset("SAW", client)
    register_asset("SAW", {"levels": {}, "uns_id": "plant/saw"}, "Device", client, docker_service="saw")
    with AssetUNS("plant/saw", client, start_mapping_watcher=False) as saw:
        assert (saw.asset_uuid, saw.type) == ("SAW", "Device")
    assert rows_of(factory, "SAW") == {
        "assets_type": [{"ASSET_UUID": "SAW", "TYPE": "Device"}],
        "docker_services": [{"ASSET_UUID": "SAW", "DOCKER_SERVICE": "saw"}],
    }


def test_a_deregistration_elsewhere_is_followed_at_once(factory: KsqlDBFactory, client: KSQLDBClient) -> None:
    with Asset("LATHE", client) as lathe:
        register_asset("LATHE", None, "Device", client)
        client.engine.publish(new_event("LATHE", "avail", "AVAILABLE", "Events", "Availability")).wait()
        assert lathe.type == "Device"
        eventually(lambda: factory.register.select("SELECT * FROM assets_avail WHERE asset_uuid = 'LATHE'"))
        deregister_elsewhere(factory, "LATHE")
        assert lathe.type == "UNAVAILABLE"
        assert client.engine.types(["LATHE"]) == {}
        assert "LATHE" not in client.engine.types()
        assert client.engine.availability(["LATHE"]) == {}
        assert "LATHE" not in CliRunner().invoke(ofa, ["asset", "ls"]).stdout
        register_asset("LATHE", None, "Device", client)
        assert lathe.type == "Device"


def test_tables_that_do_not_follow_are_reported(
    factory: KsqlDBFactory, client: KSQLDBClient, caplog: pytest.LogCaptureFixture
) -> None:
    factory.register.lag = 600.0
    client.engine.register(Registration("DRILL", "Device"))
    client.engine.deregister("DRILL")
    client.engine.flush()
    [text] = [record.getMessage() for record in caplog.records if "may show DRILL again" in record.getMessage()]
    assert text.endswith("Check it with `ofa doctor`, then call deregister_asset() again.")


def next_millisecond() -> None:
    """Wait, because the map tells times to the millisecond."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now:
        pass


FORMS: dict[str, Callable[[str], Any]] = {
    "TIMESTAMP": str,
    "with its zone": lambda text: f"{text}Z",
    "milliseconds": milliseconds_of,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_place_is_found_whatever_the_form_of_its_time(
    factory: KsqlDBFactory, client: KSQLDBClient, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("openfactory.engines.ksqldb.engine.LAG_SECONDS", 0.0)  # the table alone tells
    factory.updated_at = FORMS[form]
    uns_id = f"plant/{form}"
    for asset_uuid in ("MILL-2", "MILL-1", "MILL-3"):
        next_millisecond()
        register_asset(asset_uuid, {"levels": {}, "uns_id": uns_id}, "Device", client)
        with AssetUNS(uns_id, client, start_mapping_watcher=False) as mill:
            assert mill.asset_uuid == asset_uuid
