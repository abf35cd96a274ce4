"""The JSON form of Python values, by one rule for attributes, arguments of commands and results of methods.

Numbers and arrays of numpy, models of pydantic, dataclasses, enumerations, decimals, dates, UUIDs and paths are
converted. Bytes, NaN and infinity are refused, because JSON has no form that a reader could convert back.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from openfactory.exceptions import InvalidEventError

__all__ = ["plain_value"]

# Parsers accept different depths of nesting: SQLite 1000 levels, some decoders as many as fit on their stack.
_MAX_DEPTH = 100

_BYTES = (bytes, bytearray, memoryview)
_TEXT_SHAPED = (date, time, timedelta, UUID, Decimal)

#: Called with the reason why a part of a value cannot be carried; it returns the value in place of the part, or raises.
OnRefusal = Callable[[InvalidEventError], Any]


def _refuse(error: InvalidEventError) -> Any:
    raise error


def plain_value(value: Any, on_refusal: OnRefusal = _refuse, *, depth: int = _MAX_DEPTH) -> Any:
    """Return a value as text, numbers, Booleans, None, and lists and dictionaries of them.

    >>> plain_value({"at": (1, 2.5), "when": date(2026, 11, 21)})
    {'at': [1, 2.5], 'when': '2026-11-21'}

    Args:
        on_refusal: called for each part that cannot be carried; by default, the first such part raises.
        depth: number of levels that lists and dictionaries may be nested.

    Raises:
        InvalidEventError: JSON cannot represent the value, or it is nested too deeply.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if math.isfinite(value) else on_refusal(_not_finite(value))
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if not depth:
            return on_refusal(
                InvalidEventError(
                    f"the value is nested more than {_MAX_DEPTH} levels deep and cannot be written as JSON. "
                    "Write fewer levels, or several attributes."
                )
            )
        if isinstance(value, dict):
            return _plain_items(value, on_refusal, depth - 1)
        return [plain_value(item, on_refusal, depth=depth - 1) for item in value]
    try:
        simpler = _simpler(value)
    except Exception as error:  # noqa: BLE001 - a model or an array runs code of its library or of the user
        return on_refusal(_unknown(value, error))
    return plain_value(simpler, on_refusal, depth=depth)


def _plain_items(items: dict[Any, Any], on_refusal: OnRefusal, depth: int) -> dict[str, Any]:
    plain = {
        key if type(key) is str else _plain_key(key): plain_value(item, on_refusal, depth=depth)
        for key, item in items.items()
    }
    if len(plain) != len(items):
        return on_refusal(  # type: ignore[no-any-return]
            InvalidEventError("two keys of a dictionary are the same as text. Write keys that differ as text.")
        )
    return plain


def _plain_key(key: Any) -> str:
    """Return the key of a dictionary as text: JSON has no other keys."""
    plain = plain_value(key, depth=0)
    if isinstance(plain, str):
        return plain
    if isinstance(plain, (int, float)) and not isinstance(plain, bool):
        return msgspec.json.encode(plain).decode()
    raise InvalidEventError(f"a key of a dictionary is {key!r}. Write keys that are text or numbers.")


def _simpler(value: Any) -> Any:
    """Return an object one step nearer to JSON.

    Raises:
        TypeError: no rule converts objects of this type.
    """
    kind = type(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _BYTES):
        raise TypeError("bytes are not text. Decode them, or write their base64")
    if hasattr(kind, "dtype"):
        return _of_array(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, _TEXT_SHAPED):
        if isinstance(value, Decimal) and not value.is_finite():
            raise ValueError(f"{value} is not a number")
        return msgspec.to_builtins(value)
    if hasattr(kind, "__fspath__"):
        return value.__fspath__()
    if hasattr(kind, "model_dump"):
        return value.model_dump()
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)

    def simpler_part(part: Any) -> Any:
        if part is value:
            raise TypeError("no rule converts it")
        return _simpler(part)

    return msgspec.to_builtins(value, builtin_types=_BYTES, str_keys=True, enc_hook=simpler_part)


def _of_array(value: Any) -> Any:
    """Return a number or an array of numpy, or of a library with its interface, as numbers and lists."""
    kind = getattr(value.dtype, "kind", "")
    if kind in ("M", "m"):  # numpy returns times in other units than microseconds as integers
        value = value.astype("datetime64[us]" if kind == "M" else "timedelta64[us]")
    plain = value.tolist() if hasattr(value, "tolist") else value.item()
    if type(plain) is type(value):
        raise TypeError("its numbers have no Python type. Convert them to float")
    return plain


def _not_finite(value: float) -> InvalidEventError:
    return InvalidEventError(f"{value!r} cannot be written as JSON. Write 'UNAVAILABLE' instead.")


def _unknown(value: Any, cause: Exception) -> InvalidEventError:
    error = InvalidEventError(
        f"a value of type {type(value).__name__} cannot be written as JSON ({cause}). "
        "Write text, a number, a Boolean, or lists and dictionaries of them."
    )
    error.__cause__ = cause
    return error
