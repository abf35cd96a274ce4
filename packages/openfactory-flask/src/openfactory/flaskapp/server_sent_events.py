"""Stream attributes to web pages as server-sent events, which browsers read with `EventSource`.

The format is defined in the HTML standard: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Response, request

from openfactory.assets import EventQueue
from openfactory.exceptions import SubscriptionError
from openfactory.flaskapp.current import current_ofa_app
from openfactory.flaskapp.streams import OpenStreams

if TYPE_CHECKING:
    from openfactory.assets import Asset, AssetEvent

__all__ = ["sse"]

# How often a stream without events checks whether its client is still connected, in seconds.
_CHECK_SECONDS = 1.0


def sse(
    *assets: Asset, attributes: Collection[str] | None = None, heartbeat: float = 15.0, max_queued: int = 1000
) -> Response:
    """Return a response that streams the attributes of assets: their current values, then each change.

    Each message is one event of an `EventQueue` as JSON:

        data: {"asset":"MILL","id":"status","value":"idle","type":"Events","tag":"Status","timestamp":"2026-…Z"}

    A page reads it with:

        new EventSource(address).onmessage = message => show(JSON.parse(message.data))

    A client that reads too slowly receives the newest events, and an event `lost` with the number of dropped events,
    such as `{"lost": 12}`. A client that reconnects receives the current values; the changes in between are in the
    `history` of the asset. A stream ends when its client disconnects or does not read, and all streams end when the
    app stops.

    Args:
        assets: assets whose attributes are streamed; at least one.
        attributes: ids of the attributes to stream; all attributes by default.
        heartbeat: seconds without an event after which a comment is sent, so that a gateway does not end the stream.
        max_queued: maximum number of events that wait for the client.

    Raises:
        SubscriptionError: no asset is passed, `attributes` is a string, `max_queued` is less than 1, or `heartbeat` is
            not positive.
        RuntimeError: no request of an OpenFactoryFlaskApp is active.
    """
    if heartbeat <= 0:
        raise SubscriptionError(f"heartbeat={heartbeat} is not positive. Pass a number above 0.")
    events = EventQueue(*assets, attributes=attributes, max_queued=max_queued)
    streams = current_ofa_app().open_streams
    messages = _messages(events, streams, heartbeat, connection=request.environ.get("werkzeug.socket"))
    response = Response(messages, mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx delivers each event at once
    return response


def _messages(
    events: EventQueue, streams: OpenStreams, heartbeat: float, connection: socket.socket | None
) -> Iterator[str]:
    """Yield the messages of a stream. The queue is opened at the first read, so a stream that is never read is free."""
    lost = 0
    quiet_since = time.monotonic()
    with streams.opened(events):
        yield ": current values, then each change\n\n"  # a first message shows the page that it is connected
        while not _has_disconnected(connection):
            event = events.take(timeout=min(_CHECK_SECONDS, heartbeat))
            if events.lost > lost:
                yield _message({"lost": events.lost - lost}, name="lost")
                lost = events.lost
            if event is not None:
                yield _message(_fields(event))
            elif events.ended:
                return
            elif time.monotonic() - quiet_since >= heartbeat:
                yield ": heartbeat\n\n"
            else:
                continue
            quiet_since = time.monotonic()


def _fields(event: AssetEvent) -> dict[str, Any]:
    return {
        "asset": event.asset_uuid,
        "id": event.id,
        "value": event.value,
        "type": event.type,
        "tag": event.tag,
        "timestamp": event.timestamp,
    }


def _message(data: dict[str, Any], name: str = "") -> str:
    text = msgspec.json.encode(data).decode()  # one line: JSON escapes line breaks
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


def _has_disconnected(connection: socket.socket | None) -> bool:
    """Return whether the client has closed its side, which otherwise only a later write would show."""
    if connection is None:
        return False
    try:
        with selectors.DefaultSelector() as selector:  # `select` does not support descriptors above 1023
            selector.register(connection, selectors.EVENT_READ)
            return bool(selector.select(0)) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
