"""register_asset and deregister_asset: what a deployment tool says of an asset, message by message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.engines import Engine
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import milliseconds_of
from openfactory.exceptions import ConfigurationError, InvalidEventError
from openfactory.kafka import KSQLDBClient
from openfactory.utils import (
    deregister_asset,
    deregister_device_connector,
    register_asset,
    register_device_connector,
)

Open = Callable[..., Asset]
Eventually = Callable[..., None]

UNS = {"levels": {"enterprise": "ACME", "line": "7"}, "uns_id": "ACME/7/mill"}


@pytest.fixture
def client(url: str, engine: Engine) -> KSQLDBClient:
    """A client; the engine stays open beside it."""
    return KSQLDBClient(url)


def said(engine: Engine) -> list[tuple[str, str, str, str]]:
    return [_row(event) for event in engine.history("MILL")]


def _row(event: AssetEvent) -> tuple[str, str, str, str]:
    return (event.id, event.value, event.type, event.tag)


def test_a_registration_is_said_in_this_order(client: KSQLDBClient, engine: Engine) -> None:
    register_asset("MILL", UNS, "Device", client, docker_service="mill-7")
    assert said(engine) == [
        ("AssetType", "Device", "OpenFactory", "AssetType"),
        ("DockerService", "mill-7", "OpenFactory", "DockerService"),
        ("references_below", "", "OpenFactory", "AssetsReferences"),
        ("references_above", "", "OpenFactory", "AssetsReferences"),
        ("enterprise", "ACME", "OpenFactory", "UNSLevel"),
        ("line", "7", "OpenFactory", "UNSLevel"),
        ("uns_id", "ACME/7/mill", "OpenFactory", "UNSId"),
    ]


def test_a_registered_asset_is_in_every_table_when_the_call_returns(client: KSQLDBClient, engine: Engine) -> None:
    register_asset("MILL", UNS, "Device", client, "broker:9092", "mill-7")
    assert engine.types() == {"MILL": "Device"}
    assert engine.uns_map() == {"MILL": "ACME/7/mill"}
    [row] = engine.query("SELECT * FROM asset_to_uns_map")
    assert row["UNS_LEVELS"] == UNS["levels"]
    assert milliseconds_of(row["UPDATED_AT"]) > 1_600_000_000_000
    [row] = engine.query("SELECT * FROM docker_services")
    assert row == {"ASSET_UUID": "MILL", "DOCKER_SERVICE": "mill-7"}


@pytest.mark.parametrize("uns", [None, {}])
def test_an_asset_without_a_place_is_registered_without_one(client: KSQLDBClient, engine: Engine, uns: Any) -> None:
    register_asset("MILL", uns, "Device", client)
    assert [(id, value) for id, value, _, _ in said(engine)] == [
        ("AssetType", "Device"),
        ("DockerService", ""),
        ("references_below", ""),
        ("references_above", ""),
    ]
    assert engine.uns_map() == {}


@pytest.mark.parametrize(
    "uns",
    [
        {"levels": {}},
        {"uns_id": "ACME"},
        {"levels": None, "uns_id": "ACME"},
        {"levels": {"line": 7}, "uns_id": "ACME/7"},
        {"levels": {}, "uns_id": None},
        {"levels": {}, "uns_id": ""},
        "ACME",
    ],
    ids=str,
)
def test_what_is_no_place_is_refused_and_nothing_is_written(client: KSQLDBClient, engine: Engine, uns: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'is not a place in the namespace\. Pass \{"levels"'):
        register_asset("MILL", uns, "Device", client)
    engine.flush()
    assert said(engine) == []
    assert engine.uns_map() == {}


def test_an_asset_that_cannot_be_named_is_refused(client: KSQLDBClient, engine: Engine) -> None:
    with pytest.raises(InvalidEventError):
        register_asset("MILL.1", UNS, "Device", client)
    assert engine.types() == {}
    assert engine.uns_map() == {}


def test_a_deregistration_clears_the_references_in_this_order(client: KSQLDBClient, engine: Engine) -> None:
    register_asset("MILL", UNS, "Device", client)
    before = len(said(engine))
    deregister_asset("MILL", client)
    assert said(engine)[before:] == [
        ("references_below", "", "OpenFactory", "AssetsReferences"),
        ("references_above", "", "OpenFactory", "AssetsReferences"),
    ]


def test_a_deregistered_asset_is_in_no_table_of_the_register_when_the_call_returns(
    client: KSQLDBClient, engine: Engine, open_asset: Open
) -> None:
    register_asset("MILL", UNS, "Device", client, docker_service="mill-7")
    mill = open_asset("MILL")
    mill.add_attribute(AssetAttribute("avail", "AVAILABLE", "Events", "Availability"))
    mill.add_reference_above("CELL")
    assert engine.availability() == {"MILL": "AVAILABLE"}
    deregister_asset("MILL", client, "broker:9092")
    assert engine.types() == engine.availability() == engine.uns_map() == {}
    assert engine.query("SELECT * FROM docker_services") == []
    [row] = engine.query("SELECT uns_id, uns_levels FROM asset_to_uns_map")
    assert row == {"UNS_ID": None, "UNS_LEVELS": None}  # as a Kafka has it: cleared and not gone
    assert mill.type == "UNAVAILABLE"
    assert open_asset("MILL").get_references_above_uuid() == []
    assert open_asset("MILL").avail.value == "AVAILABLE"  # what it said stays readable


def test_an_asset_can_be_registered_anew_as_something_else(client: KSQLDBClient, engine: Engine) -> None:
    register_asset("MILL", UNS, "Device", client)
    register_asset("MILL", {"levels": {"line": "8"}, "uns_id": "ACME/8/mill"}, "MTConnectAgent", client)
    assert engine.types() == {"MILL": "MTConnectAgent"}
    assert engine.uns_map() == {"MILL": "ACME/8/mill"}
    deregister_asset("MILL", client)
    register_asset("MILL", UNS, "Device", client)
    assert engine.types() == {"MILL": "Device"}
    assert engine.uns_map() == {"MILL": "ACME/7/mill"}


def test_deregistering_what_nobody_knows_harms_nobody(client: KSQLDBClient, engine: Engine) -> None:
    register_asset("ROBOT", UNS, "Device", client)
    deregister_asset("MILL", client)
    assert engine.types() == {"ROBOT": "Device"}
    assert engine.uns_map() == {"ROBOT": "ACME/7/mill"}


def test_a_device_connector_needs_a_ksqldb_and_a_device_with_a_uuid(client: KSQLDBClient) -> None:
    with pytest.raises(ConfigurationError, match=r"of the device MILL cannot be written.*URL of a ksqlDB server"):
        register_device_connector({"uuid": "MILL"}, client)
    with pytest.raises(ConfigurationError, match=r"of the device MILL cannot be written"):
        deregister_device_connector("MILL", client)
    with pytest.raises(ConfigurationError, match=r"has no UUID\. Pass a device with a uuid"):
        register_device_connector({"connector": {}}, client)
