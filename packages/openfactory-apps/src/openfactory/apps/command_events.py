"""Parts of the events of commands: the size, the id in a malformed command, and texts of a bounded length."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from openfactory.events.decoding import decode_json
from openfactory.events.event import AssetEvent

__all__ = ["LONGEST_TEXT", "correlation_id_in", "shortened", "size_of"]

#: Number of characters of an error in a reply, and of a line in the log.
LONGEST_TEXT = 2_000


def shortened(text: str) -> str:
    """Return a text for a reply and for the log, with characters replaced that UTF-8 cannot encode."""
    text = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"
    return text.encode(errors="replace").decode()


def size_of(event: AssetEvent) -> int:
    """Return the bytes of a command, roughly."""
    return 500 + len(event.value if isinstance(event.value, str) else str(event.value))


def correlation_id_in(value: Any) -> str | None:
    """Return the correlation id of a command that may be malformed, or None."""
    try:
        command = decode_json(value) if isinstance(value, str) else value
        return str(uuid.UUID(command["header"]["correlation_id"]))
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None
