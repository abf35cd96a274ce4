"""ofa_method: what others are told of a method, and how the text they send becomes its arguments."""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import pytest

from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.exceptions import CommandRejected

pytestmark = pytest.mark.smoke

Start = Callable[..., Any]


class Side(enum.Enum):
    LEFT = "l"
    RIGHT = "r"


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
    assert {key for one in json.loads(event.value)["arguments"] for key in one} == {"name", "description"}
    assert "move_CONTRACT" not in app.attributes()


def test_a_caller_can_check_its_arguments(start: Start) -> None:
    x, y, side, _ = start(Base).methods()["move"]["arguments"]
    assert (x["type"], x["required"], "default" in x) == ("float", True, False)
    assert (y["type"], y["required"], y["default"]) == ("float", False, 0.5)
    assert (side["required"], side["default"]) == (False, "l")


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


def test_an_override_cannot_have_arguments_without_a_name() -> None:
    with pytest.raises(TypeError, match=r"Loose\.move cannot be called by others: \*\*more"):

        class Loose(Base):
            def move(self, x: float, **more: Any) -> str:  # type: ignore[override]
                return ""


def test_the_decorator_keeps_what_it_read() -> None:
    metadata = Base.move._ofa_method_metadata  # type: ignore[attr-defined]
    assert metadata["method_name"] == "move"
    assert metadata["description"] == "Move to a position"
    assert list(metadata["parameters"]) == ["x", "y", "side", "name"]
    assert metadata["parameters"]["x"]["required"] is True
    assert metadata["parameters"]["side"]["default"] is Side.LEFT
    assert metadata["parameters"]["x"]["description"] == "where"

    @ofa_method()
    def bare(self, x): ...  # type: ignore[no-untyped-def]

    assert bare._ofa_method_metadata["parameters"]["x"]["annotation"] is None  # type: ignore[attr-defined]


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


def test_a_name_that_a_message_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="'move it' cannot be an attribute id"):

        @ofa_method(name="move it")
        def move(self: Any) -> None: ...


def test_two_methods_of_one_name_are_refused() -> None:
    with pytest.raises(TypeError, match="two methods with the name 'go' in commands: move and travel"):

        class Twice(OpenFactoryApp):
            @ofa_method(name="go")
            def move(self) -> None: ...

            @ofa_method(name="go")
            def travel(self) -> None: ...


def test_a_generator_has_no_result_and_is_refused() -> None:
    with pytest.raises(TypeError, match=r"numbers is a generator.*Return a list"):

        @ofa_method()
        def numbers(self: Any) -> Iterator[int]:
            yield 1


def test_the_annotation_of_the_result_is_not_needed(start: Start) -> None:
    class Typed(OpenFactoryApp):
        @ofa_method()
        def move(self, x: int) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
            return x

    assert start(Typed).call("move", x=3, sender_uuid="HMI") == 3


def test_a_type_may_be_defined_after_the_class(start: Start) -> None:
    class Early(OpenFactoryApp):
        @ofa_method()
        def turn(self, to: Late) -> str:
            return to.name

    assert start(Early).call("turn", to="up", sender_uuid="HMI") == "UP"


class Late(enum.Enum):
    UP = "up"
