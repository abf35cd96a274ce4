"""Tests of the register: how an asset gets into the register, and out of it."""

from __future__ import annotations

import time

from openfactory.engines import Engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration

__all__ = ["RegisteringConformance"]

_LEVELS = {"enterprise": "ACME", "line": "7"}


def _register(engine: Engine, asset_uuid: str) -> None:
    engine.register(
        Registration(
            asset_uuid,
            "Device",
            docker_service="mill-7",
            references={"references_above": "CELL", "references_below": ""},
            uns_id="ACME/7/mill",
            uns_levels=_LEVELS,
        )
    )
    engine.flush()


def _publish(engine: Engine, asset_uuid: str, attribute_id: str, value: str, type: str = "OpenFactory") -> None:
    engine.publish(new_event(asset_uuid, attribute_id, value, type, "Test")).wait()


class RegisteringConformance:
    """Tests of `register`, `deregister`, `types`, `availability` and `uns_map`."""

    def test_a_registration_writes_its_events(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        events = engine.snapshot([asset_uuid]).events[asset_uuid]
        assert [(event.id, event.value, event.type, event.tag) for event in events] == [
            ("AssetType", "Device", "OpenFactory", "AssetType"),
            ("DockerService", "mill-7", "OpenFactory", "DockerService"),
            ("references_below", "", "OpenFactory", "AssetsReferences"),
            ("references_above", "CELL", "OpenFactory", "AssetsReferences"),
            ("enterprise", "ACME", "OpenFactory", "UNSLevel"),
            ("line", "7", "OpenFactory", "UNSLevel"),
            ("uns_id", "ACME/7/mill", "OpenFactory", "UNSId"),
        ]

    def test_a_registration_writes_only_the_given_fields(self, engine: Engine, asset_uuid: str) -> None:
        engine.register(Registration(asset_uuid, "Device"))
        engine.flush()
        assert [event.id for event in engine.snapshot([asset_uuid]).events[asset_uuid]] == ["AssetType"]
        assert asset_uuid not in engine.uns_map()

    def test_a_registered_asset_has_a_type_and_a_uns_id(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        assert engine.types([asset_uuid]) == {asset_uuid: "Device"}
        assert engine.types()[asset_uuid] == "Device"
        assert engine.uns_map()[asset_uuid] == "ACME/7/mill"

    def test_of_two_assets_at_one_place_the_last_is_last_in_the_map(self, engine: Engine, asset_uuid: str) -> None:
        for number in ("2", "1", "3", "1"):
            now = time.time_ns() // 1_000_000
            while time.time_ns() // 1_000_000 == now:  # the map has times in milliseconds
                pass
            engine.register(Registration(f"{asset_uuid}-{number}", "Device", uns_id=f"{asset_uuid}/mill"))
            engine.flush()
            here = [uuid for uuid, uns_id in engine.uns_map().items() if uns_id == f"{asset_uuid}/mill"]
            assert here[-1] == f"{asset_uuid}-{number}"

    def test_types_contains_only_the_requested_assets(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        _register(engine, f"{asset_uuid}-2")
        assert engine.types([asset_uuid, f"{asset_uuid}-unknown"]) == {asset_uuid: "Device"}
        assert engine.types([]) == {}
        assert {asset_uuid, f"{asset_uuid}-2"} <= engine.types().keys()

    def test_events_alone_do_not_register_an_asset(self, engine: Engine, asset_uuid: str) -> None:
        _publish(engine, asset_uuid, "speed", "7", "Events")
        _publish(engine, asset_uuid, "AssetType", "Device", "Events")
        assert engine.types([asset_uuid]) == {}

    def test_the_last_type_that_an_asset_writes_counts(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        _publish(engine, asset_uuid, "AssetType", "Prometheus.Registry")
        assert engine.types([asset_uuid]) == {asset_uuid: "Prometheus.Registry"}

    def test_the_last_availability_that_an_asset_writes_counts(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        assert engine.availability([asset_uuid]) == {}
        _publish(engine, asset_uuid, "avail", "AVAILABLE", "Events")
        assert engine.availability([asset_uuid]) == {asset_uuid: "AVAILABLE"}
        _publish(engine, asset_uuid, "agent_avail", "UNAVAILABLE", "Events")
        assert engine.availability()[asset_uuid] == "UNAVAILABLE"
        assert engine.availability([f"{asset_uuid}-unknown"]) == {}

    def test_deregistering_removes_an_asset_from_the_register(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        _register(engine, f"{asset_uuid}-2")
        _publish(engine, asset_uuid, "avail", "AVAILABLE", "Events")
        engine.deregister(asset_uuid)
        engine.flush()
        assert engine.types([asset_uuid]) == {}
        assert engine.availability([asset_uuid]) == {}
        assert asset_uuid not in engine.uns_map()
        assert engine.types([f"{asset_uuid}-2"]) == {f"{asset_uuid}-2": "Device"}

    def test_events_of_a_deregistered_asset_stay_readable(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        _publish(engine, asset_uuid, "speed", "7", "Events")
        engine.deregister(asset_uuid)
        engine.flush()
        values = {event.id: event.value for event in engine.snapshot([asset_uuid]).events[asset_uuid]}
        assert values["speed"] == "7"
        assert values["DockerService"] == "mill-7"
        assert [event.value for event in engine.history(asset_uuid, "speed")] == ["7"]

    def test_a_deregistered_asset_can_register_again(self, engine: Engine, asset_uuid: str) -> None:
        for _ in range(2):  # in quick succession
            _register(engine, asset_uuid)
            engine.deregister(asset_uuid)
        engine.register(Registration(asset_uuid, "OpenFactoryApp", uns_id="ACME/8/mill", uns_levels={"line": "8"}))
        engine.flush()
        assert engine.types([asset_uuid]) == {asset_uuid: "OpenFactoryApp"}
        assert engine.uns_map()[asset_uuid] == "ACME/8/mill"
        assert engine.availability([asset_uuid]) == {}  # the asset has not written it again
        _publish(engine, asset_uuid, "avail", "AVAILABLE", "Events")
        assert engine.availability([asset_uuid]) == {asset_uuid: "AVAILABLE"}

    def test_the_type_delete_removes_an_asset_from_the_register(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        for type in ("OpenFactory", "UNAVAILABLE"):
            _publish(engine, asset_uuid, "AssetType", "delete", type)
            assert engine.types([asset_uuid]) == {}
            _publish(engine, asset_uuid, "AssetType", "Device")
            assert engine.types([asset_uuid]) == {asset_uuid: "Device"}

    def test_the_availability_delete_removes_the_availability(self, engine: Engine, asset_uuid: str) -> None:
        _register(engine, asset_uuid)
        _publish(engine, asset_uuid, "avail", "AVAILABLE", "Events")
        _publish(engine, asset_uuid, "avail", "delete", "Events")
        assert engine.availability([asset_uuid]) == {}

    def test_an_unknown_asset_can_be_deregistered(self, engine: Engine, asset_uuid: str) -> None:
        engine.deregister(asset_uuid)
        engine.flush()
        assert engine.types([asset_uuid]) == {}
        assert asset_uuid not in engine.snapshot([asset_uuid]).events
