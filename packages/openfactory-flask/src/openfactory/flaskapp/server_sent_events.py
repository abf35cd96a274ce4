"""Stream attributes to web pages as server-sent events, which browsers read with `EventSource`."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from flask import Response, request

from openfactory.apps.web.event_messages import HEADERS, HEARTBEAT, START, event_message, lost_message, queue_of
from openfactory.apps.web.streams import OpenStreams
from openfactory.flaskapp.current import current_ofa_app

if TYPE_CHECKING:
    from openfactory.assets import Asset, EventQueue

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
    events = queue_of(assets, attributes, heartbeat, max_queued)
    streams = current_ofa_app().open_streams
    messages = _messages(events, streams, heartbeat, connection=request.environ.get("werkzeug.socket"))
    return Response(messages, mimetype="text/event-stream", headers=HEADERS)


def _messages(
    events: EventQueue, streams: OpenStreams, heartbeat: float, connection: socket.socket | None
) -> Iterator[str]:
    """Yield the messages of a stream. The queue is opened at the first read, so a stream that is never read is free."""
    lost = 0
    quiet_since = time.monotonic()
    with streams.opened(events):
        yield START
        while not _has_disconnected(connection):
            event = events.take(timeout=min(_CHECK_SECONDS, heartbeat))
            if events.lost > lost:
                yield lost_message(events.lost - lost)
                lost = events.lost
            if event is not None:
                yield event_message(event)
            elif events.ended:
                return
            elif time.monotonic() - quiet_since >= heartbeat:
                yield HEARTBEAT
            else:
                continue
            quiet_since = time.monotonic()


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
