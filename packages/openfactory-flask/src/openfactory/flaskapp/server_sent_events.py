"""Live pages: the changes of attributes as a stream of server-sent events, which browsers read by EventSource.

The format is that of the HTML standard, https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Response, request

from openfactory.assets import EventQueue
from openfactory.exceptions import SubscriptionError
from openfactory.flaskapp.current import current_ofa_app

if TYPE_CHECKING:
    from openfactory.assets import Asset, AssetEvent

__all__ = ["OpenStreams", "sse"]

# So often a quiet stream looks whether its reader is still there, in seconds.
_LOOK_SECONDS = 1.0


def sse(
    *assets: Asset, attributes: Collection[str] | None = None, heartbeat: float = 15.0, max_queued: int = 1000
) -> Response:
    """The answer of a route that tells a page what assets say: what holds now, then each change as it happens.

    Each message is the JSON of one event, as `EventQueue` has it:

        data: {"asset":"MILL","id":"status","value":"idle","type":"Events","tag":"Status","timestamp":"2026-…Z"}

    and the page reads it by

        new EventSource(address).onmessage = message => show(JSON.parse(message.data))

    A reader that is slower than the events gets the newest, and an event `lost` with `{"lost": 12}` in place of others.
    A reader that leaves, or reads nothing at all, gives back what its stream holds. A page that comes back gets what
    holds then; what it missed is in the asset's `history`. The streams end when the app stops.

    Args:
        attributes: ids of the attributes to tell; all of them if it is left out.
        heartbeat: after so many seconds without an event a comment is sent, so that no gateway ends the stream.
        max_queued: how many events may wait for the reader.

    Raises:
        SubscriptionError: there is no asset, no event could wait, or there is no time between two heartbeats.
        RuntimeError: there is no request of an OpenFactoryFlaskApp here.
    """
    if heartbeat <= 0:
        raise SubscriptionError(f"Every {heartbeat} s is no heartbeat. Give heartbeat a number above 0.")
    events = EventQueue(*assets, attributes=attributes, max_queued=max_queued)
    streams = current_ofa_app()._streams
    connection = request.environ.get("werkzeug.socket")
    written = _written(events, streams, heartbeat, connection)
    response = Response(written, mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx hands each event on at once
    return response


class OpenStreams:
    """The streams of one app, which end with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[EventQueue] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def holding(self, events: EventQueue) -> Iterator[EventQueue]:
        """Have the events heard within the block, and ended when the app stops."""
        with events:
            with self._lock:
                self._open.add(events)
                if self._ended:
                    events.end()
            try:
                yield events
            finally:
                with self._lock:
                    self._open.discard(events)

    def end(self) -> None:
        """End those that are open, and those that are still opened."""
        with self._lock:
            self._ended = True
            for events in self._open:
                events.end()


def _written(
    events: EventQueue, streams: OpenStreams, heartbeat: float, connection: socket.socket | None
) -> Iterator[str]:
    """The text of a stream; it is heard from the first line on, so one that is never read costs nothing."""
    lost = 0
    quiet_since = time.monotonic()
    with streams.holding(events):
        yield ": what holds now, then each change\n\n"  # the page knows at once that it is connected
        while not _has_left(connection):
            event = events.take(timeout=min(_LOOK_SECONDS, heartbeat))
            if events.lost > lost:
                yield _message({"lost": events.lost - lost}, name="lost")
                lost = events.lost
            if event is not None:
                yield _message(_told(event))
            elif events.ended:
                return
            elif time.monotonic() - quiet_since >= heartbeat:
                yield ": heartbeat\n\n"
            else:
                continue
            quiet_since = time.monotonic()


def _told(event: AssetEvent) -> dict[str, Any]:
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


def _has_left(connection: socket.socket | None) -> bool:
    """Whether the reader has closed its side; without this it would be known only by what is written after it."""
    if connection is None:
        return False
    try:
        with selectors.DefaultSelector() as selector:  # where `select` would know no descriptor above 1023
            selector.register(connection, selectors.EVENT_READ)
            return bool(selector.select(0)) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
