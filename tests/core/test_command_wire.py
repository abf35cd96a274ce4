"""The wire format of commands and replies, as every OpenFactory program writes and reads it."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from openfactory.assets import Asset
from openfactory.commands import (
    CommandEnvelope,
    CommandHeader,
    CommandReply,
    command_attribute_id,
    reply_attribute_id,
)
from openfactory.engines import Engine
from openfactory.exceptions import InvalidEventError

Open = Callable[..., Asset]

HEADER: dict[str, Any] = {
    "correlation_id": "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f0",
    "sender_uuid": "HMI",
    "timestamp": "2026-11-21T07:30:00.123456Z",
    "signature": None,
}


class Side(enum.Enum):
    LEFT = "l"


def test_a_command_is_an_event_with_json_text(open_asset: Open, engine: Engine) -> None:
    before = datetime.now(UTC)
    correlation_id = open_asset().method("move_axis", sender_uuid="HMI", args=[("x", "1.5")])
    engine.flush()
    [event] = engine.snapshot(["MILL"]).events["MILL"]
    assert (event.id, event.type, event.tag) == ("move_axis_CMD", "OpenFactory", "Method.Command")
    assert isinstance(event.value, str)
    command = json.loads(event.value)
    timestamp = command["header"].pop("timestamp")
    assert command == {
        "header": {"correlation_id": correlation_id, "sender_uuid": "HMI", "signature": None},
        "arguments": {"x": "1.5"},
    }
    said = datetime.fromisoformat(timestamp)
    assert said.utcoffset() == timedelta(0)
    assert before <= said <= datetime.now(UTC)


def test_a_command_without_arguments_has_an_empty_object(open_asset: Open, engine: Engine) -> None:
    open_asset().method("stop", sender_uuid="HMI")
    engine.flush()
    [event] = engine.snapshot(["MILL"]).events["MILL"]
    assert json.loads(event.value)["arguments"] == {}


@pytest.mark.parametrize("as_text", [True, False])
def test_a_command_is_read(as_text: bool) -> None:
    document = {"header": HEADER, "arguments": {"x": "1"}}
    envelope = CommandEnvelope.parse(json.dumps(document) if as_text else document)
    assert envelope.header == CommandHeader(
        UUID(HEADER["correlation_id"]), "HMI", datetime(2026, 11, 21, 7, 30, 0, 123456, UTC), None
    )
    assert envelope.arguments == {"x": "1"}


def test_what_is_optional_may_be_left_out() -> None:
    header = {key: HEADER[key] for key in ("correlation_id", "sender_uuid")}
    envelope = CommandEnvelope.parse(json.dumps({"header": header}))
    assert envelope.arguments == {}
    assert envelope.header.signature is None
    assert envelope.header.timestamp.tzinfo is not None


@pytest.mark.parametrize(
    "document",
    [
        {"header": HEADER, "arguments": {"x": 1}},
        {"header": HEADER, "arguments": {"x": None}},
        {"header": HEADER, "arguments": {"x": ["1"]}},
        {"header": HEADER, "arguments": []},
        {"header": HEADER, "arguments": {}, "extra": 1},
        {"header": HEADER | {"extra": 1}, "arguments": {}},
        {"header": HEADER | {"correlation_id": "7"}, "arguments": {}},
        {"header": HEADER | {"sender_uuid": None}, "arguments": {}},
        {"header": HEADER | {"timestamp": "yesterday"}, "arguments": {}},
        {"header": {"correlation_id": HEADER["correlation_id"]}},
        {"header": {"sender_uuid": "HMI"}},
        {"arguments": {}},
        [],
        "text",
        None,
    ],
)
def test_what_is_no_command_is_refused(document: Any) -> None:
    with pytest.raises(msgspec.MsgspecError):
        CommandEnvelope.parse(json.dumps(document))
    with pytest.raises(msgspec.MsgspecError):
        CommandEnvelope.parse(document)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("left", "left"),
        (" 4 ", " 4 "),
        ("", ""),
        (2, "2"),
        (1.5, "1.5"),
        (100.0, "100.0"),
        (True, "true"),
        (None, "null"),
        ([1, "a", None], '[1,"a",null]'),
        ((1, 2), "[1,2]"),
        ({"a": 1.5}, '{"a":1.5}'),
        (Side.LEFT, "l"),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 11, 21, 7, 30, tzinfo=UTC), "2026-11-21T07:30:00Z"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ("Größe 🏭", "Größe 🏭"),
    ],
)
def test_arguments_travel_as_text(value: Any, text: str) -> None:
    assert CommandEnvelope.addressed("HMI", {"x": value}).arguments == {"x": text}


def test_an_argument_that_json_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError):
        CommandEnvelope.addressed("HMI", {"x": object()})


def test_each_command_has_an_id_of_its_own() -> None:
    ids = {CommandEnvelope.addressed("HMI", {}).header.correlation_id for _ in range(100)}
    assert len(ids) == 100


def test_the_attributes_of_commands_and_replies_have_their_names() -> None:
    assert command_attribute_id("move_axis") == "move_axis_CMD"
    assert reply_attribute_id("move_axis") == "move_axis_REPLY"


def test_a_reply_is_an_event_with_json_text() -> None:
    reply = CommandReply(UUID(HEADER["correlation_id"]), "succeeded", {"x": [1, None]})
    event = reply.event("MILL", "move_axis")
    assert (event.asset_uuid, event.id) == ("MILL", "move_axis_REPLY")
    assert (event.type, event.tag) == ("OpenFactory", "Method.Reply")
    said = json.loads(event.value)
    assert datetime.fromisoformat(said.pop("timestamp")).utcoffset() == timedelta(0)
    assert said == {
        "correlation_id": HEADER["correlation_id"],
        "status": "succeeded",
        "result": {"x": [1, None]},
        "error": None,
    }
    assert CommandReply.parse(event.value) == reply


def test_a_reply_of_a_later_version_is_read() -> None:
    said = {"correlation_id": HEADER["correlation_id"], "status": "failed", "error": "too far", "progress": 0.5}
    reply = CommandReply.parse(json.dumps(said))
    assert (reply.status, reply.error, reply.result) == ("failed", "too far", None)


@pytest.mark.parametrize("change", [{"status": "done"}, {"correlation_id": "7"}, {"error": 7}])
def test_what_is_no_reply_is_refused(change: dict[str, Any]) -> None:
    said = {"correlation_id": HEADER["correlation_id"], "status": "failed"} | change
    with pytest.raises(msgspec.MsgspecError):
        CommandReply.parse(json.dumps(said))


def test_a_command_that_is_too_large_is_refused(open_asset: Open) -> None:
    with pytest.raises(InvalidEventError, match="262,144"):
        open_asset().method("move", sender_uuid="HMI", args=[("x", "x" * 300_000)])
