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
    """Return the seconds since a command was sent, or None if it does not tell; infinity for another boot.

    A process that cannot read the id of the boot has an empty id.
    """
    sent = seconds_in(event, SENT)
    if sent is None:
        return None
    ids = text_in(event, _BOOT_ID), boot_id()
    return math.inf if all(ids) and ids[0] != ids[1] else max(boot_seconds() - sent, 0.0)
