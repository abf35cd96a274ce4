"""One rule for values: converted or refused alike in attributes, arguments and results."""

from __future__ import annotations

import enum
import types
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import msgspec
import pytest

from openfactory.commands import CommandEnvelope, CommandReply
from openfactory.events.event import carried_value, wire_value
from openfactory.exceptions import InvalidEventError


class Number:
    """A number as numpy has it: no Python number, with its type and a conversion."""

    dtype = "float32"

    def item(self) -> float:
        return 1.5


class Array:
    """An array as numpy has it."""

    dtype = types.SimpleNamespace(kind="f")

    def __init__(self, *items: Any) -> None:
        self._items = items

    def tolist(self) -> list[Any]:
        return list(self._items)


class Times:
    """An array of times as numpy has it: integers, unless it is asked for microseconds."""

    dtype = types.SimpleNamespace(kind="M")

    def __init__(self, unit: str = "ns") -> None:
        self._unit = unit

    def astype(self, kind: str) -> Times:
        return Times(kind)

    def tolist(self) -> list[Any]:
        if self._unit == "datetime64[us]":
            return [datetime(2026, 11, 21, 7, 30, tzinfo=UTC)]
        return [1_763_710_200_000_000_000]


class Colour(enum.Enum):
    RED = "red"
    AT = (1, Decimal("2.5"))


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    pass


class Count(int):
    pass


@dataclass
class Point:
    x: Any
    y: Any = 0


class Part:
    """A model as pydantic has it."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self._fields


class Struct(msgspec.Struct):
    x: Any


CONVERTED: list[tuple[Any, Any]] = [
    (Number(), 1.5),
    ([Number(), {"a": Number()}], [1.5, {"a": 1.5}]),
    (Array(1, 2.5), [1, 2.5]),
    (Array([1, Number()], [3, 4]), [[1, 1.5], [3, 4]]),
    (Times(), ["2026-11-21T07:30:00Z"]),
    (Colour.RED, "red"),
    (Colour.AT, [1, "2.5"]),
    (Level.HIGH, 3),
    ([Text("x"), Count(7)], ["x", 7]),
    (Decimal("1.50"), "1.50"),
    (datetime(2026, 11, 21, 7, 30, tzinfo=UTC), "2026-11-21T07:30:00Z"),
    (date(2026, 11, 21), "2026-11-21"),
    (timedelta(hours=1), "PT3600S"),
    (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (PurePosixPath("parts/7.nc"), "parts/7.nc"),
    (Point(1, Point(PurePosixPath("a"), {1})), {"x": 1, "y": {"x": "a", "y": [1]}}),
    (Part(name="axle", drawing=PurePosixPath("a")), {"name": "axle", "drawing": "a"}),
    (Struct([Number(), PurePosixPath("a")]), {"x": [1.5, "a"]}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    ({1: 1, 2.5: 2, Colour.RED: 3, UUID(int=7): 4}, {"1": 1, "2.5": 2, "red": 3, str(UUID(int=7)): 4}),
]

NAN = float("nan")
REFUSED: list[Any] = [
    b"bytes",
    bytearray(b"bytes"),
    memoryview(b"bytes"),
    [b"bytes"],
    {b"key": 1},
    Array(b"bytes"),
    Point(b"bytes"),
    Struct(b"bytes"),
    Part(name="axle", drawing=PurePosixPath("a"), data=b"bytes"),
    [NAN],
    Point(NAN),
    Struct([NAN]),
    Decimal("NaN"),
    object(),
    Point(object()),
    Struct(object()),
    {(1, 2): 3},
    {None: 1},
    {"1": 1, 1: 2},
    range(3),
    Point,
    "\ud800",
]


def argument_of(value: Any) -> str:
    return CommandEnvelope.addressed("HMI", {"value": value}).arguments["value"]


def result_of(value: Any) -> Any:
    event = CommandReply(UUID(int=7), "succeeded", value).event("MILL", "move")
    return CommandReply.parse(event.value).result


@pytest.mark.parametrize(("value", "plain"), CONVERTED)
def test_a_value_is_converted_alike_as_attribute_argument_and_result(value: Any, plain: Any) -> None:
    assert repr(wire_value(value)) == repr(plain)
    assert repr(result_of(value)) == repr(plain)
    assert argument_of(value) == argument_of(plain)
    assert carried_value(value) == (plain, "")


@pytest.mark.parametrize("value", REFUSED)
def test_a_value_is_refused_alike_as_attribute_argument_and_result(value: Any) -> None:
    with pytest.raises(InvalidEventError, match="Write"):
        wire_value(value)
    with pytest.raises(InvalidEventError, match="Write"):
        result_of(value)
    with pytest.raises((InvalidEventError, TypeError), match="Write"):
        CommandEnvelope.addressed("HMI", {"value": value}).event("MILL", "move")


def test_bytes_are_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidEventError, match=r"type bytes cannot be written as JSON .*Decode them"):
        wire_value({"a": [b"bytes"]})


def test_as_much_of_a_value_is_carried_as_json_can_say() -> None:
    carried, note = carried_value({"x": 1.5, "image": b"bytes", "list": [1, object(), NAN]})
    assert carried == {"x": 1.5, "image": None, "list": [1, None, None]}
    assert "bytes" in note
    assert "object" in note
    assert "nan" in note


@pytest.mark.parametrize("value", ["x" * 300_000, {b"key": 1}, "\ud800", object()])
def test_a_value_of_which_nothing_can_be_carried_is_none_with_a_note(value: Any) -> None:
    carried, note = carried_value(value)
    assert carried is None
    assert "Write" in note or "Put" in note


def test_a_value_that_contains_itself_is_carried_as_none() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    assert carried_value(endless)[0] is None
