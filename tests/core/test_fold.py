"""The fold says of a log what reading it from its start would say."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines.kafka_engine.fold import Fold, Place, is_deregistration, place_of_message
from openfactory.engines.kafka_engine.recent_commands import MAX_COMMANDS
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.registration import DEREGISTERED
from openfactory.exceptions import InvalidEventError

TIME = "2026-01-01T00:00:00.000Z"

said = st.tuples(
    st.sampled_from(["A", "B"]), st.sampled_from(["x", "y", "z"]), st.sampled_from(["Test", COMMAND_TAG, REPLY_TAG])
)


def logged(statements: list[tuple[str, str, str]]) -> list[AssetEvent]:
    return [
        AssetEvent(asset_uuid, attribute_id, position, "Events", tag, TIME, position)
        for position, (asset_uuid, attribute_id, tag) in enumerate(statements, 1)
    ]


@given(st.lists(said, max_size=40))
def test_last_event_of_each_attribute_in_the_order_of_the_log(statements: list[tuple[str, str, str]]) -> None:
    fold, log = Fold(), logged(statements)
    for event in log:
        fold.apply(event)
    for asset_uuid in ("A", "B"):
        own = [event for event in log if event.asset_uuid == asset_uuid]
        last = sorted({event.id: event for event in own}.values(), key=lambda event: event.position or 0)
        assert fold.events([asset_uuid]).get(asset_uuid, []) == last
        for tag in (COMMAND_TAG, REPLY_TAG):
            assert list(fold.commands[asset_uuid, tag]) == [event for event in own if event.tag == tag]
    assert fold.changed == {(event.asset_uuid, event.id) for event in log}


def test_asset_that_nobody_has_written_is_not_in_the_events() -> None:
    fold = Fold()
    fold.apply(AssetEvent("A", "x", 1, "Events", "", TIME, 1))
    assert list(fold.events()) == ["A"]
    assert list(fold.events(["B", "A", "A"])) == ["A"]
    assert list(fold.events([])) == []
    assert list(fold.events()) == ["A"]


def test_only_the_latest_commands_are_remembered() -> None:
    fold = Fold()
    for position in range(1, MAX_COMMANDS + 11):
        fold.apply(AssetEvent("A", "x_CMD", position, "Method", COMMAND_TAG, TIME, position))
    remembered = fold.commands["A", COMMAND_TAG]
    assert len(remembered) == MAX_COMMANDS
    assert next(iter(remembered)).position == 11
    assert [event.position for event in remembered.newest(2)] == [MAX_COMMANDS + 9, MAX_COMMANDS + 10]


def test_large_commands_and_replies_are_known_again_without_taking_much_memory() -> None:
    fold = Fold()
    large = "x" * 50_000
    for position in range(1, 301):
        command = CommandEnvelope.addressed("HMI", {"text": large}).event("A", "move")
        reply = CommandReply(CommandEnvelope.parse(command.value).header.correlation_id, "succeeded", large)
        fold.apply(command.with_position(2 * position))
        fold.apply(reply.event("A", "move").with_position(2 * position + 1))
    commands, replies = (list(fold.commands["A", tag]) for tag in (COMMAND_TAG, REPLY_TAG))
    assert len(commands) == len(replies) == 300
    assert sum(len(event.value) for event in (*commands, *replies)) < 3_000_000
    for command, answer in zip(commands, replies, strict=True):
        parsed = CommandReply.parse(answer.value)
        assert parsed.correlation_id == CommandEnvelope.parse(command.value).header.correlation_id
        assert parsed.status == "succeeded"
    assert CommandEnvelope.parse(commands[-1].value).arguments == {"text": large}
    assert CommandReply.parse(replies[-1].value).result == large


@pytest.mark.parametrize(
    "value", ["{" * 500_000, "[1]", {"header": "x" * 500_000}, [1] * 200_000], ids=["cut", "short", "header", "list"]
)
def test_malformed_large_commands_stop_no_fold(value: object) -> None:
    fold = Fold()
    for position in range(1, 4):
        fold.apply(AssetEvent("A", "x_CMD", value, "Method", COMMAND_TAG, TIME, position))
    remembered = list(fold.commands["A", COMMAND_TAG])
    assert len(remembered) == 3
    assert sum(len(str(event.value)) for event in remembered) < 1_100_000


def test_type_stays_readable_after_a_deregistration() -> None:
    fold = Fold()
    fold.apply(AssetEvent("A", "AssetType", "Device", "OpenFactory", "AssetType", TIME, 1))
    fold.deregister(AssetEvent("A", "AssetType", DEREGISTERED, "OpenFactory", "AssetType", TIME, 2))
    assert [event.value for event in fold.events()["A"]] == ["Device"]
    assert fold.deregistered == {"A": 2}
    assert fold.changed_registrations == {"A"}
    fold.clear_changes()
    assert not fold.changed
    assert not fold.changed_registrations
    assert fold.deregistered == {"A": 2}


@pytest.mark.parametrize(
    ("id", "value", "type", "is_one"),
    [
        ("AssetType", "delete", "OpenFactory", True),
        ("AssetType", "delete", "UNAVAILABLE", True),
        ("AssetType", "Delete", "OpenFactory", False),
        ("AssetType", "delete", "Events", False),
        ("status", "delete", "OpenFactory", False),
        ("AssetType", None, "OpenFactory", False),
        ("AssetType", {"delete": 1}, "OpenFactory", False),
    ],
)
def test_deregistration(id: str, value: object, type: str, is_one: bool) -> None:
    assert is_deregistration(AssetEvent("A", id, value, type, "AssetType", TIME)) is is_one


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (None, Place(None, None, 0)),
        (
            {"ASSET_UUID": "A", "UNS_ID": "a/b", "UNS_LEVELS": {"area": "b"}, "UPDATED_AT": 5},
            Place("a/b", {"area": "b"}, 5),
        ),
        ({"asset_uuid": "A", "uns_id": None, "uns_levels": None, "updated_at": 5}, Place(None, None, 5)),
        ({"UNS_ID": "a", "UNS_LEVELS": {"level": 1}, "UPDATED_AT": "soon"}, Place("a", {"level": "1"}, 0)),
        ({"UNS_ID": "a", "UPDATED_AT": 2**70}, Place("a", None, 0)),
        ({"UNS_ID": "a", "UPDATED_AT": "2026-11-29T14:53:03.256Z"}, Place("a", None, 1795963983256)),
        ({}, Place(None, None, 0)),
    ],
)
def test_place(record: dict[str, object] | None, place: Place) -> None:
    assert place_of_message(None if record is None else json.dumps(record).encode()) == place


@given(
    st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["UNS_ID", "uns_levels", "UPDATED_AT"]),
        st.none() | st.text() | st.integers() | st.lists(st.integers()) | st.dictionaries(st.text(), st.booleans()),
    ).map(lambda record: json.dumps(record).encode())
)
def test_record_is_a_place_or_it_is_said_why_not(value: bytes) -> None:
    with suppress(InvalidEventError):
        place = place_of_message(value)
        assert place.uns_id is None or isinstance(place.uns_id, str)
        assert 0 <= place.updated_at < 2**63
