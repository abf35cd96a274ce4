"""Limits of arguments in `Annotated` are checked before the method runs, and published with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from ipaddress import IPv4Address
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types
import msgspec
import pydantic
import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.exceptions import CommandRejected

Start = Callable[..., Any]

Meta, Field = msgspec.Meta, pydantic.Field


class Percent(annotated_types.GroupedMetadata):
    def __iter__(self) -> Iterator[object]:
        return iter((annotated_types.Ge(0), annotated_types.Le(100)))


class Box(pydantic.BaseModel):
    width: Annotated[int, Field(le=5)]


@dataclasses.dataclass
class Point:
    x: Annotated[int, annotated_types.Le(5)]
    y: Annotated[int, Meta(le=5)] = 0


class Range(msgspec.Struct):
    low: Annotated[int, annotated_types.Interval(ge=0, lt=3)]


# Type, text within the limits, what the method gets, and text beyond them.
LIMITED: list[tuple[Any, str, Any, list[str]]] = [
    (Annotated[int, Meta(ge=0, le=3000)], "3e3", 3000, ["3001", "-1"]),
    (Annotated[int, Field(ge=0, le=3000)], "3000", 3000, ["3001", "-1"]),
    (Annotated[float, annotated_types.Interval(gt=0, lt=1)], "0.5", 0.5, ["0", "1", "nan"]),
    (Annotated[int, Percent()], "100", 100, ["101"]),
    (Annotated[Annotated[int, annotated_types.Le(5)], annotated_types.Ge(1)], "3", 3, ["0", "6"]),
    (Annotated[float, annotated_types.MultipleOf(0.1)], "0.3", 0.3, ["0.35"]),
    (Annotated[str, Meta(min_length=1, max_length=3, pattern="^a")], "abc", "abc", ["", "abcd", "b"]),
    (Annotated[str, Field(pattern="^a")], "ab", "ab", ["b"]),
    (Annotated[str, pydantic.StringConstraints(strip_whitespace=True, max_length=2)], " ab ", "ab", ["abc"]),
    (Annotated[int, pydantic.AfterValidator(lambda value: value * 2)], "3", 6, []),
    (pydantic.PositiveInt, "1", 1, ["0"]),
    (Annotated[int, annotated_types.Predicate(lambda value: value % 2 == 1)], "3", 3, ["4"]),
    (Annotated[Decimal, Meta(le=5)], "5.0", Decimal("5.0"), ["5.1"]),
    (Annotated[datetime, Meta(tz=False)], "2026-11-21T07:30:00", datetime(2026, 11, 21, 7, 30), []),  # noqa: DTZ001
    (Annotated[datetime, Meta(tz=True)], "2026-11-21", None, ["2026-11-21T07:30:00"]),
    (Annotated[int, Meta(le=5)] | None, "null", None, ["6"]),
    (Annotated[int, Field(le=5)] | None, "5", 5, ["6"]),
    (Annotated[int | None, annotated_types.Le(5)], "null", None, ["6"]),
    (Annotated[list[int], annotated_types.MaxLen(2)], "[1, 2]", [1, 2], ["[1, 2, 3]"]),
    *[(list[Annotated[int, limit]], "[5]", [5], ["[6]"]) for limit in (Meta(le=5), Field(le=5), annotated_types.Le(5))],
    (list[Annotated[int, annotated_types.Le(5)] | str], '[5, "a"]', [5, "a"], ["[6]"]),
    (dict[str, Annotated[int, annotated_types.Le(5)]], '{"a": 5}', {"a": 5}, ['{"a": 6}']),
    (tuple[Annotated[int, annotated_types.Le(5)], ...], "[5]", (5,), ["[6]"]),
    (tuple[str, Annotated[int, annotated_types.Le(5)]], '["a", 5]', ("a", 5), ['["a", 6]']),
    (Point, '{"x": 5}', Point(5), ['{"x": 6}', '{"x": 1, "y": 6}']),
    (list[Point], '[{"x": 5}]', [Point(5)], ['[{"x": 6}]']),
    (Range, '{"low": 2}', Range(2), ['{"low": 3}']),
    (Box, '{"width": 5}', Box(width=5), ['{"width": 6}', "5", "{"]),
    (list[Box], '[{"width": 5}]', [Box(width=5)], ['[{"width": 6}]']),
    (Box | None, "null", None, ['{"width": 6}']),
    (Path, "a b/c", Path("a b/c"), []),
    (list[Path], '["a"]', [Path("a")], ["[1]"]),
    (IPv4Address, "127.0.0.1", IPv4Address("127.0.0.1"), ["127.0.0.256"]),
    (Real, "3", 3, ['"three"']),
    (Annotated[Literal[1, 2], Meta(description="gear")], "1", 1, ["3"]),
]


def app_with(annotation: Any) -> type[OpenFactoryApp]:
    """An app with a method `take`, whose argument has the annotation; it keeps what it took."""

    def take(self: Any, x: Any) -> None:
        self.taken.append(x)

    take.__annotations__ = {"x": annotation}
    return type("Taker", (OpenFactoryApp,), {"take": ofa_method()(take), "taken": []})


@pytest.mark.parametrize(("annotation", "text", "got", "beyond"), LIMITED)
def test_a_method_runs_only_with_arguments_within_their_limits(
    start: Start, annotation: Any, text: str, got: Any, beyond: list[str]
) -> None:
    app = start(app_with(annotation))
    if got is not None or text == "null":
        app.call("take", x=text, sender_uuid="HMI")
        assert app.taken == [got]
        assert type(app.taken[0]) is type(got)
        app.taken.clear()
    for wrong in beyond:
        with pytest.raises(CommandRejected, match="Failed to convert argument 'x' to"):
            app.call("take", x=wrong, sender_uuid="HMI")
    assert app.taken == []


def test_the_reason_names_the_limit(start: Start) -> None:
    with pytest.raises(CommandRejected, match=r"to int: '3001' \(it must be at most 3000\)"):
        start(app_with(Annotated[int, Meta(le=3000)])).call("take", x=3001, sender_uuid="HMI")
    with pytest.raises(CommandRejected, match=r"\(Input should be less than or equal to 3000\)"):
        start(app_with(Annotated[int, Field(le=3000)])).call("take", x=3001, sender_uuid="HMI")


@pytest.mark.parametrize(
    ("annotation", "limits"),
    [
        (Annotated[int, Meta(ge=0, le=3000)], {"minimum": 0, "maximum": 3000}),
        (Annotated[int, Field(gt=0, lt=3000)] | None, {"exclusiveMinimum": 0, "exclusiveMaximum": 3000}),
        (Annotated[str, annotated_types.Len(1, 20)], {"minLength": 1, "maxLength": 20}),
        (Annotated[list[int], annotated_types.MaxLen(2)], {"maxItems": 2}),
        (Annotated[str, Meta(pattern="^a")], {"pattern": "^a"}),
        (Annotated[int, "no limit"], None),
        (int, None),
    ],
)
def test_limits_are_published_in_the_contract(start: Start, annotation: Any, limits: dict[str, Any] | None) -> None:
    (argument,) = start(app_with(annotation)).methods()["take"]["arguments"]
    assert argument.get("limits") == limits
    if limits is None:
        assert argument["type"] == "int"


def test_a_limit_may_say_what_the_argument_means(start: Start) -> None:
    for annotation in (Annotated[int, Meta(le=5, description="gear")], Annotated[int, Field(description="gear")]):
        (argument,) = start(app_with(annotation)).methods()["take"]["arguments"]
        assert (argument["type"], argument["description"]) == ("int", "gear")


class Opaque: ...


@pytest.mark.parametrize(
    "annotation",
    [
        *[bytes, bytearray, memoryview, list[bytes]],
        *[Opaque, dict[str, Opaque], Opaque | None, Callable[[int], int], complex],
        *[Literal[b"a"], Annotated[str, Meta(ge=0)], Annotated[datetime, annotated_types.Timezone(None)]],
    ],
)
def test_an_annotation_that_text_cannot_be_converted_to_is_refused_with_the_class(annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"take has an argument 'x' .*\. Use "):
        app_with(annotation)
