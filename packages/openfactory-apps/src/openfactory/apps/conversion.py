"""Conversion of arguments from text to annotated types: scalars by the rules below, all other types by msgspec."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import msgspec

from openfactory.commands.envelope import argument_text
from openfactory.events.decoding import decode_json

__all__ = ["converted"]

_TRUE = ("true", "1", "on", "yes", "y", "t")
_FALSE = ("false", "0", "off", "no", "n", "f")

# Types of these modules are strings in JSON, so their text has no quotes; other types arrive as JSON.
_TEXT_SHAPED = ("datetime", "decimal", "uuid")


def converted(text: str, annotation: Any) -> Any:
    """Convert a text to an annotated type.

    >>> converted(" 4 ", int), converted("3.0", int), converted("on", bool), converted("[1, 2]", list[float])
    (4, 3, True, [1.0, 2.0])

    Raises:
        ValueError: the text does not represent a value of the type.
    """
    if annotation in (str, Any, object, None):
        return text
    if annotation is bool:
        return _convert_to_bool(text)
    if annotation in (int, float):
        if "_" in text or not text.isascii():  # Python reads these as numbers; other programs do not write numbers so
            raise ValueError("it is not a number")
        return _convert_to_int(text) if annotation is int else float(text)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return _convert_to_union(text, typing.get_args(annotation))
    if origin is typing.Literal:
        return _select(text, {argument_text(choice): choice for choice in typing.get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        names = {member.name: member for member in annotation}
        return _select(text, names | {argument_text(member.value): member for member in annotation})
    if getattr(annotation, "__module__", "") in _TEXT_SHAPED:
        return msgspec.convert(text.strip(), annotation, strict=False)
    return decode_json(text, msgspec.json.Decoder(annotation, strict=False).decode)


def _convert_to_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("use true or false")


def _convert_to_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise ValueError("it has a fraction") from None
        return int(number)


def _convert_to_union(text: str, choices: tuple[Any, ...]) -> Any:
    """Convert a text to a type of a union.

    `null` and `none` become None if the union has None, and any other text stays text if it has `str`. Otherwise the
    first type that accepts the text wins.
    """
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


def _select(text: str, choices: dict[str, Any]) -> Any:
    if text in choices:
        return choices[text]
    if text.strip() in choices:
        return choices[text.strip()]
    raise ValueError(f"use one of {', '.join(choices)}")
