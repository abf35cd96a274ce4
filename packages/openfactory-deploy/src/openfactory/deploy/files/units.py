"""Times and sizes as files have them: `30s`, `1m30s`, `512Mi`."""

from __future__ import annotations

import re

__all__ = ["bytes_of", "seconds_of"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def seconds_of(text: str) -> float:
    """Return a time in seconds.

    >>> seconds_of("1m30s")
    90.0
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a time. Write 30s, 5m or 1m30s.")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def bytes_of(text: str) -> int:
    """Return a size in bytes; a unit is 1024 times the one before, with and without `i` and `b`.

    >>> bytes_of("512Mi")
    536870912
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is not a size. Write 512Mi or 1Gi.")
    return int(float(found[1]) * _BYTES[found[2]])
