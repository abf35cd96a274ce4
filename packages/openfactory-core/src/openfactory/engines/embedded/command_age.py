"""The age of commands in a log whose readers and writers share a machine, and so the clock since its boot."""

from __future__ import annotations

import math

from openfactory.commands.waiting import SENT, seconds_in, seconds_text, text_in
from openfactory.concurrency.boot_clock import boot_id, boot_seconds
from openfactory.events.event import AssetEvent

__all__ = ["age", "stamp"]

_BOOT_ID = "boot_id"


def stamp() -> dict[str, str]:
    """Return the attributes of a command that is sent now."""
    return {SENT: seconds_text(boot_seconds()), _BOOT_ID: boot_id()}


def age(event: AssetEvent) -> float | None:
    """Return the seconds since a command was sent, or None if it does not tell; infinity for another boot."""
    sent = seconds_in(event, SENT)
    if sent is None:
        return None
    return max(boot_seconds() - sent, 0.0) if text_in(event, _BOOT_ID) == boot_id() else math.inf
