"""Attributes declared on the class of an app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openfactory.apps import AttributeField, EventAttribute, OpenFactoryApp, SampleAttribute
from openfactory.assets import Asset, AssetAttribute
from openfactory.exceptions import ConfigurationError, InvalidEventError

pytestmark = pytest.mark.smoke

Start = Callable[..., Any]
Watch = Callable[..., Asset]


class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="App.Status")
    temperature = SampleAttribute(value=21, tag="Temperature")
    coolant = AttributeField(value="NORMAL", type="condition", tag="Coolant")
    unknown = EventAttribute(tag="App.Unknown")


def declared(app: Asset) -> list[str]:
    """The attributes that are neither every app's nor of its registration."""
    others = ("avail", "AssetType", "references_below", "references_above")
    return [
        name
        for name in app.attributes()
        if name not in others and not name.startswith(("application_", "openfactory_"))
    ]


def test_every_instance_has_what_its_class_declares(start: Start, watch: Watch, url: str) -> None:
    mill = start(Mill, url, app_uuid="MILL")
    for asset in (mill, watch("MILL")):
        assert declared(asset) == ["status", "temperature", "coolant", "unknown"]
        said = [(a.value, a.type, a.tag) for a in (asset[name] for name in declared(asset))]
        assert said == [
            ("idle", "Events", "App.Status"),
            (21.0, "Samples", "Temperature"),
            ("NORMAL", "Condition", "Coolant"),
            ("UNAVAILABLE", "Events", "App.Unknown"),
        ]


def test_on_the_class_it_is_the_declaration() -> None:
    assert isinstance(Mill.status, EventAttribute)
    assert Mill.status is Mill.status
    assert (Mill.status.name, Mill.status.value, Mill.status.type, Mill.status.tag) == (
        "status",
        "idle",
        "Events",
        "App.Status",
    )
    assert Mill.temperature.type == "Samples"


def test_on_an_instance_it_is_read_and_written_as_an_attribute(start: Start, watch: Watch, url: str) -> None:
    mill, seen = start(Mill, url, app_uuid="MILL"), watch("MILL")
    assert isinstance(mill.status, AssetAttribute)
    mill.status = "busy"
    mill.temperature = "22.5"
    assert (mill.status.value, mill.temperature.value) == ("busy", 22.5)
    assert seen.wait_until("status", "busy", timeout=60)
    assert seen.status.tag == "App.Status"


def test_instances_have_values_of_their_own(start: Start) -> None:
    one, other = start(Mill, app_uuid="ONE"), start(Mill, app_uuid="OTHER")
    one.status = "busy"
    assert (one.status.value, other.status.value) == ("busy", "idle")
    assert start(Mill, app_uuid="NEW").status.value == "idle"


def test_writing_is_refused_as_for_any_attribute(start: Start) -> None:
    mill = start(Mill)
    with pytest.raises(InvalidEventError):
        mill.temperature = float("nan")
    with pytest.raises(ConfigurationError):
        mill.status = AssetAttribute(id="other", value=1, type="Events", tag="Test")
    assert mill.status.value == "idle"


def test_a_child_has_what_its_parents_declare(start: Start) -> None:
    class Child(Mill):
        tool = EventAttribute(value="T1", tag="Tool")

    assert declared(start(Child)) == ["status", "temperature", "coolant", "unknown", "tool"]


def test_an_override_keeps_the_place_and_says_its_own(start: Start) -> None:
    class Child(Mill):
        tool = EventAttribute(value="T1", tag="Tool")
        status = SampleAttribute(value=7, tag="Child.Status")

    child = start(Child)
    assert declared(child) == ["status", "temperature", "coolant", "unknown", "tool"]
    assert (child.status.value, child.status.type, child.status.tag) == (7.0, "Samples", "Child.Status")


def test_several_bases_come_from_left_to_right(start: Start) -> None:
    class Spindle(OpenFactoryApp):
        speed = SampleAttribute(value=1, tag="Speed")
        status = EventAttribute(value="of the spindle", tag="Spindle.Status")

    class Table(OpenFactoryApp):
        status = EventAttribute(value="of the table", tag="Table.Status")
        load = SampleAttribute(value=2, tag="Load")

    class Both(Spindle, Table):
        own = EventAttribute(value=3, tag="Own")

    both = start(Both)
    assert declared(both) == ["speed", "status", "load", "own"]
    assert both.status.tag == "Spindle.Status"  # as Python resolves the name


def test_a_mixin_that_is_no_app_may_declare(start: Start) -> None:
    class Cooled:
        coolant = EventAttribute(value="on", tag="Coolant")

    class CooledMill(Cooled, OpenFactoryApp): ...

    assert start(CooledMill).coolant.value == "on"


def test_a_child_may_take_a_declaration_away(start: Start) -> None:
    class Child(Mill):
        unknown = None  # type: ignore[assignment]

    child = start(Child)
    assert declared(child) == ["status", "temperature", "coolant"]
    assert child.unknown is None


def test_a_standard_attribute_may_be_declared_anew(start: Start) -> None:
    class Versioned(OpenFactoryApp):
        application_version = EventAttribute(value="7.1", tag="My.Version")

    app = start(Versioned)
    assert (app.application_version.value, app.application_version.tag) == ("7.1", "My.Version")
    assert app.attributes().count("application_version") == 1


def test_a_declaration_is_made_by_names_and_has_a_tag() -> None:
    with pytest.raises(TypeError):
        EventAttribute("idle", "App.Status")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        EventAttribute(value="idle")  # type: ignore[call-arg]


def test_a_type_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'Sample' is not an attribute type"):
        AttributeField(value=1, type="Sample", tag="Test")


def test_a_value_that_cannot_be_carried_is_refused_when_the_app_is_built(start: Start) -> None:
    class Bad(OpenFactoryApp):
        x = SampleAttribute(value=float("nan"), tag="X")

    with pytest.raises(InvalidEventError, match=r"\.x was not written"):
        start(Bad)
