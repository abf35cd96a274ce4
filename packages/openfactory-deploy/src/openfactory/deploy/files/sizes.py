"""Sizes of memory as Docker and Compose write them: `512m`, `512Mi`, `1.5g`; each unit is a power of 1024."""

from __future__ import annotations

import re

__all__ = ["bytes_of"]

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(?:([kmg])(?:i?b?)|b?)", re.IGNORECASE)


def bytes_of(text: str) -> int:
    """Return the bytes of a size.

    >>> bytes_of("512Mi"), bytes_of("512m"), bytes_of("1.5g")
    (536870912, 536870912, 1610612736)

    Raises:
        ValueError: the text is not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size of memory. Write a number with the unit Ki, Mi or Gi, such as 512Mi.")
    number, unit = match[1], (match[2] or "").lower()
    if not unit and "." in number:
        raise ValueError(f"{text!r} has no unit. Write one of Ki, Mi and Gi after the number, such as 512Mi.")
    return int(float(number) * _UNITS[unit]) if unit else int(number)
