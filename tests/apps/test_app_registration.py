"""An app is on the register while it runs, as what it was before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openfactory.apps import OpenFactoryApp
from openfactory.assets import Asset
from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration

Start = Callable[..., Any]
Watch = Callable[..., Asset]

DEPLOYED = Registration(
    "MILL",
    "OpenFactoryApp",
    docker_service="mill",
    references={"references_below": "TOOL-1, TOOL-2", "references_above": "CELL"},
    uns_id="ACME/7/mill",
    uns_levels={"enterprise": "ACME", "line": "7"},
)


def said(engine: Engine) -> dict[str, object]:
    """What the asset says of its registration."""
    ids = {"AssetType", "DockerService", "references_below", "references_above", "enterprise", "line", "uns_id"}
    return {event.id: event.value for event in engine.snapshot(["MILL"]).events["MILL"] if event.id in ids}


def register(engine: Engine, registration: Registration = DEPLOYED) -> None:
    engine.register(registration)
    engine.flush()


def test_an_app_registers_itself_when_it_is_built(start: Start, watch: Watch, engine: Engine, url: str) -> None:
    app = start(OpenFactoryApp, url, app_uuid="MILL")
    assert app.type == watch("MILL").type == "OpenFactoryApp"
    assert engine.types() == {"MILL": "OpenFactoryApp"}
    assert engine.availability() == {"MILL": "UNAVAILABLE"}
    assert said(engine) == {"AssetType": "OpenFactoryApp", "references_below": "", "references_above": ""}
    tags = {event.id: (event.type, event.tag) for event in engine.snapshot(["MILL"]).events["MILL"]}
    assert tags["AssetType"] == ("OpenFactory", "AssetType")
    assert tags["references_above"] == ("OpenFactory", "AssetsReferences")


def test_an_app_that_is_registered_already_leaves_that_as_it_is(start: Start, engine: Engine, url: str) -> None:
    register(engine)
    before = {event.id: event for event in engine.snapshot(["MILL"]).events["MILL"]}
    place = engine.query("SELECT * FROM asset_to_uns_map")
    app = start(OpenFactoryApp, url, app_uuid="MILL")
    after = {event.id: event for event in engine.snapshot(["MILL"]).events["MILL"]}
    assert {id: after[id] for id in before} == before
    assert engine.query("SELECT * FROM asset_to_uns_map") == place
    assert app.references_below.value == "TOOL-1, TOOL-2"


def test_a_stopped_app_is_off_the_register(start: Start, engine: Engine, url: str) -> None:
    register(engine)
    start(OpenFactoryApp, url, app_uuid="MILL").shutdown()
    assert engine.types() == engine.availability() == engine.uns_map() == {}
    assert engine.query("SELECT * FROM docker_services") == []


def test_an_app_that_starts_again_is_back_as_what_it_was(start: Start, engine: Engine, url: str) -> None:
    register(engine)
    before = said(engine)
    for _ in range(2):
        start(OpenFactoryApp, url, app_uuid="MILL").shutdown()
    start(OpenFactoryApp, url, app_uuid="MILL")
    assert said(engine) == before
    assert engine.types() == {"MILL": "OpenFactoryApp"}
    assert engine.uns_map() == {"MILL": "ACME/7/mill"}
    assert engine.query("SELECT * FROM docker_services") == [{"ASSET_UUID": "MILL", "DOCKER_SERVICE": "mill"}]
    [place] = engine.query("SELECT uns_levels FROM asset_to_uns_map")
    assert place == {"UNS_LEVELS": {"enterprise": "ACME", "line": "7"}}


def test_an_app_that_is_more_than_an_app_stays_so(start: Start, engine: Engine, url: str) -> None:
    app = start(OpenFactoryApp, url, app_uuid="MILL")
    app.AssetType = "Prometheus.Registry"
    assert app.wait_until(attribute_id="AssetType", value="Prometheus.Registry", timeout=60)
    app.shutdown()
    start(OpenFactoryApp, url, app_uuid="MILL")
    assert engine.types() == {"MILL": "Prometheus.Registry"}


def test_what_the_deployment_says_between_two_runs_is_kept(start: Start, engine: Engine, url: str) -> None:
    start(OpenFactoryApp, url, app_uuid="MILL").shutdown()
    register(engine)
    start(OpenFactoryApp, url, app_uuid="MILL")
    assert said(engine)["DockerService"] == "mill"
    assert said(engine)["references_above"] == "CELL"
    assert engine.uns_map() == {"MILL": "ACME/7/mill"}


def test_an_app_that_was_deleted_comes_back_as_an_app(start: Start, engine: Engine, url: str) -> None:
    register(engine)
    engine.publish(new_event("MILL", "AssetType", "delete", "OpenFactory", "AssetType")).wait()
    start(OpenFactoryApp, url, app_uuid="MILL")
    assert engine.types() == {"MILL": "OpenFactoryApp"}


def test_what_an_app_said_stays_readable_when_it_is_gone(start: Start, watch: Watch, url: str, engine: Engine) -> None:
    start(OpenFactoryApp, url, app_uuid="MILL").shutdown()
    seen = watch("MILL")
    assert seen.avail.value == "UNAVAILABLE"
    assert seen.application_version.value == "latest"
    assert seen.type == "UNAVAILABLE"


def test_a_registration_is_there_when_the_app_is_built(start: Start, engine: Engine, url: str) -> None:
    """Who waits for `AssetType` in the app's own code finds it at once."""
    app = start(OpenFactoryApp, url, app_uuid="MILL")
    assert app.wait_until(attribute_id="AssetType", value="OpenFactoryApp", timeout=0)
