"""One bad record stops nobody: an app starts, runs, answers and writes, whatever another program has written for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.assets import Asset
from openfactory.engines import Engine
from openfactory.events.attribute import ATTRIBUTE_TYPES
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import CommandRejected
from openfactory.testing.malformed import nested

Start = Callable[..., Any]
Watch = Callable[..., Asset]
Eventually = Callable[..., None]

ID = "6b1f2f9e-9a53-4b8c-9f4e-3a6c6f1f0a11"
DEEP = "[" * 5_000
CONTRACT = '{"description":"","arguments":[]}'

COMMANDS: list[Any] = [
    DEEP,
    f'{{"header":{{"correlation_id":"{ID}","sender_uuid":"x"}},"arguments":{{"x":{DEEP}',
    f'{{"header":{{"correlation_id":"{ID}","sender_uuid":{DEEP}',
    f'{{"header":{{"correlation_id":"{ID}"}},"more":{"[" * 400}{"]" * 400}}}',
    '{"a":' * 5_000,
    '"\\ud800"',
    "1" * 5_000,
    "",
    None,
    7,
    {"header": []},
    nested(100),
]
REPLIES: list[Any] = [
    DEEP,
    f'{{"correlation_id":"{ID}","status":"succeeded","result":{DEEP}',
    f'{{"correlation_id":"{ID}","status":"succeeded","result":{"[" * 400}{"]" * 400}}}',
    "",
    None,
    nested(100),
]
REGISTRATION: list[tuple[str, Any, str, str]] = [
    ("line 7", "ACME", "OpenFactory", "UNSLevel"),
    ("line", "x" * 300_000, "OpenFactory", "UNSLevel"),
    ("uns_id", "x" * 300_000, "OpenFactory", "UNSId"),
    ("AssetType", "x" * 300_000, "OpenFactory", "AssetType"),
    ("DockerService", nested(100), "OpenFactory", "\x00"),
    ("references_below", {"a": 1}, "OpenFactory", "AssetsReferences"),
]


@dataclass
class Strict:
    """An argument whose type raises an error of its own."""

    x: int

    def __post_init__(self) -> None:
        raise KeyError(self.x)


class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="Mill.Status")
    speed = SampleAttribute(value=100, tag="Mill.Speed")

    @ofa_method()
    def move(self, x: float = 0) -> float:
        return x * 2

    @ofa_method()
    def table(self, rows: list[list[int]]) -> int:
        return len(rows)

    @ofa_method()
    def strict(self, x: Strict) -> None: ...


def forge(engine: Engine, attribute_id: str, value: Any, type: str, tag: str) -> None:
    """Write an event as another program would, past the checks."""
    engine.publish(AssetEvent("MILL", attribute_id, value, type, tag, current_timestamp())).wait()


def test_an_app_starts_and_answers_whatever_was_written_for_it(start: Start, engine: Engine, watch: Watch) -> None:
    for command in COMMANDS:
        forge(engine, "move_CMD", command, "OpenFactory", COMMAND_TAG)
    for reply in REPLIES:
        forge(engine, "move_REPLY", reply, "OpenFactory", REPLY_TAG)
    for entry in REGISTRATION:
        forge(engine, *entry)
    for attribute_id in ("status", "avail", "move", "application_version"):
        forge(engine, attribute_id, DEEP, "Method", "Method")
    mill = start(Mill, engine.url, app_uuid="MILL")
    mill.welcome_banner()
    assert watch("MILL").call("move", sender_uuid="HMI", x=2) == 4
    assert mill.status.value == "idle"


def test_an_app_that_runs_answers_the_next_command(start: Start, engine: Engine, watch: Watch) -> None:
    start(Mill, engine.url, app_uuid="MILL")
    caller = watch("MILL")
    for command in COMMANDS:
        forge(engine, "move_CMD", command, "OpenFactory", COMMAND_TAG)
    for reply in REPLIES:
        forge(engine, "move_REPLY", reply, "OpenFactory", REPLY_TAG)
    assert caller.call("move", sender_uuid="HMI", x=2) == 4


@pytest.mark.parametrize(
    ("method", "argument"),
    [("table", {"rows": DEEP}), ("table", {"rows": '[["a"]]'}), ("strict", {"x": '{"x": 1}'}), ("move", {"x": DEEP})],
)
def test_an_argument_that_cannot_be_read_is_rejected(start: Start, method: str, argument: dict[str, str]) -> None:
    mill = start(Mill)
    with pytest.raises(CommandRejected, match="Failed to convert argument"):
        mill.call(method, argument, sender_uuid="HMI", timeout=60)
    assert mill.call("table", {"rows": "[[1], [2]]"}, sender_uuid="HMI") == 2


@pytest.mark.parametrize(
    ("type", "tag"),
    [
        ("Method", "Method"),
        ("Samples", "Other"),
        ("OpenFactory", COMMAND_TAG),
        ("OpenFactory", REPLY_TAG),
        ("nonsense", ""),
        ("Events", "Other"),
    ],
)
def test_the_attributes_of_an_app_keep_their_type_and_tag(
    start: Start, engine: Engine, watch: Watch, eventually: Eventually, type: str, tag: str
) -> None:
    mill = start(Mill, engine.url, app_uuid="MILL")
    heard: list[object] = []
    mill.subscribe_to_attribute("status", lambda _subject, message: heard.append(message["VALUE"]))
    for attribute_id in ("status", "avail"):
        forge(engine, attribute_id, CONTRACT, type, tag)
    eventually(lambda: CONTRACT in heard)
    assert (mill.status.value, mill.status.type, mill.status.tag) == (CONTRACT, "Events", "Mill.Status")
    assert "status" not in mill.methods()
    mill.status = "busy"
    mill["avail"] = "AVAILABLE"
    mill.flush()
    reader = watch("MILL")
    assert (reader.status.value, reader.status.type, reader.status.tag) == ("busy", "Events", "Mill.Status")
    assert (reader.avail.value, reader.avail.tag) == ("AVAILABLE", "Availability")
    mill.shutdown()
    assert reader.wait_until("avail", "UNAVAILABLE", timeout=60)


def test_an_app_may_change_the_type_and_tag_of_an_attribute_itself(start: Start, engine: Engine, watch: Watch) -> None:
    mill = start(Mill, engine.url, app_uuid="MILL")
    changed = mill.status
    changed.type, changed.tag, changed.value = "Samples", "Mill.Load", 3
    mill.status = changed
    mill.status = "4"
    mill.flush()
    for asset in (mill, watch("MILL")):
        assert (asset.status.value, asset.status.type, asset.status.tag) == (4.0, "Samples", "Mill.Load")


def test_no_record_at_all_keeps_an_app_from_answering_and_writing(start: Start, engine: Engine) -> None:
    mill = start(Mill, engine.url, app_uuid="MILL")
    scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=20)
    values = st.sampled_from(COMMANDS + REPLIES) | st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
    )

    @given(
        attribute_id=st.sampled_from(("status", "speed", "avail", "move", "move_CMD", "move_REPLY", "x_CMD", "uns_id")),
        value=values,
        type=st.sampled_from((*ATTRIBUTE_TYPES, "nonsense")),
        tag=st.sampled_from((COMMAND_TAG, REPLY_TAG, "Method", "UNSLevel", "", "Mill.Status")),
    )
    def forge_and_go_on(attribute_id: str, value: Any, type: str, tag: str) -> None:
        forge(engine, attribute_id, value, type, tag)
        mill.status = "busy"
        mill.speed = 7
        assert (mill.status.value, mill.speed.value) == ("busy", 7.0)
        assert mill.call("move", sender_uuid="HMI", x=1, timeout=60) == 2
        assert mill.speed.type == "Samples"
        assert isinstance(mill.methods()["table"], dict)

    forge_and_go_on()
