"""The text that others send becomes what the annotations of a method say, or is rejected by name."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.exceptions import CommandRejected

pytestmark = pytest.mark.smoke

Start = Callable[..., Any]


class Side(enum.Enum):
    LEFT = "l"
    RIGHT = "r"


class Gear(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0


class Typed(OpenFactoryApp):
    """Each method gives back what it got."""

    @ofa_method()
    def integer(self, x: int) -> str:
        return repr(x)

    @ofa_method()
    def number(self, x: float) -> str:
        return repr(x)

    @ofa_method()
    def boolean(self, x: bool) -> str:
        return repr(x)

    @ofa_method()
    def text(self, x: str) -> str:
        return repr(x)

    @ofa_method()
    def bare(self, x):  # type: ignore[no-untyped-def]
        return repr(x)

    @ofa_method()
    def optional(self, x: int | None) -> str:
        return repr(x)

    @ofa_method()
    def either(self, x: int | str) -> str:
        return repr(x)

    @ofa_method()
    def one_of(self, x: Literal["left", 1, True, None]) -> str:
        return repr(x)

    @ofa_method()
    def side(self, x: Side) -> str:
        return repr(x)

    @ofa_method()
    def gear(self, x: Gear) -> str:
        return repr(x)

    @ofa_method()
    def numbers(self, x: list[float]) -> str:
        return repr(x)

    @ofa_method()
    def table(self, x: dict[str, int]) -> str:
        return repr(x)

    @ofa_method()
    def pair(self, x: tuple[int, str]) -> str:
        return repr(x)

    @ofa_method()
    def point(self, x: Point) -> str:
        return repr(x)

    @ofa_method()
    def anything(self, x: Any) -> str:
        return repr(x)

    @ofa_method()
    def moment(self, x: datetime) -> str:
        return x.isoformat()

    @ofa_method()
    def day(self, x: date) -> str:
        return x.isoformat()

    @ofa_method()
    def span(self, x: timedelta) -> str:
        return str(x)

    @ofa_method()
    def exact(self, x: Decimal) -> str:
        return repr(x)

    @ofa_method()
    def key(self, x: UUID) -> str:
        return str(x)

    @ofa_method()
    def described(self, x: Annotated[int, "how many"]) -> str:
        return repr(x)


KEY = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f0"

# Method, what is sent, what the method gets.
CONVERTED = [
    *[("integer", sent, got) for sent, got in [("3", "3"), ("3.0", "3"), (" 4 ", "4"), ("-7", "-7"), ("1e3", "1000")]],
    *[("integer", 3, "3"), ("integer", 3.0, "3"), ("integer", "9007199254740993", "9007199254740993")],
    *[
        ("number", sent, got)
        for sent, got in [("1.5", "1.5"), ("3", "3.0"), (" 2 ", "2.0"), ("inf", "inf"), ("nan", "nan")]
    ],
    *[("number", 2, "2.0"), ("number", float("-inf"), "-inf")],
    *[("boolean", word, "True") for word in ("true", "1", "on", "yes", "y", "t", "TRUE", "Yes", " on ")],
    *[("boolean", word, "False") for word in ("false", "0", "off", "no", "n", "f", "FALSE", "Off")],
    *[("boolean", True, "True"), ("boolean", False, "False"), ("boolean", 1, "True")],
    *[("text", sent, repr(sent)) for sent in ("", "a", " a ", "3", "null", "Größe 🏭", '"quoted"')],
    *[("bare", "3", "'3'"), ("bare", 3, "'3'"), ("bare", True, "'true'")],
    *[("optional", "3", "3"), ("optional", "null", "None"), ("optional", None, "None"), ("optional", "None", "None")],
    *[("either", "3", "'3'"), ("either", "a", "'a'")],
    *[("one_of", "left", "'left'"), ("one_of", "1", "1"), ("one_of", True, "True"), ("one_of", None, "None")],
    *[("side", "l", "<Side.LEFT: 'l'>"), ("side", Side.RIGHT, "<Side.RIGHT: 'r'>")],
    *[("gear", "2", "<Gear.HIGH: 2>"), ("gear", 1, "<Gear.LOW: 1>"), ("gear", Gear.HIGH, "<Gear.HIGH: 2>")],
    *[("numbers", "[1, 2.5]", "[1.0, 2.5]"), ("numbers", [1, 2.5], "[1.0, 2.5]"), ("numbers", "[]", "[]")],
    *[("table", '{"a": 1}', "{'a': 1}"), ("table", {"a": 1}, "{'a': 1}")],
    *[("pair", '[1, "a"]', "(1, 'a')"), ("pair", (1, "a"), "(1, 'a')")],
    *[("point", '{"x": 1}', "Point(x=1.0, y=0)"), ("point", Point(1.5, 2), "Point(x=1.5, y=2.0)")],
    *[("anything", "3", "'3'")],
    *[("moment", "2026-11-21T07:30:00Z", "2026-11-21T07:30:00+00:00")],
    *[("moment", datetime(2026, 11, 21, 7, 30), "2026-11-21T07:30:00")],  # noqa: DTZ001
    *[("day", "2026-11-21", "2026-11-21"), ("day", date(2026, 11, 21), "2026-11-21")],
    *[("span", "PT90S", "0:01:30"), ("span", timedelta(seconds=90), "0:01:30")],
    *[("exact", "1.50", "Decimal('1.50')"), ("exact", Decimal("1.50"), "Decimal('1.50')")],
    *[("key", KEY, KEY), ("key", UUID(KEY), KEY)],
    *[("described", "3.0", "3")],
]

REFUSED = [
    *[("integer", sent) for sent in ("3.5", "", "three", "nan", "inf", "0x10", None, "3,0", [1], "1_000", "٣")],
    *[("number", sent) for sent in ("", "far", "1,5", None, "1 2", "1_000", "٣")],
    *[("boolean", sent) for sent in ("", "2", "wahr", None, "truee")],
    *[("optional", "3.5"), ("optional", "far"), ("optional", "")],
    *[("one_of", "right"), ("one_of", "2"), ("side", "up"), ("side", ""), ("gear", "3"), ("gear", "2.5")],
    *[("numbers", "[" * 5_000), ("table", "[" * 400 + "]" * 400)],
    *[("numbers", "1, 2"), ("numbers", '["a"]'), ("numbers", "1"), ("table", "[]"), ("pair", "[1]"), ("point", "{}")],
    *[("moment", "yesterday"), ("day", "2026-13-01"), ("exact", "far"), ("key", "7"), ("span", "soon")],
]


@pytest.mark.parametrize(("method", "sent", "got"), CONVERTED)
def test_text_becomes_what_the_annotation_says(start: Start, method: str, sent: Any, got: str) -> None:
    assert start(Typed).call(method, {"x": sent}, sender_uuid="HMI") == got


@pytest.mark.parametrize(("method", "sent"), REFUSED)
def test_text_that_does_not_fit_is_rejected_by_name(start: Start, method: str, sent: Any) -> None:
    with pytest.raises(CommandRejected, match="Failed to convert argument 'x' to"):
        start(Typed).call(method, {"x": sent}, sender_uuid="HMI")
