"""How long the caller of a command waits: attributes of the command's event, beside its timestamp.

The header of a command refuses further keys, while every implementation ignores further attributes. Their values are
text, as those of all attributes.
"""

from __future__ import annotations

import math

from openfactory.events.event import AssetEvent

__all__ = ["SENT", "TIMEOUT", "seconds_in", "seconds_text", "text_in"]

#: Time at which the command was sent, by the clock of the log, in a format of the engine. It is missing if the sender
#: does not know that clock.
SENT = "sent"

#: Seconds that the caller waits in all.
TIMEOUT = "timeout"


def text_in(event: AssetEvent, name: str) -> str | None:
    """Return an attribute of a command's event, or None if it has no text of this name."""
    value = (event.attributes or {}).get(name)
    return value if isinstance(value, str) else None


def seconds_in(event: AssetEvent, name: str) -> float | None:
    """Return an attribute of a command's event as seconds, or None if it is not a number of seconds."""
    try:
        seconds = float(text_in(event, name) or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def seconds_text(seconds: float) -> str:
    """Return seconds as text.

    >>> seconds_text(2), seconds_text(0.25)
    ('2', '0.25')
    """
    return f"{round(seconds, 3):.15g}"
