"""The decoding of JSON that another program may have written: one function and one error for every reader.

A reader that meets such a text in the log skips it, logs it, or answers it. The text never stops a reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

import msgspec

__all__ = ["FLAT_LENGTH", "MAX_DEPTH", "brackets_in", "decode_json", "decode_value", "is_too_deep"]

T = TypeVar("T")

#: Levels of lists and dictionaries that a reader accepts. Deeper values decode in some threads and not in others, and
#: the `repr` of a value, a comparison or an encoder fails on them.
MAX_DEPTH = 256

#: Length up to which a text cannot have more levels than that. Most texts are shorter.
FLAT_LENGTH = 2 * MAX_DEPTH

_decode_any: Callable[[str | bytes], Any] = msgspec.json.Decoder().decode


def is_too_deep(value: object) -> bool:
    """Return whether a value has more than `MAX_DEPTH` levels of lists and dictionaries."""
    items: Iterable[object] = [value]
    for _ in range(MAX_DEPTH):
        items = [child for item in items for child in _children(item)]
        if not items:
            return False
    return any(isinstance(item, (list, dict)) for item in items)


def brackets_in(text: str | bytes) -> int:
    """Return the number of opening brackets in a JSON text, an upper bound for its levels."""
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


@overload
def decode_json(text: str | bytes) -> Any: ...
@overload
def decode_json(
    text: str | bytes, decode: Callable[[str | bytes], T], is_too_deep: Callable[[T], bool] = is_too_deep
) -> T: ...
def decode_json(
    text: str | bytes,
    decode: Callable[[str | bytes], Any] = _decode_any,
    is_too_deep: Callable[[Any], bool] = is_too_deep,
) -> Any:
    """Return the value of a JSON text.

    >>> decode_json('{"speed": 100}')
    {'speed': 100}

    Args:
        text: the text, from any program.
        decode: method of a `msgspec.json.Decoder` for the expected type; any value by default.
        is_too_deep: called with a value that may be nested too deeply.

    Raises:
        msgspec.DecodeError: the text is not JSON, is nested too deeply, or does not have the expected type.
    """
    try:
        value = decode(text)
    except msgspec.DecodeError:
        raise
    except RecursionError as error:
        raise _too_deep() from error
    except (ValueError, TypeError, OverflowError) as error:  # such as an unpaired surrogate, or None
        raise msgspec.DecodeError(str(error)) from error
    if len(text) > FLAT_LENGTH and brackets_in(text) > MAX_DEPTH and is_too_deep(value):
        raise _too_deep()
    return value


def decode_value(value: Any, kind: type[T], decode: Callable[[str | bytes], T]) -> T:
    """Return the object that the value of an attribute carries: as JSON text, or as a decoded value.

    Raises:
        msgspec.DecodeError: the value carries no such object.
    """
    return decode_json(value, decode) if isinstance(value, str) else msgspec.convert(value, kind)


def _children(item: object) -> Iterable[object]:
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, (list, tuple)):
        return item
    if isinstance(item, msgspec.Struct):
        return msgspec.structs.astuple(item)
    return ()


def _too_deep() -> msgspec.DecodeError:
    return msgspec.DecodeError(f"it is nested more than {MAX_DEPTH} levels deep")
