"""Durations as Compose writes them: `500ms`, `10s`, `1m30s`, `2h`."""

from __future__ import annotations

import re

__all__ = ["seconds_of"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)")


def seconds_of(text: str) -> float:
    """Return the seconds of a duration.

    >>> seconds_of("1m30s"), seconds_of("500ms")
    (90.0, 0.5)

    Raises:
        ValueError: the text is not a duration.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration. Write numbers with the units ms, s, m, h or d, such as 1m30s.")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))
