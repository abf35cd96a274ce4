"""Limits of arguments in `Annotated`: those of msgspec, annotated_types and pydantic are checked and published.

    speed: Annotated[int, msgspec.Meta(ge=0, le=3000)]
    name: Annotated[str, annotated_types.Len(1, 20)]
    share: Annotated[float, pydantic.Field(ge=0, le=1)]

None of these libraries is imported here: a limit is recognized by its attributes, and pydantic is called for its own.
"""

from __future__ import annotations

import dataclasses
import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec

__all__ = [
    "UNIONS",
    "check_limits",
    "limited",
    "published_limits",
    "pydantic_adapter",
    "unlimited",
    "uses_pydantic",
    "validated_by_pydantic",
]

UNIONS = (typing.Union, types.UnionType)


class Limit(NamedTuple):
    """A kind of limit: its check, the words before it in an error, and its keyword in JSON Schema."""

    holds: Callable[[Any, Any], bool]
    words: str
    keyword: str


# By the attribute that has the limit, in msgspec.Meta and in the classes of annotated_types and pydantic.
_LIMITS = {
    "gt": Limit(operator.gt, "greater than", "exclusiveMinimum"),
    "ge": Limit(operator.ge, "at least", "minimum"),
    "lt": Limit(operator.lt, "less than", "exclusiveMaximum"),
    "le": Limit(operator.le, "at most", "maximum"),
    "multiple_of": Limit(
        lambda value, step: Decimal(str(value)) % Decimal(str(step)) == 0, "a multiple of", "multipleOf"
    ),
    "min_length": Limit(lambda value, length: len(value) >= length, "of at least the length", "minLength"),
    "max_length": Limit(lambda value, length: len(value) <= length, "of at most the length", "maxLength"),
    "pattern": Limit(lambda value, pattern: re.search(pattern, value) is not None, "text with the pattern", "pattern"),
    "tz": Limit(lambda value, aware: (value.tzinfo is not None) is aware, "with a time zone:", "timezone"),
}


def limited(kind: Any, extras: Iterable[Any]) -> Any:
    """Return a type with those extras of its `Annotated` that limit its values."""
    limits = [extra for extra in extras if _parts(extra)]
    return Annotated[(kind, *limits)] if limits else kind


def unlimited(annotation: Any) -> Any:
    """Return a type without the limits that `limited` has added.

    >>> unlimited(limited(int, [msgspec.Meta(ge=0)]))
    <class 'int'>
    """
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def published_limits(annotation: Any) -> dict[str, Any]:
    """Return the limits of a type in the words of JSON Schema.

    >>> published_limits(Annotated[int, msgspec.Meta(ge=0, le=3000)])
    {'minimum': 0, 'maximum': 3000}
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in UNIONS:
        return {key: limit for choice in arguments for key, limit in published_limits(choice).items()}
    if origin is not Annotated:
        return {}
    kind = typing.get_origin(arguments[0]) or arguments[0]
    size = "Properties" if kind is dict else "Length" if kind is str else "Items"
    return {
        _LIMITS[name].keyword.replace("Length", size): msgspec.to_builtins(getattr(limit, "pattern", limit))
        for extra in arguments[1:]
        for part in _parts(extra)
        for name, limit in _limits_in(part)
    }


def check_limits(value: Any, annotation: Any) -> Any:
    """Return a value that is within the limits of its type, at every depth; validators of pydantic may change it.

    Raises:
        ValueError: the value is not within a limit.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if value is None:
        return value
    if origin is Annotated:
        extras = arguments[1:]
        if any(_is_of_pydantic(extra) for extra in extras):
            value = validated_by_pydantic(value, annotation)
            extras = tuple(extra for extra in extras if isinstance(extra, msgspec.Meta))  # pydantic knows all others
        for extra in extras:
            _check(value, extra)
        return check_limits(value, arguments[0])
    if origin in UNIONS:
        return _check_choices(value, arguments)
    for item, kind in _items(value, arguments):
        check_limits(item, kind)
    return value


def uses_pydantic(annotation: Any) -> bool:
    """Return whether pydantic defines a part of a type, such as a model in a list."""
    return _is_of_pydantic(annotation) or any(uses_pydantic(part) for part in typing.get_args(annotation))


def validated_by_pydantic(value: Any, annotation: Any) -> Any:
    """Return a value as pydantic validates it; text of a JSON object or array is decoded.

    Raises:
        ValueError: the value is not valid.
        TypeError: pydantic does not know the type.
    """
    adapter = pydantic_adapter(annotation)
    try:
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            return adapter.validate_json(value)
        return adapter.validate_python(value)
    except sys.modules["pydantic"].ValidationError as error:
        reasons = (f"{'.'.join(map(str, reason['loc']))} {reason['msg']}".strip() for reason in error.errors())
        raise ValueError("; ".join(reasons)) from error


def pydantic_adapter(annotation: Any) -> Any:
    """Return the object of pydantic that validates values of a type.

    Raises:
        TypeError: pydantic does not know the type.
    """
    return sys.modules["pydantic"].TypeAdapter(annotation)


def _is_of_pydantic(part: Any) -> bool:
    if hasattr(part, "__pydantic_core_schema__"):
        return True  # a model, or a dataclass of pydantic
    module = part.__module__ if isinstance(part, type) else type(part).__module__
    return module.partition(".")[0] == "pydantic"


def _parts(extra: Any) -> list[Any]:
    """Return the single limits in an extra of `Annotated`; an empty list if it does not limit values."""
    if isinstance(getattr(extra, "metadata", None), list):  # pydantic.Field
        return [part for inner in extra.metadata for part in _parts(inner)]
    if getattr(extra, "__is_annotated_types_grouped_metadata__", False) is True and not _is_of_pydantic(extra):
        return [part for inner in extra for part in _parts(inner)]
    if _limits_in(extra) or _is_predicate(extra) or _is_of_pydantic(extra):
        return [extra]
    if type(extra).__module__.partition(".")[0] == "annotated_types" and hasattr(extra, "tz"):
        raise TypeError(f"with the limit {extra!r}, which is not checked. Use msgspec.Meta(tz=True).")
    return []


def _limits_in(part: Any) -> list[tuple[str, Any]]:
    libraries = {base.__module__.partition(".")[0] for base in type(part).__mro__}
    if libraries.isdisjoint(("msgspec", "annotated_types", "pydantic")):
        return []
    return [(name, limit) for name in _LIMITS if (limit := getattr(part, name, None)) is not None]


def _is_predicate(extra: Any) -> bool:
    return type(extra).__module__.partition(".")[0] == "annotated_types" and callable(getattr(extra, "func", None))


def _check(value: Any, extra: Any) -> None:
    for part in _parts(extra):
        for name, limit in _limits_in(part):
            if not _LIMITS[name].holds(value, limit):
                raise ValueError(f"it must be {_LIMITS[name].words} {getattr(limit, 'pattern', limit)}")
        if _is_predicate(part) and not part.func(value):
            raise ValueError(f"it must fulfil {getattr(part.func, '__name__', part.func)}")


def _check_choices(value: Any, choices: Iterable[Any]) -> Any:
    """Check a value in a container by those types of a union that it has."""
    failure: ValueError | None = None
    for choice in choices:
        try:
            msgspec.convert(value, choice)
        except ValueError:
            continue
        try:
            return check_limits(value, choice)
        except ValueError as error:
            failure = error
    if failure is not None:
        raise failure
    return value


def _items(value: Any, arguments: tuple[Any, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield the parts of a value, each with its type."""
    if isinstance(value, dict) and len(arguments) == 2:
        for key, item in value.items():
            yield from ((key, arguments[0]), (item, arguments[1]))
    elif isinstance(value, tuple) and arguments and arguments[-1] is not Ellipsis:
        yield from zip(value, arguments, strict=False)
    elif isinstance(value, (list, tuple, set, frozenset)) and arguments:
        yield from ((item, arguments[0]) for item in value)
    elif dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct):
        owner: type = type(value)
        yield from ((getattr(value, name), kind) for name, kind in _fields(owner).items())


@lru_cache(maxsize=256)
def _fields(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)
