"""Text into the types that methods are annotated with: the scalars by rules of ours, the rest by msgspec."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import msgspec

from openfactory.commands.envelope import argument_text

__all__ = ["converted"]

_TRUE = ("true", "1", "on", "yes", "y", "t")
_FALSE = ("false", "0", "off", "no", "n", "f")

# What is written as text in JSON too; everything else travels as JSON.
_TEXT_SHAPED = ("datetime", "decimal", "uuid")


def converted(text: str, annotation: Any) -> Any:
    """A value of an annotated type.

    >>> converted(" 4 ", int), converted("3.0", int), converted("on", bool), converted("[1, 2]", list[float])
    (4, 3, True, [1.0, 2.0])

    Raises:
        ValueError: the text is none.
    """
    if annotation in (str, Any, object, None):
        return text
    if annotation is bool:
        return _boolean(text)
    if annotation is int:
        return _integer(text)
    if annotation is float:
        return float(text)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _one_of(text, typing.get_args(annotation))
    if origin is typing.Literal:
        return _choice(text, {argument_text(choice): choice for choice in typing.get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        names = {member.name: member for member in annotation}
        return _choice(text, names | {argument_text(member.value): member for member in annotation})
    if getattr(annotation, "__module__", "") in _TEXT_SHAPED:
        return msgspec.convert(text.strip(), annotation, strict=False)
    return msgspec.json.decode(text, type=annotation, strict=False)


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("use true or false")


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise ValueError("it has a fraction") from None
        return int(number)


def _one_of(text: str, choices: tuple[Any, ...]) -> Any:
    """Of a union: null where None is one of it, text as it is where text is, else the first that takes it."""
    if type(None) in choices and text.strip().lower() in ("null", "none"):
        return None
    if str in choices:
        return text
    reasons = []
    for choice in choices:
        if choice is not type(None):
            try:
                return converted(text, choice)
            except (ValueError, TypeError) as error:
                reasons.append(str(error))
    raise ValueError("; ".join(reasons))


def _choice(text: str, choices: dict[str, Any]) -> Any:
    if text in choices:
        return choices[text]
    if text.strip() in choices:
        return choices[text.strip()]
    raise ValueError(f"use one of {', '.join(choices)}")
