"""Events of some assets for a thread that takes them when it has time: what a web page's stream is fed from."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from openfactory.events.attribute import sample_value
from openfactory.events.event import AssetEvent
from openfactory.exceptions import SubscriptionError

if TYPE_CHECKING:
    from openfactory.assets.asset_class import Asset

__all__ = ["EventQueue"]

_logger = logging.getLogger("openfactory.assets")


class EventQueue:
    """What assets say of their attributes, within a `with`: first what holds now, then each change.

    >>> from openfactory.assets import Asset, AssetAttribute
    >>> from openfactory.kafka import KSQLDBClient
    >>> with Asset("MILL", KSQLDBClient("memory://queue")) as mill:
    ...     mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    ...     with EventQueue(mill, attributes=["status"]) as events:
    ...         event = events.take(timeout=5)
    >>> event.asset_uuid, event.id, event.value
    ('MILL', 'status', 'idle')

    It holds so many that were not taken. When it is full the oldest goes: a reader that lags sees the newest. Each loss
    is counted, and the first is logged. Commands, their replies and methods are no attributes and not in it.

    Args:
        attributes: ids of the attributes to hear of; all of them if it is left out.
        max_queued: how many events may wait.

    Raises:
        SubscriptionError: there is no asset, or no event could wait.

    Attributes:
        lost: how many events went untaken.
        ended: whether nothing more comes: it is closed, or one of its assets is.
    """

    def __init__(self, *assets: Asset, attributes: Collection[str] | None = None, max_queued: int = 1000) -> None:
        if not assets:
            raise SubscriptionError("There is no asset to hear of. Pass one.")
        if isinstance(attributes, str):
            raise SubscriptionError(f"attributes is the text {attributes!r}. Pass a list: [{attributes!r}].")
        if max_queued < 1:
            raise SubscriptionError(f"{max_queued} events cannot wait to be taken. Give max_queued 1 or more.")
        self.lost = 0
        self.ended = False
        self._assets = assets
        self._wanted = None if attributes is None else frozenset(attributes)
        self._changed = threading.Condition()
        self._present: deque[AssetEvent] = deque()
        self._events: deque[AssetEvent] = deque(maxlen=max_queued)
        self._told: dict[tuple[str, str], AssetEvent] = {}

    def __enter__(self) -> EventQueue:
        for asset in self._assets:
            asset._subscriptions.tell(self, self._wanted)
        # What comes from here on waits behind what holds now; what is in both is told once.
        self._present.extend(
            event for asset in self._assets for event in asset._attribute_events() if self._wants(event)
        )
        with self._changed:
            self._told = {(event.asset_uuid, event.id): event for event in self._present}
            news = [event for event in self._events if not self._was_told(event)]
            self._events.clear()
            self._events.extend(news)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def take(self, timeout: float | None = None) -> AssetEvent | None:
        """The next event, as soon as there is one.

        Args:
            timeout: how long to wait, in seconds; without end if it is left out.

        Returns:
            the event; None when none came in time, or when it is `ended` and nothing is left.
        """
        with self._changed:
            if self._present:
                return _readable(self._present.popleft())
            if not self._changed.wait_for(self._has_news, timeout) or not self._events:
                return None
            return _readable(self._events.popleft())

    def close(self) -> None:
        """Hear no more; what waits can still be taken."""
        for asset in self._assets:
            asset._subscriptions.unsubscribe(self)
        self.end()

    # What the assets call

    def offer(self, event: AssetEvent) -> None:
        """Take an event in; returns at once."""
        if not event.is_attribute:
            return
        with self._changed:
            if self._was_told(event):
                return  # it takes no place of another, and is not lost
            if len(self._events) == self._events.maxlen:
                self._lose()
            self._events.append(event)
            self._changed.notify()

    def end(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    # Inside

    def _wants(self, event: AssetEvent) -> bool:
        return self._wanted is None or event.id in self._wanted

    def _has_news(self) -> bool:
        return bool(self._events) or self.ended

    def _was_told(self, event: AssetEvent) -> bool:
        """Whether what held at the start was this event or stood after it."""
        attribute = event.asset_uuid, event.id
        told = self._told.get(attribute)
        if told is None:
            return False
        if told.position is not None and event.position is not None:
            return event.position <= told.position
        # An own write had no place in the log yet: its echo is no news, unless another came before it.
        if (event.timestamp, event.value) == (told.timestamp, told.value):
            return True
        del self._told[attribute]
        return False

    def _lose(self) -> None:
        self.lost += 1
        if self.lost == 1:
            _logger.warning(
                "A reader of %s lags: %d events wait, and from now on the oldest go. "
                "Read faster, or allow more by max_queued.",
                ", ".join(asset.asset_uuid for asset in self._assets),
                len(self._events),
            )


def _readable(event: AssetEvent) -> AssetEvent:
    """A sample reads as a float wherever it can be one."""
    if event.type != "Samples":
        return event
    return msgspec.structs.replace(event, value=sample_value(event.value))
