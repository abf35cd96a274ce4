"""What a check has found."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Finding", "advised", "failed", "fine", "unchecked"]


class Finding(NamedTuple):
    """One line of a doctor's report.

    Attributes:
        check: what was looked at.
        status: `ok`; `failed`; `advice`, where it works and could do better; `unchecked`.
        found: how it is.
        remedy: what to do, empty where there is nothing.
    """

    check: str
    status: Literal["ok", "failed", "advice", "unchecked"]
    found: str
    remedy: str = ""


def fine(check: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", found)


def failed(check: str, text: str | Exception) -> Finding:
    """It is broken; of a text of several sentences, the last ones say what to do."""
    found, remedy = _parted(str(text))
    return Finding(check, "failed", found, remedy)


def advised(check: str, text: str) -> Finding:
    """It works and could do better."""
    found, remedy = _parted(text)
    return Finding(check, "advice", found, remedy)


def unchecked(check: str, text: str) -> Finding:
    """Nothing could be found out."""
    found, remedy = _parted(text)
    return Finding(check, "unchecked", found, remedy)


def _parted(text: str) -> tuple[str, str]:
    """What is said first, and the rest: our errors end with the remedy.

    >>> _parted("No broker answers at plant:9092: it is silent. Start it.")
    ('No broker answers at plant:9092: it is silent.', 'Start it.')
    """
    head, dot, tail = text.partition(". ")
    return (f"{head}.", tail) if dot else (text, "")
