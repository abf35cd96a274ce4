"""Conditions on assets mean what they say, for all values, and run no code."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.deploy.conditions import Condition, ConditionError

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NAMES = ("mill", "press-2", "saw_3")
IDS = ("status", "load", "axis.x.pos")
numbers = st.integers(-1000, 1000) | st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
words = st.text("abcdefgh_-", min_size=1, max_size=8).filter(lambda word: word not in ("and", "or"))
factories = st.dictionaries(st.tuples(st.sampled_from(NAMES), st.sampled_from(IDS)), numbers | words)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, Callable[[dict[tuple[str, str], Any]], bool]]:
    """A comparison, and Python's evaluation of it."""
    asset, attribute = draw(st.sampled_from(NAMES)), draw(st.sampled_from(IDS))
    if draw(st.booleans()):
        number = draw(numbers)
        sign = draw(st.sampled_from(list(OPERATORS)))

        def of_number(values: dict[tuple[str, str], Any]) -> bool:
            value = values.get((asset, attribute))
            if isinstance(value, str):
                return sign == "!="
            return value is not None and OPERATORS[sign](value, number)

        return f"{asset}.{attribute} {sign} {number}", of_number
    text, sign = draw(words), draw(st.sampled_from(["==", "!="]))
    quoted = draw(st.sampled_from(["{}", "'{}'", '"{}"'])).format(text)

    def of_text(values: dict[tuple[str, str], Any]) -> bool:
        value = values.get((asset, attribute))
        return value is not None and OPERATORS[sign](value, text)

    return f"{asset}.{attribute}{draw(st.sampled_from([' ', '']))}{sign} {quoted}", of_text


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Callable[[dict[tuple[str, str], Any]], bool]]:
    """A condition, whose Python expression stands for each comparison by its number."""
    parts = draw(st.lists(comparisons(), min_size=1, max_size=5))
    text, expression = parts[0][0], "part(0)"
    for number, (comparison, _) in enumerate(parts[1:], start=1):
        word = draw(st.sampled_from(["and", "or"]))
        text, expression = f"{text} {word} {comparison}", f"{expression} {word} part({number})"
        if draw(st.booleans()):
            text, expression = f"({text})", f"({expression})"
    return text, lambda values: eval(expression, {"part": lambda number: parts[number][1](values)})


@given(conditions(), factories)
def test_a_condition_means_the_same_as_in_python(
    condition: tuple[str, Callable[[dict[tuple[str, str], Any]], bool]], values: dict[tuple[str, str], Any]
) -> None:
    text, expected = condition
    assert Condition.parse(text).holds(lambda *name: values.get(name)) == expected(values), text


@given(st.text(max_size=60) | st.text("mill.st= <>!()'\"andor5", max_size=60))
def test_any_text_is_a_condition_or_an_error_with_an_example(text: str) -> None:
    problem = ""
    try:
        Condition.parse(text).holds(lambda *_: "idle")
    except ConditionError as error:
        problem = str(error)
    assert not problem or "mill.status == idle" in problem


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("mill.status == idle", None, False),
        ("mill.status != idle", None, False),
        ("mill.status != busy", "UNAVAILABLE", False),
        ("mill.status == UNAVAILABLE", "UNAVAILABLE", True),
        ("mill.avail != AVAILABLE", "UNAVAILABLE", True),
        ("mill.load < 5", "UNAVAILABLE", False),
        ("mill.load < 5", "4.5", True),
        ("mill.load == 5", 5.0, True),
        ("mill.load == '5'", "5", True),
        ("mill.load == '5'", 5.0, False),
        ("mill.open == true", True, True),
        ("mill.open == 1", True, False),
        ("mill.program == 'face milling'", "face milling", True),
        ('mill.program == "and"', "and", True),
    ],
)
def test_values_of_each_kind(text: str, value: Any, expected: bool) -> None:
    assert Condition.parse(text).holds(lambda *_: value) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "It ends where the name of an attribute is missing."),
        ("mill == idle", "'mill' is not an attribute with its asset."),
        ("mill.status", "It ends where a comparison after mill.status is missing."),
        ("mill.status = idle", "cannot be read from '= idle'"),
        ("mill.status ==", "It ends where a value after mill.status == is missing."),
        ("mill.status < idle", "Use == or != for text."),
        ("mill.load < '5'", "Use == or != for text."),
        ("mill.a == 1 mill.b == 2", "`and` or `or` is missing before 'mill.b'."),
        ("(mill.a == 1", "A closing parenthesis is missing."),
        ("(" * 30 + "mill.a == 1" + ")" * 30, "more than 20 parentheses"),
        ("mill.a == 1 and " * 100 + "mill.a == 1", "1000 is the limit"),
        ("__import__('os').system('true')", "is not"),
    ],
)
def test_an_error_names_the_problem(text: str, problem: str) -> None:
    with pytest.raises(ConditionError) as caught:
        Condition.parse(text)
    assert problem in str(caught.value)


def test_the_present_values_explain_a_condition() -> None:
    condition = Condition.parse("mill.status == idle and (mill.load < 5 or saw.status != busy) and mill.status != off")
    values = {("mill", "status"): "busy", ("mill", "load"): 7.5}
    explained = condition.explain(lambda *name: values.get(name))
    assert explained == "mill.status is busy, mill.load is 7.5, saw.status is not known"
