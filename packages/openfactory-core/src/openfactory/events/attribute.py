"""The attribute of an asset as users see it: what was last said of one property of a machine or an app."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openfactory.events.timestamp import current_timestamp

__all__ = ["ATTRIBUTE_TYPES", "UNAVAILABLE", "AssetAttribute", "attribute_type", "sample_value"]

#: What an attribute reads as when nobody has said anything of it.
UNAVAILABLE = "UNAVAILABLE"

#: The types of the wire format, as they are spelled there.
ATTRIBUTE_TYPES = ("Samples", "Condition", "Events", "Method", "OpenFactory", UNAVAILABLE)

_TYPE_BY_LOWER_CASE = {name.lower(): name for name in ATTRIBUTE_TYPES} | {name: name for name in ATTRIBUTE_TYPES}


def attribute_type(name: str) -> str:
    """A type as `ATTRIBUTE_TYPES` spells it; writers of other programs spell it in lower case.

    >>> attribute_type("samples")
    'Samples'

    Raises:
        ValueError: there is no such type.
    """
    known = _TYPE_BY_LOWER_CASE.get(name) or _TYPE_BY_LOWER_CASE.get(str(name).lower())
    if known is None:
        raise ValueError(f"{name!r} is no attribute type. Use one of {', '.join(ATTRIBUTE_TYPES)}.")
    return known


def sample_value(value: Any) -> Any:
    """What a sample reads as: a float wherever it can be one, else the value as it is.

    >>> sample_value("3.5"), sample_value(2), sample_value(True), sample_value("UNAVAILABLE")
    (3.5, 2.0, True, 'UNAVAILABLE')
    """
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return value
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


@dataclass(slots=True)
class AssetAttribute:
    """One attribute of an asset: its id, its value, and what kind of statement that value is.

    >>> AssetAttribute(id="temperature", value=21.5, type="Samples", tag="Temperature").value
    21.5

    Args:
        id: name of the attribute within its asset.
        value: anything JSON can say.
        type: one of `ATTRIBUTE_TYPES`.
        tag: what the value means, such as `Availability` or `Position.X`.
        timestamp: when it was so, UTC, as `current_timestamp` writes it.

    Raises:
        ValueError: there is no such type.
    """

    id: str
    value: Any
    type: str
    tag: str
    timestamp: str = field(default_factory=current_timestamp)

    def __post_init__(self) -> None:
        self.type = attribute_type(self.type)
