"""Attributes: the properties of assets, as users see them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from openfactory.events.timestamp import current_timestamp

__all__ = ["ATTRIBUTE_TYPES", "UNAVAILABLE", "AssetAttribute", "attribute_type", "number_in", "sample_value"]

#: Value of an attribute that was never written, or whose value is not available.
UNAVAILABLE = "UNAVAILABLE"

#: The attribute types, as the wire format spells them.
ATTRIBUTE_TYPES = ("Samples", "Condition", "Events", "Method", "OpenFactory", UNAVAILABLE)

_TYPE_BY_LOWER_CASE = {name.lower(): name for name in ATTRIBUTE_TYPES} | {name: name for name in ATTRIBUTE_TYPES}


def attribute_type(name: str) -> str:
    """Return the spelling of a type in `ATTRIBUTE_TYPES`; other programs may write types in lower case.

    >>> attribute_type("samples")
    'Samples'

    Raises:
        ValueError: the type does not exist.
    """
    known = _TYPE_BY_LOWER_CASE.get(name) or _TYPE_BY_LOWER_CASE.get(str(name).lower())
    if known is None:
        raise ValueError(f"{name!r} is not an attribute type. Use one of {', '.join(ATTRIBUTE_TYPES)}.")
    return known


def number_in(text: str) -> float | None:
    """Return the number that a text is, or None.

    Python reads `nan`, `inf`, `1_000` and the digits of all scripts as numbers; machines do not write numbers so.

    >>> number_in("3.5"), number_in(" 4e2 "), number_in("nan"), number_in("1_000"), number_in("idle")
    (3.5, 400.0, None, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and text.isascii() and "_" not in text else None


def sample_value(value: Any) -> Any:
    """Return the value of a sample as a float if it is a number, else unchanged.

    >>> sample_value("3.5"), sample_value(2), sample_value(True), sample_value("UNAVAILABLE")
    (3.5, 2.0, True, 'UNAVAILABLE')
    """
    if isinstance(value, str):
        number = number_in(value)
        return value if number is None else number
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    try:
        return float(value)
    except OverflowError:
        return value


@dataclass(slots=True)
class AssetAttribute:
    """One attribute of an asset: id, value, type, tag and timestamp.

    >>> AssetAttribute(id="temperature", value=21.5, type="Samples", tag="Temperature").value
    21.5

    Args:
        id: name of the attribute within its asset.
        value: any value that JSON can represent.
        type: one of `ATTRIBUTE_TYPES`.
        tag: the meaning of the value, such as `Availability` or `Position.X`.
        timestamp: time of the value in UTC, as `current_timestamp` formats it.

    Raises:
        ValueError: the type does not exist.
    """

    id: str
    value: Any
    type: str
    tag: str
    timestamp: str = field(default_factory=current_timestamp)

    def __post_init__(self) -> None:
        self.type = attribute_type(self.type)
