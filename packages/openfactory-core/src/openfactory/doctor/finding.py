"""The result of a check."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Finding", "advised", "failed", "fine", "unchecked"]


class Finding(NamedTuple):
    """The result of a check, an entry in the report of `ofa doctor`.

    Attributes:
        check: name of the check, such as `broker`.
        status: `ok`, `failed`, `advice` (works, and could work better) or `unchecked` (could not be checked).
        found: description of the state.
        remedy: description of what to do, empty if there is nothing to do.
    """

    check: str
    status: Literal["ok", "failed", "advice", "unchecked"]
    found: str
    remedy: str = ""


def fine(check: str, found: str) -> Finding:
    """Return a finding with the status `ok`."""
    return Finding(check, "ok", found)


def failed(check: str, text: str | Exception) -> Finding:
    """Return a finding with the status `failed`; the remedy is the text after the first sentence."""
    found, remedy = _split(str(text))
    return Finding(check, "failed", found, remedy)


def advised(check: str, text: str) -> Finding:
    """Return a finding with the status `advice`; the remedy is the text after the first sentence."""
    found, remedy = _split(text)
    return Finding(check, "advice", found, remedy)


def unchecked(check: str, text: str) -> Finding:
    """Return a finding with the status `unchecked`; the remedy is the text after the first sentence."""
    found, remedy = _split(text)
    return Finding(check, "unchecked", found, remedy)


def _split(text: str) -> tuple[str, str]:
    """Return the first sentence of a text, and the rest: errors of OpenFactory end with the remedy.

    >>> _split("No broker answers at plant:9092: it is silent. Start it.")
    ('No broker answers at plant:9092: it is silent.', 'Start it.')
    """
    head, dot, tail = text.partition(". ")
    return (f"{head}.", tail) if dot else (text, "")
