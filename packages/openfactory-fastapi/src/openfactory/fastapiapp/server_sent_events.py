"""Stream attributes to web pages as server-sent events, which browsers read with `EventSource`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

from fastapi.responses import StreamingResponse

from openfactory.apps.web.event_messages import HEADERS, HEARTBEAT, START, event_message, lost_message, queue_of
from openfactory.apps.web.streams import OpenStreams
from openfactory.fastapiapp.middleware import current_app

if TYPE_CHECKING:
    from openfactory.assets import Asset, EventQueue

__all__ = ["sse"]


def sse(
    *assets: Asset, attributes: Collection[str] | None = None, heartbeat: float = 15.0, max_queued: int = 1000
) -> StreamingResponse:
    """Return a response that streams the attributes of assets: their current values, then each change.

    Each message is one event of an `EventQueue` as JSON:

        data: {"asset":"MILL","id":"status","value":"idle","type":"Events","tag":"Status","timestamp":"2026-…Z"}

    A page reads it with:

        new EventSource(address).onmessage = message => show(JSON.parse(message.data))

    A client that reads too slowly receives the newest events, and an event `lost` with the number of dropped events,
    such as `{"lost": 12}`. A client that reconnects receives the current values; the changes in between are in the
    `history` of the asset. A stream ends when its client disconnects, and all streams end when the app stops.

    Args:
        assets: assets whose attributes are streamed; at least one.
        attributes: ids of the attributes to stream; all attributes by default.
        heartbeat: seconds without an event after which a comment is sent, so that a gateway does not end the stream.
        max_queued: maximum number of events that wait for the client.

    Raises:
        SubscriptionError: no asset is passed, `attributes` is a string, `max_queued` is less than 1, or `heartbeat` is
            not positive.
        RuntimeError: no request of an OpenFactoryFastAPIApp is active.
    """
    events = queue_of(assets, attributes, heartbeat, max_queued)
    app = current_app.get(None)
    if app is None:
        raise RuntimeError("No request of an OpenFactoryFastAPIApp is active. Call sse() in a route of its api.")
    messages = _messages(events, app.open_streams, heartbeat)
    return StreamingResponse(messages, media_type="text/event-stream", headers=HEADERS)


async def _messages(events: EventQueue, streams: OpenStreams, heartbeat: float) -> AsyncIterator[str]:
    """Yield the messages of a stream. The queue is opened at the first read, so a stream that is never read is free."""
    lost = 0
    with streams.opened(events):
        yield START
        while True:
            try:
                async with asyncio.timeout(heartbeat):
                    event = await anext(events)
            except TimeoutError:
                yield HEARTBEAT
                continue
            except StopAsyncIteration:
                return
            if events.lost > lost:
                yield lost_message(events.lost - lost)
                lost = events.lost
            yield event_message(event)
