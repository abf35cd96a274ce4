"""The text of a stream of server-sent events: attributes of assets, which browsers read with `EventSource`.

The format is defined in the HTML standard: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from openfactory.assets import EventQueue
from openfactory.exceptions import SubscriptionError

if TYPE_CHECKING:
    from openfactory.assets import Asset, AssetEvent

__all__ = ["HEADERS", "HEARTBEAT", "START", "event_message", "lost_message", "queue_of"]

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # with the second, nginx delivers each event at once

#: The first message, which shows the page that it is connected.
START = ": current values, then each change\n\n"

HEARTBEAT = ": heartbeat\n\n"


def queue_of(
    assets: Collection[Asset], attributes: Collection[str] | None, heartbeat: float, max_queued: int
) -> EventQueue:
    """Return the queue of a stream, which is not open yet.

    Raises:
        SubscriptionError: an argument is not valid.
    """
    if heartbeat <= 0:
        raise SubscriptionError(f"heartbeat={heartbeat} is not positive. Pass a number above 0.")
    return EventQueue(*assets, attributes=attributes, max_queued=max_queued)


def event_message(event: AssetEvent) -> str:
    """Return the message of an event."""
    fields = {
        "asset": event.asset_uuid,
        "id": event.id,
        "value": event.value,
        "type": event.type,
        "tag": event.tag,
        "timestamp": event.timestamp,
    }
    return f"data: {_json(fields)}\n\n"


def lost_message(count: int) -> str:
    """Return the message that tells how many events were dropped."""
    return f"event: lost\ndata: {_json({'lost': count})}\n\n"


def _json(data: object) -> str:
    return msgspec.json.encode(data).decode()  # one line: JSON escapes line breaks
