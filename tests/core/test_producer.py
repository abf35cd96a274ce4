"""The producer of an asset: writes for any asset, as attributes or as messages of the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.engines import Engine
from openfactory.events.event import AssetEvent
from openfactory.exceptions import ConfigurationError, InvalidEventError

Open = Callable[..., Asset]

WHEN = "2026-11-21T07:30:00.000Z"


@pytest.fixture
def cell(open_asset: Open) -> Asset:
    return open_asset("CELL")


def last(engine: Engine, asset_uuid: str = "MILL") -> AssetEvent:
    return engine.history(asset_uuid)[-1]


def test_an_attribute_of_any_asset_is_written(cell: Asset, engine: Engine) -> None:
    attribute = AssetAttribute(id="speed", value=7, type="Samples", tag="Speed", timestamp=WHEN)
    cell.producer.send_asset_attribute(asset_uuid="MILL", assetAttribute=attribute)
    cell.producer.flush()
    event = last(engine)
    assert event == AssetEvent("MILL", "speed", 7, "Samples", "Speed", WHEN, event.position)


@pytest.mark.parametrize("key", ["timestamp", "TIMESTAMP"])
def test_a_timestamp_beside_an_attribute_stands_for_its_own(cell: Asset, engine: Engine, key: str) -> None:
    attribute = AssetAttribute(id="speed", value=7, type="Samples", tag="Speed")
    cell.producer.send_asset_attribute("MILL", attribute, {key: WHEN, "ingestion_timestamp": "later"})
    cell.producer.flush()
    assert last(engine).timestamp == WHEN
    assert last(engine).attributes == {"ingestion_timestamp": "later"}
    assert attribute.timestamp != WHEN


def test_a_property_that_cannot_be_carried_is_refused(cell: Asset, engine: Engine) -> None:
    attribute = AssetAttribute(id="speed", value=7, type="Samples", tag="Speed")
    with pytest.raises(InvalidEventError, match=r"MILL\.speed was not written: .* bytes"):
        cell.producer.send_asset_attribute("MILL", attribute, {"picture": b"\x89PNG"})
    assert engine.history("MILL") == []


@pytest.mark.parametrize("timestamp", [7, "", "\n", ["now"]])
def test_a_timestamp_that_cannot_be_carried_is_refused_or_left_out(cell: Asset, engine: Engine, timestamp: Any) -> None:
    attribute = AssetAttribute(id="speed", value=7, type="Samples", tag="Speed")
    if timestamp:
        with pytest.raises(InvalidEventError, match="its timestamp is"):
            cell.producer.send_asset_attribute("MILL", attribute, {"timestamp": timestamp})
    else:
        cell.producer.send_asset_attribute("MILL", attribute, {"timestamp": timestamp}).wait()
        assert last(engine).timestamp.startswith("20")


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", "", {"x": [1, 2]}, "größer 🏭"], ids=repr)
def test_a_message_is_read_as_it_stands_on_the_wire(cell: Asset, engine: Engine, value: object) -> None:
    message = {"ID": "status", "VALUE": value, "TAG": "Status", "TYPE": "Events", "attributes": {"timestamp": WHEN}}
    cell.producer.produce(topic="ofa_assets", key="MILL", value=json.dumps(message)).wait()
    event = last(engine)
    assert event == AssetEvent("MILL", "status", value, "Events", "Status", WHEN, event.position)


@pytest.mark.parametrize(
    "message",
    [
        {"id": "status", "value": "busy", "tag": "Status", "type": "events", "ATTRIBUTES": {"TIMESTAMP": WHEN}},
        {"Id": "status", "Value": "busy", "Tag": "Status", "Type": "EVENTS", "Attributes": {"timestamp": WHEN, "x": 1}},
        {"ID": "status", "VALUE": "busy", "TAG": "Status", "TYPE": "Events", "attributes": {"timestamp": WHEN}, "y": 2},
    ],
)
def test_the_case_of_keys_and_type_and_further_keys_do_not_matter(
    cell: Asset, engine: Engine, message: dict[str, object]
) -> None:
    cell.producer.produce("ofa_assets", b"MILL", json.dumps(message).encode()).wait()
    event = last(engine)
    further = {"x": 1} if "Attributes" in message else None
    assert event == AssetEvent("MILL", "status", "busy", "Events", "Status", WHEN, event.position, further)


@pytest.mark.parametrize("rest", [{}, {"attributes": None}, {"attributes": {}}, {"TAG": None, "VALUE": None}])
def test_what_a_message_leaves_out_is_filled_in(cell: Asset, engine: Engine, rest: dict[str, object]) -> None:
    cell.producer.produce("ofa_assets", "MILL", json.dumps({"ID": "status", "TYPE": "Events"} | rest)).wait()
    event = last(engine)
    assert (event.value, event.tag) == (None, "")
    assert event.timestamp.startswith("20")
    assert event.timestamp.endswith("Z")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no JSON",
        "null",
        "7",
        "[]",
        "[[1, 2]]",
        '["ID"]',
        "{}",
        '{"ID": "status"}',
        '{"TYPE": "Events"}',
        '{"ID": "status", "TYPE": "Nothing"}',
        '{"ID": "status", "TYPE": null}',
        '{"ID": "", "TYPE": "Events"}',
        '{"ID": 7, "TYPE": "Events"}',
        '{"ID": "status", "TYPE": "Events", "TAG": 7}',
        '{"ID": "status", "TYPE": "Events", "attributes": 7}',
        '{"ID": "status", "TYPE": "Events", "attributes": [[1, 2]]}',
        '{"ID": "status", "TYPE": "Events", "attributes": {"timestamp": 7}}',
        '{"ID": "status", "TYPE": "Events", "VALUE": NaN}',
        '{"ID": "status", "TYPE": "Events", "VALUE": "' + "x" * 1_000_000 + '"}',
        "[" * 100_000,
        b"\xff\xfe",
        None,
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_event_is_refused_and_nothing_is_written(cell: Asset, engine: Engine, value: Any) -> None:
    with pytest.raises(InvalidEventError) as caught:
        cell.producer.produce("ofa_assets", "MILL", value)
    assert caught.value.asset_uuid == "MILL"
    cell.producer.flush()
    assert engine.history("MILL") == []


@pytest.mark.parametrize("key", ["", "MILL.1", b"\xff", b"", None])
def test_a_key_that_is_no_asset_is_refused(cell: Asset, key: Any) -> None:
    with pytest.raises(InvalidEventError):
        cell.producer.produce("ofa_assets", key, '{"ID": "status", "TYPE": "Events", "VALUE": 1}')


def test_a_topic_that_only_a_kafka_has_is_refused_with_the_remedy(cell: Asset) -> None:
    with pytest.raises(ConfigurationError, match=r"has no topic 'metrics_targets_topic'\. Write to ofa_assets"):
        cell.producer.produce("metrics_targets_topic", "MILL", "{}")


def test_writing_does_not_wait_and_a_flush_does(cell: Asset, engine: Engine) -> None:
    receipts = [
        cell.producer.send_asset_attribute("MILL", AssetAttribute("n", n, "Events", "Number")) for n in range(200)
    ]
    cell.producer.flush(timeout=10)
    assert all(receipt.settled for receipt in receipts)
    positions = [receipt.wait(0) for receipt in receipts]
    assert positions == sorted(positions)
    assert [event.value for event in engine.history("MILL")] == list(range(200))
