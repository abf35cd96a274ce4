"""ofa_method: what others are told of a method, and how the text they send becomes its arguments."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.exceptions import CommandRejected

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


class Base(OpenFactoryApp):
    @ofa_method(description="  Move to a position  ", param_description={"x": " where ", "y": "of the dict"})
    def move(
        self,
        x: float,
        y: Annotated[float, "of the annotation"] = 0.5,
        *,
        side: Annotated[Side, 7, "which side", "and more"] = Side.LEFT,
        name: str = "",
    ) -> str:
        return "moved"

    @ofa_method()
    def stop(self) -> None:
        """Stop all motion
        at once.
        """

    @ofa_method(name="measure_all", description="Measure")
    def measure(self) -> str:
        return "measured"

    def not_for_others(self) -> None: ...


class Child(Base):
    def move(self, x: float, y: Annotated[float, "of the child"] = 1) -> str:  # type: ignore[override]
        return f"moved by the child to {x!r}, {y!r}"


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
    *[("integer", sent) for sent in ("3.5", "", "three", "nan", "inf", "0x10", None, "3,0", [1])],
    *[("number", sent) for sent in ("", "far", "1,5", None, "1 2")],
    *[("boolean", sent) for sent in ("", "2", "wahr", None, "truee")],
    *[("optional", "3.5"), ("optional", "far"), ("optional", "")],
    *[("one_of", "right"), ("one_of", "2"), ("side", "up"), ("side", ""), ("gear", "3"), ("gear", "2.5")],
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


def test_arguments_are_required_unless_they_have_a_default(start: Start) -> None:
    app = start(Base)
    assert app.call("move", x=1, sender_uuid="HMI") == "moved"
    with pytest.raises(CommandRejected, match=r"Missing required argument 'x'.*takes x, y, side, name"):
        app.call("move", y=1, sender_uuid="HMI")
    with pytest.raises(CommandRejected, match=r"Unknown argument 'z'.*takes x, y, side, name"):
        app.call("move", x=1, z=1, sender_uuid="HMI")
    with pytest.raises(CommandRejected, match=r"Unknown argument 'now'.*takes no arguments"):
        app.call("stop", now=1, sender_uuid="HMI")


def arguments(contract: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(one["name"], one["description"]) for one in contract["arguments"]]


def test_others_are_told_of_every_method(start: Start) -> None:
    app = start(Base)
    assert list(app.methods()) == ["move", "stop", "measure_all"]
    move = app.methods()["move"]
    assert move["description"] == "Move to a position"
    assert arguments(move) == [("x", "where"), ("y", "of the dict"), ("side", "which side"), ("name", "")]
    assert app.methods()["stop"] == {"description": "Stop all motion\nat once.", "arguments": []}
    event = app._state.get("move")
    assert (event.type, event.tag) == ("Method", "Method")
    assert isinstance(event.value, str)


def test_a_method_has_the_name_that_it_is_given(start: Start) -> None:
    app = start(Base)
    assert app.call("measure_all", sender_uuid="HMI") == "measured"
    assert app.measure() == "measured"
    with pytest.raises(CommandRejected, match="has no method 'measure'"):
        app.call("measure", sender_uuid="HMI")


def test_a_child_has_the_methods_of_its_parents(start: Start) -> None:
    child = start(type("GrandChild", (Child,), {}))
    assert sorted(child.methods()) == ["measure_all", "move", "stop"]
    assert child.call("measure_all", sender_uuid="HMI") == "measured"


def test_an_override_that_is_not_marked_again_stays_a_method_with_arguments_of_its_own(start: Start) -> None:
    child = start(Child)
    assert child.call("move", x=2, sender_uuid="HMI") == "moved by the child to 2.0, 1"
    assert child.methods()["move"]["description"] == "Move to a position"
    assert arguments(child.methods()["move"])[1] == ("y", "of the child")
    assert len(arguments(child.methods()["move"])) == 2


def test_an_override_that_is_marked_says_its_own(start: Start) -> None:
    class Other(Base):
        @ofa_method(name="halt", description="Halt")
        def stop(self) -> str:  # type: ignore[override]
            return "halted"

    other = start(Other)
    assert "stop" not in other.methods()
    assert other.methods()["halt"]["description"] == "Halt"
    assert other.call("halt", sender_uuid="HMI") == "halted"


def test_an_override_cannot_have_arguments_without_a_name(start: Start) -> None:
    class Loose(Base):
        def move(self, x: float, **more: Any) -> str:  # type: ignore[override]
            return ""

    with pytest.raises(TypeError, match=r"Loose\.move cannot be called by others: \*\*more"):
        start(Loose)


def test_the_decorator_keeps_what_it_read() -> None:
    metadata = Base.move._ofa_method_metadata  # type: ignore[attr-defined]
    assert metadata["method_name"] == "move"
    assert metadata["description"] == "Move to a position"
    assert list(metadata["parameters"]) == ["x", "y", "side", "name"]
    assert metadata["parameters"]["x"]["required"] is True
    assert metadata["parameters"]["side"]["default"] is Side.LEFT
    assert metadata["parameters"]["x"]["description"] == "where"
    assert Typed.bare._ofa_method_metadata["parameters"]["x"]["annotation"] is None  # type: ignore[attr-defined]


def test_the_decorator_needs_its_parentheses() -> None:
    with pytest.raises(TypeError, match=r"Write @ofa_method\(\)"):

        @ofa_method  # type: ignore[arg-type]
        def move(self: Any) -> None: ...


def no_self(x: int) -> None: ...
def nothing() -> None: ...
def any_number(self: Any, *x: int) -> None: ...
def any_names(self: Any, **x: int) -> None: ...
def by_position(self: Any, x: int, /) -> None: ...


@pytest.mark.parametrize("function", [no_self, nothing, any_number, any_names, by_position])
def test_what_others_cannot_call_by_names_is_refused(function: Callable[..., None]) -> None:
    with pytest.raises(TypeError, match=function.__name__):
        ofa_method()(function)


def test_an_annotation_that_is_not_known_is_named_with_the_remedy(start: Start) -> None:
    class Broken(OpenFactoryApp):
        @ofa_method()
        def move(self, x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(
        TypeError, match=r"Broken\.move has an annotation that is not known: .*Nowhere.*Import the type"
    ):
        start(Broken)


def test_a_name_that_a_message_cannot_carry_is_refused(start: Start) -> None:
    class Broken(OpenFactoryApp):
        @ofa_method(name="move it")
        def move(self) -> None: ...

    with pytest.raises(ValueError, match="'move it' cannot be an attribute id"):
        start(Broken)
