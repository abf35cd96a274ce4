"""Conditions on assets, such as `mill.status == idle and mill.load < 5`: parsed, and checked against values.

A condition is text of a file, so no part of it runs as code. `when` waits until one is fulfilled.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from openfactory.events.attribute import UNAVAILABLE, number_in
from openfactory.events.ownership import AVAILABILITY_ID
from openfactory.exceptions import ConfigurationError

__all__ = ["Comparison", "Condition", "ConditionError", "Lookup"]

#: Returns the value of an attribute by the UUID of its asset and its id, or None if it is not known.
Lookup = Callable[[str, str], Any]

_EXAMPLE = "Write one such as `mill.status == idle and mill.load < 5`."

# Longer conditions and deeper parentheses are refused, so that the parser cannot run out of stack.
_LONGEST = 1_000
_DEEPEST = 20

_TOKEN = re.compile(
    r"""\s*(?:(?P<operator>==|!=|<=|>=|<|>)|(?P<parenthesis>[()])|(?P<quoted>"[^"]*"|'[^']*')|(?P<word>[^\s()<>=!"']+))"""
)

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OF_TEXT = ("==", "!=")


class ConditionError(ConfigurationError):
    """A text is not a condition."""


class Comparison(msgspec.Struct, frozen=True):
    """The comparison of an attribute with a value.

    Attributes:
        asset_uuid: UUID of the asset.
        attribute_id: id of the attribute.
        operator: one of `==`, `!=`, `<`, `<=`, `>` and `>=`.
        value: the value to compare with: a float, or text, as a quoted value always is.
    """

    asset_uuid: str
    attribute_id: str
    operator: str
    value: float | str

    def __str__(self) -> str:
        return f"{self.asset_uuid}.{self.attribute_id} {self.operator} {_shown(self.value)}"

    def holds(self, lookup: Lookup) -> bool:
        """Return whether the comparison is true; it is false while the value is not known.

        An attribute that is UNAVAILABLE is not known either, unless it is the availability, or the comparison asks for
        UNAVAILABLE.
        """
        value = lookup(self.asset_uuid, self.attribute_id)
        if value is None:
            return False
        if value == UNAVAILABLE and self.value != UNAVAILABLE and self.attribute_id != AVAILABILITY_ID:
            return False
        compare = _OPERATORS[self.operator]
        if isinstance(self.value, str):
            return compare(_text(value), self.value)
        number = _number(value)
        return self.operator == "!=" if number is None else compare(number, self.value)


class _All(msgspec.Struct, frozen=True):
    parts: tuple[_Node, ...]

    def holds(self, lookup: Lookup) -> bool:
        return all(part.holds(lookup) for part in self.parts)


class _Any(msgspec.Struct, frozen=True):
    parts: tuple[_Node, ...]

    def holds(self, lookup: Lookup) -> bool:
        return any(part.holds(lookup) for part in self.parts)


_Node = Comparison | _All | _Any


class Condition(msgspec.Struct, frozen=True):
    """A condition on attributes of assets: comparisons, joined by `and` and `or`, which binds less, and parentheses.

    >>> values = {("mill", "status"): "idle", ("mill", "load"): 3.5}
    >>> idle = Condition.parse("mill.status == idle and (mill.load < 5 or mill.mode == 'set up')")
    >>> idle.holds(lambda asset_uuid, attribute_id: values.get((asset_uuid, attribute_id)))
    True

    Attributes:
        text: the text of the condition.
    """

    text: str
    _root: _Node

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            ConditionError: the text is not a condition.
        """
        if len(text) > _LONGEST:
            raise ConditionError(
                f"The condition has {len(text)} characters, and {_LONGEST} is the limit. Write an attribute of an app "
                "that has the answer, and compare it."
            )
        return cls(text, _Parser(text).whole())

    def holds(self, lookup: Lookup) -> bool:
        """Return whether the condition is fulfilled by the values that `lookup` returns."""
        return self._root.holds(lookup)

    def comparisons(self) -> Iterator[Comparison]:
        """Yield the comparisons, in the order of the text."""
        return _comparisons(self._root)

    def explain(self, lookup: Lookup) -> str:
        """Return the present values of the attributes, such as `mill.status is busy`."""
        names = dict.fromkeys((part.asset_uuid, part.attribute_id) for part in self.comparisons())
        values = {name: lookup(*name) for name in names}
        return ", ".join(
            f"{uuid}.{attribute} is {'not known' if value is None else _text(value)}"
            for (uuid, attribute), value in values.items()
        )


def _comparisons(node: _Node) -> Iterator[Comparison]:
    if isinstance(node, Comparison):
        yield node
    else:
        for part in node.parts:
            yield from _comparisons(part)


class _Parser:
    """The parser of one condition, by recursive descent."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._either()
        if self._next < len(self._tokens):
            raise self._error(f"`and` or `or` is missing before {self._tokens[self._next][1]!r}.")
        return node

    def _either(self) -> _Node:
        parts = [self._both()]
        while self._takes("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _Any(tuple(parts))

    def _both(self) -> _Node:
        parts = [self._part()]
        while self._takes("and"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else _All(tuple(parts))

    def _part(self) -> _Node:
        if not self._takes("("):
            return self._comparison()
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"It has more than {_DEEPEST} parentheses in each other.")
        node = self._either()
        if not self._takes(")"):
            raise self._error("A closing parenthesis is missing.")
        self._depth -= 1
        return node

    def _comparison(self) -> Comparison:
        kind, name = self._take("the name of an attribute")
        uuid, dot, attribute = name.partition(".")
        if kind != "word" or not (uuid and dot and attribute):
            raise self._error(f"{name!r} is not an attribute with its asset. Write UUID.ID, such as mill.status.")
        kind, sign = self._take(f"a comparison after {name}")
        if kind != "operator":
            raise self._error(f"{sign!r} is not a comparison. Use one of {', '.join(_OPERATORS)}.")
        kind, text = self._take(f"a value after {name} {sign}")
        if kind == "quoted":
            value: float | str = text[1:-1]
        elif kind == "word":
            number = number_in(text)
            value = text if number is None else number
        else:
            raise self._error(f"{text!r} is not a value. Put it in quotes if it is.")
        if isinstance(value, str) and sign not in _OF_TEXT:
            raise self._error(f"{name} {sign} {_shown(value)} compares text. Use == or != for text.")
        return Comparison(uuid, attribute, sign, value)

    def _takes(self, text: str) -> bool:
        if self._next < len(self._tokens) and self._tokens[self._next] in (("word", text), ("parenthesis", text)):
            self._next += 1
            return True
        return False

    def _take(self, missing: str) -> tuple[str, str]:
        if self._next == len(self._tokens):
            raise self._error(f"It ends where {missing} is missing.")
        self._next += 1
        return self._tokens[self._next - 1]

    def _error(self, problem: str) -> ConditionError:
        return ConditionError(f"{self._text!r} is not a condition on assets. {problem} {_EXAMPLE}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a condition, each with its kind."""
    place = 0
    while text[place:].strip():
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise ConditionError(
                f"{text!r} is not a condition on assets: it cannot be read from {text[place:].strip()[:20]!r} on. "
                f"{_EXAMPLE}"
            )
        yield found.lastgroup, found[found.lastgroup]
        place = found.end()


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    return number_in(value) if isinstance(value, str) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        plain = _TOKEN.fullmatch(value)
        return value if plain and plain.lastgroup == "word" and number_in(value) is None else repr(value)
    return f"{value:g}"
