"""Malformed input: it is refused, understood or logged once with where it stands, and every watcher goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from logging import LogRecord
from typing import Any

import pytest

from openfactory.assets import Asset, AssetEvent
from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.engines import Engine
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, new_event
from openfactory.events.receipt import Receipt
from openfactory.exceptions import ConfigurationError, DeliveryError, InvalidEventError
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient, KSQLDBClientException

Open = Callable[..., Asset]
Eventually = Callable[..., None]

TIME = "2026-11-21T07:30:00.000Z"
MEGABYTE = "x" * 2**20
STRANGE_IDS = [
    "a.b.c",
    "with space",
    "it's",
    '"quoted"',
    "Zähler",
    "😀",
    "a\tb",
    "a\x00b",
    "*",
    ">",
    "a|b",
    ".",
    "x" * 5000,
]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.fixture
def heard(engine: Engine) -> dict[str | None, list[tuple[str, Any]]]:
    """What three watchers hear: of the asset MILL, of the asset ROBOT, and of all."""
    heard: dict[str | None, list[tuple[str, Any]]] = {"MILL": [], "ROBOT": [], None: []}
    for asset_uuid, events in heard.items():

        def note(event: AssetEvent, events: list[tuple[str, Any]] = events) -> None:
            events.append((f"{event.asset_uuid}.{event.id}", event.value))

        engine.subscribe(asset_uuid, note)
    return heard


@pytest.fixture
def goes_on(
    engine: Engine, heard: dict[str | None, list[tuple[str, Any]]], eventually: Eventually, logged: list[LogRecord]
) -> Callable[[], None]:
    """Assert that watchers hear what is written next, that snapshots are read, and that no more is logged for it."""

    def check() -> None:
        before = len(heard[None])
        for asset_uuid in ("MILL", "ROBOT"):
            engine.publish(new_event(asset_uuid, "after", "it", "Events", "Test")).wait()
            eventually(lambda uuid=asset_uuid: (f"{uuid}.after", "it") in heard[uuid])
        eventually(lambda: len(heard[None]) >= before + 2)
        assert {"MILL", "ROBOT"} <= engine.snapshot().events.keys()
        assert engine.history("ROBOT", "after")[-1].value == "it"
        assert len(logged) <= 1, [record.getMessage() for record in logged]

    return check


# Events made by hand, past the checks


@pytest.mark.parametrize(
    "field",
    [
        {"value": 1j},
        {"value": "\ud800"},
        {"id": "x\ud800"},
        {"id": None},
        {"id": b"x"},
        {"id": ["x"]},
        {"asset_uuid": None},
        {"asset_uuid": b"ROBOT"},
        {"type": None},
        {"tag": None},
        {"timestamp": None},
    ],
    ids=repr,
)
def test_an_event_that_cannot_be_written_fails_alone_and_is_named(
    engine: Engine,
    heard: dict[str | None, list[tuple[str, Any]]],
    goes_on: Callable[[], None],
    logged: list[LogRecord],
    field: dict[str, Any],
) -> None:
    said: dict[str, Any] = {
        "asset_uuid": "ROBOT",
        "id": "x",
        "value": 1,
        "type": "Events",
        "tag": "Test",
        "timestamp": TIME,
    } | field
    before, bad, after = (
        engine.publish(event)
        for event in (
            new_event("ROBOT", "n", 1, "Events", "Test"),
            AssetEvent(**said),
            new_event("ROBOT", "n", 2, "Events", "Test"),
        )
    )
    assert before.wait() < after.wait()
    with pytest.raises(DeliveryError) as caught:
        bad.wait()
    assert len(caught.value.events) == 1
    with pytest.raises(DeliveryError, match="1 event"):
        engine.flush()
    assert engine.health().counters["failed"] == 1
    assert len(logged) == 1
    assert f"{said['asset_uuid']}.{said['id']}" in logged[0].getMessage()
    goes_on()
    assert [value for subject, value in heard["ROBOT"] if subject == "ROBOT.n"] == [1, 2]


@pytest.mark.parametrize("value", [{1j: 2}, nested(5000)], ids=["key", "nested"])
def test_a_value_that_json_cannot_carry_is_refused_to_its_writer(
    engine: Engine, goes_on: Callable[[], None], value: Any
) -> None:
    with pytest.raises((TypeError, RecursionError, DeliveryError)):
        engine.publish(AssetEvent("ROBOT", "x", value, "Events", "Test", TIME)).wait()
    with suppress(DeliveryError):
        engine.flush()
    goes_on()


@pytest.mark.parametrize(
    ("value", "read"),
    [(None, None), (MEGABYTE, MEGABYTE), (math.nan, None), (10**30, 10**30), (nested(200), nested(200)), ({1}, [1])],
    ids=["null", "1 MB", "NaN", "large number", "nested", "set"],
)
def test_a_strange_value_is_read_as_the_json_it_is(
    engine: Engine, open_asset: Open, goes_on: Callable[[], None], value: Any, read: Any
) -> None:
    robot = open_asset("ROBOT")
    engine.publish(AssetEvent("ROBOT", "x", value, "Events", "Test", TIME)).wait()
    assert robot.wait_until("x", read, timeout=60)
    assert open_asset("ROBOT")["x"].value == read
    goes_on()


@pytest.mark.parametrize("attribute_id", STRANGE_IDS, ids=lambda name: ascii(name[:12]))
def test_an_id_that_others_could_not_carry_is_read_here_and_hurts_no_watcher(
    engine: Engine, open_asset: Open, goes_on: Callable[[], None], eventually: Eventually, attribute_id: str
) -> None:
    robot, subjects = open_asset("ROBOT"), []

    def hear(subject: str, message: CaseInsensitiveDict) -> None:
        subjects.append(subject)

    robot.subscribe_to_messages(hear)
    engine.publish(AssetEvent("ROBOT", attribute_id, 7, "Events", "Test", TIME)).wait()
    eventually(lambda: subjects)
    assert subjects == [f"ROBOT.{attribute_id}"]
    assert robot[attribute_id].value == open_asset("ROBOT")[attribute_id].value == 7
    assert robot.events() == [{"ID": attribute_id, "VALUE": 7, "TAG": "Test"}]
    assert [event.value for event in engine.history("ROBOT", attribute_id)] == [7]
    goes_on()


@pytest.mark.parametrize(
    "asset_uuid", ["line.mill", "two words", "it's", '"', "😀", "a|b", "", "%", "x" * 5000], ids=ascii
)
def test_an_asset_of_any_name_is_apart_from_all_others(
    engine: Engine, open_asset: Open, goes_on: Callable[[], None], asset_uuid: str
) -> None:
    asset = open_asset(asset_uuid)
    engine.publish(AssetEvent(asset_uuid, "x", 7, "Events", "Test", TIME)).wait()
    assert asset.wait_until("x", 7, timeout=60)
    goes_on()
    assert [event.id for event in engine.snapshot([asset_uuid]).events[asset_uuid]] == ["x"]
    assert engine.types() == {}


@pytest.mark.parametrize("type", ["nonsense", "", "samples", "EVENTS", "3"])
def test_an_attribute_of_a_type_that_nobody_knows_can_be_read(
    engine: Engine, open_asset: Open, goes_on: Callable[[], None], type: str
) -> None:
    robot = open_asset("ROBOT")
    engine.publish(AssetEvent("ROBOT", "x", 7, type, "Test", TIME)).wait()
    engine.publish(new_event("ROBOT", "y", 8, "Events", "Test")).wait()
    assert robot.wait_until("y", 8, timeout=60)
    assert robot["x"].value == 7
    assert [attribute.value for attribute in robot.ofa_attributes.values()] == [7, 8]
    assert [attribute.value for attribute in robot.history("x")] == [7]
    assert {"ID": "y", "VALUE": 8, "TAG": "Test"} in robot.events()
    goes_on()


# Messages as they stand on the wire

ATTRIBUTES = f'{{"timestamp": "{TIME}"}}'
MESSAGE = f'{{"ID": "x", "VALUE": "7", "TAG": "Test", "TYPE": "Samples", "attributes": {ATTRIBUTES}}}'


@pytest.mark.parametrize(
    "message", [MESSAGE, MESSAGE.replace("attributes", "ATTRIBUTES"), MESSAGE.lower(), MESSAGE.encode()]
)
@pytest.mark.parametrize("key", ["ROBOT", b"ROBOT"])
def test_keys_are_read_in_any_case(open_asset: Open, message: str | bytes, key: str | bytes) -> None:
    robot = open_asset("ROBOT")
    open_asset().producer.produce("ofa_assets", key, message).wait()
    assert robot.wait_until("x", 7.0, timeout=60)
    assert (robot.x.type, robot.x.tag.lower()) == ("Samples", "test")
    assert robot.x.timestamp.lower() == TIME.lower()


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no JSON",
        b"\xff\xfe",
        "null",
        "7",
        "[]",
        '"text"',
        "{}",
        MESSAGE[:-1],
        MESSAGE.replace('"ID": "x", ', ""),
        MESSAGE.replace('"TYPE": "Samples", ', ""),
        MESSAGE.replace('"x"', "null"),
        MESSAGE.replace('"x"', "7"),
        MESSAGE.replace('"x"', '""'),
        MESSAGE.replace('"x"', '"with space"'),
        MESSAGE.replace('"Samples"', '"nonsense"'),
        MESSAGE.replace('"Samples"', "null"),
        MESSAGE.replace('"Samples"', "{}"),
        MESSAGE.replace('"Samples"', "[]"),
        MESSAGE.replace('"Test"', "7"),
        MESSAGE.replace(f'"{TIME}"', "7"),
        MESSAGE.replace(ATTRIBUTES, "7"),
        MESSAGE.replace(ATTRIBUTES, '"text"'),
        MESSAGE.replace(ATTRIBUTES, '["list"]'),
        MESSAGE.replace('"7"', "1e400"),
        MESSAGE.replace('"7"', '"\\ud800"'),
        MESSAGE.replace('"7"', f'"{MEGABYTE}"'),
        MESSAGE.replace('"7"', "[" * 5000 + "]" * 5000),
    ],
    ids=lambda message: ascii(message[:100]),
)
def test_a_message_that_is_no_event_is_refused_to_its_writer(
    open_asset: Open, engine: Engine, goes_on: Callable[[], None], message: str | bytes
) -> None:
    mill = open_asset()
    with pytest.raises(InvalidEventError, match="ROBOT"):
        mill.producer.produce("ofa_assets", "ROBOT", message)
    mill.flush()
    assert engine.snapshot(["ROBOT"]).events == {}
    goes_on()


@pytest.mark.parametrize("key", ["", "two words", "line.mill", b"\xff", "a\ud800", None, 7], ids=ascii)
def test_a_message_for_no_asset_is_refused_to_its_writer(open_asset: Open, engine: Engine, key: Any) -> None:
    with pytest.raises(InvalidEventError):
        open_asset().producer.produce("ofa_assets", key, MESSAGE)
    engine.flush()
    assert engine.snapshot().events == {}


def test_a_topic_that_there_is_not_is_refused(open_asset: Open) -> None:
    with pytest.raises(ConfigurationError, match="no topic 'others'"):
        open_asset().producer.produce("others", "ROBOT", MESSAGE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": None},
        {"ID": "with space"},
        {"asset_uuid": None},
        {"asset_uuid": "line.mill"},
        {"type": "nonsense"},
        {"type": None},
        {"type": ["Events"]},
        {"tag": 7},
        {"value": 1j},
        {"value": math.inf},
        {"value": MEGABYTE},
        {"attributes": {"timestamp": 7}},
        {"attributes": 7},
        {"attributes": "text"},
    ],
    ids=lambda wrong: repr(wrong)[:40],
)
def test_of_rows_with_one_that_is_no_event_none_is_inserted(url: str, wrong: dict[str, Any]) -> None:
    good = {"ASSET_UUID": "ROBOT", "Id": "x", "value": 7, "type": "events", "TAG": "Test"}
    lowered = {key.lower(): value for key, value in good.items()} | {key.lower(): value for key, value in wrong.items()}
    with KSQLDBClient(url) as client:
        with pytest.raises(KSQLDBClientException, match=r"Row 1 is not an event, so nothing was written: "):
            client.insert_into_stream("ASSETS_STREAM", [good, lowered, good])
        assert client.engine.snapshot().events == {}
        client.insert_into_stream("assets_stream", [good])
        assert [event.value for event in client.engine.history("ROBOT", "x")] == [7]


@pytest.mark.parametrize("row", [None, 7, "text", ["id"], {}], ids=repr)
def test_a_row_that_is_no_mapping_is_refused(url: str, row: Any) -> None:
    with KSQLDBClient(url) as client, pytest.raises(KSQLDBClientException, match="Row 0 is not an event"):
        client.insert_into_stream("ASSETS_STREAM", [row])


# Commands and replies


@pytest.mark.parametrize(
    "value", ["", "no JSON", "{}", "[]", None, 7, {"correlation_id": 1}, MEGABYTE, "\x00"], ids=lambda v: repr(v)[:20]
)
def test_a_reply_that_is_none_is_logged_once_with_its_place_and_the_caller_waits_on(
    mill: Asset, engine: Engine, goes_on: Callable[[], None], logged: list[LogRecord], value: Any
) -> None:
    receipts: list[Receipt] = []

    def answer(event: AssetEvent) -> None:
        if event.tag == COMMAND_TAG:
            correlation_id = CommandEnvelope.parse(event.value).header.correlation_id
            receipts.append(engine.publish(AssetEvent("MILL", "move_REPLY", value, "OpenFactory", REPLY_TAG, TIME)))
            engine.publish(CommandReply(correlation_id, "succeeded", 7).event("MILL", "move"))

    engine.subscribe("MILL", answer)
    assert mill.call("move", sender_uuid="HMI", x=1) == 7
    assert len(logged) == 1
    assert f"MILL.move_REPLY at position {receipts[0].wait()} is not a reply" in logged[0].getMessage()
    assert len(logged[0].getMessage()) < 1000
    goes_on()
