"""Conversion of arguments from text to annotated types.

Scalars are converted by the rules below, types of pydantic by pydantic, and all other types by msgspec.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from openfactory.apps.limits import UNIONS, check_limits, pydantic_adapter, uses_pydantic, validated_by_pydantic
from openfactory.commands.envelope import argument_text
from openfactory.events.decoding import decode_json

__all__ = ["check_annotation", "converted"]

_TRUE = ("true", "1", "on", "yes", "y", "t")
_FALSE = ("false", "0", "off", "no", "n", "f")

# Types of these modules are strings in JSON, so their text has no quotes; other types arrive as JSON.
_TEXT_SHAPED = ("datetime", "decimal", "uuid")

# These types are built from their text.
_FROM_TEXT = ("fractions", "ipaddress", "pathlib")

# A value of each type of JSON: a class that has one of them as an instance, such as numbers.Real, is usable.
_JSON_VALUES: tuple[Any, ...] = (None, True, 0, 0.5, "", [], {})

_BINARY = (msgspec.inspect.BytesType, msgspec.inspect.ByteArrayType, msgspec.inspect.MemoryViewType)


def check_annotation(annotation: Any) -> None:
    """Check that text can be converted to a type.

    Raises:
        TypeError: it cannot; the message begins with "of a type", to follow the name of an argument.
    """
    try:
        for unusable in _unusable_parts(annotation):
            raise TypeError(f"{inspect.formatannotation(unusable)} has no text")
    except TypeError as error:
        raise TypeError(
            f"of a type that text cannot be converted to, {inspect.formatannotation(annotation)}: {error}. "
            "Use str, numbers, bool, an enum, a Literal, a date, a path, a dataclass, or lists and dicts of them."
        ) from error


def _unusable_parts(annotation: Any) -> Iterator[Any]:
    """Yield the parts of a type that `converted` cannot build.

    Raises:
        TypeError: msgspec or pydantic cannot build it.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        if typing.get_origin(arguments[0]) not in UNIONS and _module(arguments[0]) not in (*_TEXT_SHAPED, *_FROM_TEXT):
            msgspec.json.Decoder(annotation)  # it refuses, for example, a lowest number for text
        yield from _unusable_parts(arguments[0])
    elif origin in UNIONS:
        for choice in arguments:
            yield from _unusable_parts(choice)
    elif uses_pydantic(annotation):
        pydantic_adapter(annotation)
    elif annotation is not object and _module(annotation) not in _FROM_TEXT:
        msgspec.json.Decoder(annotation)
        yield from _unusable_nodes(msgspec.inspect.type_info(annotation), set())


def _unusable_nodes(node: Any, seen: set[int]) -> Iterator[Any]:
    if id(node) in seen:
        return  # a type that contains itself
    seen.add(id(node))
    if isinstance(node, _BINARY):
        yield bytes
    elif isinstance(node, msgspec.inspect.CustomType):
        if _module(node.cls) not in _FROM_TEXT and not any(isinstance(value, node.cls) for value in _JSON_VALUES):
            yield node.cls
    elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)):
        for name in node.__struct_fields__:
            yield from _unusable_nodes(getattr(node, name), seen)
    elif isinstance(node, tuple):
        for item in node:
            yield from _unusable_nodes(item, seen)


def _module(annotation: Any) -> str:
    """Return the name of the package that defines a type."""
    return str(getattr(annotation, "__module__", "")).partition(".")[0]


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
    if origin is typing.Annotated:
        return check_limits(converted(text, typing.get_args(annotation)[0]), annotation)
    if origin in UNIONS:
        return _convert_to_union(text, typing.get_args(annotation))
    if origin is typing.Literal:
        return _select(text, {argument_text(choice): choice for choice in typing.get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        names = {member.name: member for member in annotation}
        return _select(text, names | {argument_text(member.value): member for member in annotation})
    if uses_pydantic(annotation):
        return validated_by_pydantic(text, annotation)
    if _module(annotation) in _TEXT_SHAPED:
        return msgspec.convert(text.strip(), annotation, strict=False)
    if _module(annotation) in _FROM_TEXT:
        return annotation(text)
    decode = msgspec.json.Decoder(annotation, strict=False, dec_hook=_build).decode
    return check_limits(decode_json(text, decode), annotation)


def _build(kind: type, value: Any) -> Any:
    """Build a path or an address from its text, for msgspec, which then checks the type of the result."""
    return kind(value) if _module(kind) in _FROM_TEXT and isinstance(value, str) else value


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
