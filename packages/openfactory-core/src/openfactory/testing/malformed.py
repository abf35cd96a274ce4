"""Tests of events that other programs have written wrongly: a reader skips one, and reads all the others."""

from __future__ import annotations

from typing import Any

import pytest

from openfactory.assets import Asset
from openfactory.engines import Engine
from openfactory.events.decoding import MAX_DEPTH
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent, new_event
from openfactory.events.timestamp import current_timestamp
from openfactory.kafka import KSQLDBClient
from openfactory.testing.waiting import eventually

__all__ = ["MalformedConformance", "nested"]

_ID = '"6b1f2f9e-9a53-4b8c-9f4e-3a6c6f1f0a11"'


def nested(depth: int) -> list[Any]:
    """Return a list with some levels of lists."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


# Values that are not a command, a reply or a contract, or only almost.
_VALUES: list[Any] = [
    None,
    True,
    5,
    [],
    [1],
    {},
    "",
    "{",
    "null",
    "5",
    "\x00",
    "[" * 5_000,
    "[" * 5_000 + "]" * 5_000,
    '{"a":' * 5_000,
    '{"header":' + "[" * 5_000,
    f'{{"header":{{"correlation_id":{_ID},"sender_uuid":{"[" * 5_000}',
    f'{{"header":{{"correlation_id":{_ID},"sender_uuid":"x"}},"arguments":{{"x":{"[" * 5_000}',
    f'{{"correlation_id":{_ID},"status":"succeeded","result":{"[" * 5_000}',
    f'{{"correlation_id":{_ID},"status":"succeeded","result":{"[" * 400}{"]" * 400}}}',
    f'{{"correlation_id":{_ID},"status":"nonsense"}}',
    '{"description":' + "[" * 5_000,
    '{"arguments":5}',
    '"\\ud800"',
    "1" * 5_000,
    "1e999",
    "NaN",
    {"header": {"correlation_id": 5}},
    nested(100),
    nested(MAX_DEPTH + 50),
]


class MalformedConformance:
    """Tests of values that other programs have written past the checks."""

    @pytest.mark.parametrize(
        ("attribute_id", "type", "tag"),
        [
            ("move_CMD", "OpenFactory", COMMAND_TAG),
            ("move_REPLY", "OpenFactory", REPLY_TAG),
            ("move", "Method", "Method"),
            ("status", "Events", "Status"),
            ("speed", "Samples", "Speed"),
        ],
    )
    def test_a_malformed_value_stops_no_reader(
        self, engine: Engine, engine_url: str, asset_uuid: str, attribute_id: str, type: str, tag: str
    ) -> None:
        seen: list[str] = []
        engine.subscribe(asset_uuid, lambda event: seen.append(event.id))
        with KSQLDBClient(engine_url) as client, Asset(asset_uuid, client) as watching:
            heard: list[str] = []
            watching.subscribe_to_messages(lambda subject, _message: heard.append(subject))
            for value in _VALUES:
                engine.publish(AssetEvent(asset_uuid, attribute_id, value, type, tag, current_timestamp()))
            engine.publish(new_event(asset_uuid, "after", "read", "Events", "Test"))
            engine.flush()
            eventually(lambda: "after" in seen and f"{asset_uuid}.after" in heard)
            with Asset(asset_uuid, client) as opened_later:
                for asset in (watching, opened_later):
                    assert asset.after.value == "read"
                    assert isinstance(asset.methods(), dict)
                    assert isinstance(asset.samples(), list)
                    assert isinstance(asset.events(), list)
            assert [event.id for event in engine.history(asset_uuid)][-1] == "after"

    def test_a_value_that_is_nested_too_deeply_is_skipped_by_every_way_of_reading(
        self, engine: Engine, asset_uuid: str
    ) -> None:
        seen: list[object] = []
        engine.subscribe(asset_uuid, lambda event: seen.append(event.value))
        for value in (1, nested(MAX_DEPTH + 50), 2):
            engine.publish(AssetEvent(asset_uuid, "x", value, "Events", "Test", current_timestamp()))
        engine.flush()
        eventually(lambda: 2 in seen)
        assert seen == [1, 2]
        assert [event.value for event in engine.history(asset_uuid, "x")] == [1, 2]
        assert [event.value for event in engine.snapshot([asset_uuid]).events[asset_uuid]] == [2]
