"""Queue of the events of some assets, for a thread that takes them at its own pace, such as a web page's stream."""

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
    """Queue of the events of some assets: first the last event of each attribute, then each new event.

    Use it in a `with` block; it receives events until the block ends.

    >>> from openfactory.assets import Asset, AssetAttribute
    >>> from openfactory.kafka import KSQLDBClient
    >>> with Asset("MILL", KSQLDBClient("memory://queue")) as mill:
    ...     mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    ...     with EventQueue(mill, attributes=["status"]) as events:
    ...         event = events.take(timeout=5)
    >>> event.asset_uuid, event.id, event.value
    ('MILL', 'status', 'idle')

    When the queue is full, the oldest event is dropped, so a slow reader sees the newest events. Each drop is counted,
    and the first is logged. Commands, replies and methods are not attributes and do not enter the queue.

    Args:
        *assets: assets whose events enter the queue; at least one.
        attributes: ids of the attributes whose events enter the queue; all attributes by default.
        max_queued: maximum number of new events in the queue.

    Raises:
        SubscriptionError: no asset is passed, `attributes` is a string, or `max_queued` is less than 1.

    Attributes:
        lost: number of events that were dropped.
        ended: whether no more events arrive, because the queue or one of its assets is closed.
    """

    def __init__(self, *assets: Asset, attributes: Collection[str] | None = None, max_queued: int = 1000) -> None:
        if not assets:
            raise SubscriptionError("EventQueue needs an asset. Pass one or more.")
        if isinstance(attributes, str):
            raise SubscriptionError(f"attributes={attributes!r} is not a list of ids. Pass [{attributes!r}].")
        if max_queued < 1:
            raise SubscriptionError(f"max_queued={max_queued} leaves no room for an event. Pass 1 or more.")
        self.lost = 0
        self.ended = False
        self._assets = assets
        self._wanted = None if attributes is None else frozenset(attributes)
        self._changed = threading.Condition()
        self._present: deque[AssetEvent] = deque()
        self._events: deque[AssetEvent] = deque(maxlen=max_queued)
        self._initial: dict[tuple[str, str], AssetEvent] = {}

    def __enter__(self) -> EventQueue:
        for asset in self._assets:
            asset._subscriptions.add_listener(self, self._wanted)
        # New events queue behind the initial events; an event that is in both is delivered once.
        self._present.extend(
            event for asset in self._assets for event in asset._attribute_events() if self._wants(event)
        )
        with self._changed:
            self._initial = {(event.asset_uuid, event.id): event for event in self._present}
            new = [event for event in self._events if not self._is_initial(event)]
            self._events.clear()
            self._events.extend(new)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def take(self, timeout: float | None = None) -> AssetEvent | None:
        """Wait for the next event and remove it from the queue.

        Args:
            timeout: seconds to wait; no limit by default.

        Returns:
            the event, or None if no event arrived in time, or if the queue has `ended` and is empty.
        """
        with self._changed:
            if self._present:
                return _with_sample_value(self._present.popleft())
            if not self._changed.wait_for(self._has_events_or_ended, timeout) or not self._events:
                return None
            return _with_sample_value(self._events.popleft())

    def close(self) -> None:
        """Stop receiving events; those in the queue can still be taken."""
        for asset in self._assets:
            asset._subscriptions.remove_listener(self)
        self.end()

    # Called by the assets

    def offer(self, event: AssetEvent) -> None:
        """Put an event into the queue without waiting."""
        if not event.is_attribute:
            return
        with self._changed:
            if self._is_initial(event):
                return  # it displaces no other event and does not count as lost
            if len(self._events) == self._events.maxlen:
                self._count_loss()
            self._events.append(event)
            self._changed.notify()

    def end(self) -> None:
        """Mark the queue as ended and wake its readers."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    # Internals

    def _wants(self, event: AssetEvent) -> bool:
        return self._wanted is None or event.id in self._wanted

    def _has_events_or_ended(self) -> bool:
        return bool(self._events) or self.ended

    def _is_initial(self, event: AssetEvent) -> bool:
        """Return whether the initial event of the attribute is this event or a later one."""
        attribute = event.asset_uuid, event.id
        initial = self._initial.get(attribute)
        if initial is None:
            return False
        if initial.position is not None and event.position is not None:
            return event.position <= initial.position
        # The initial event is a write of this process without a position: skip its echo, unless another event came
        # before the echo.
        if (event.timestamp, event.value) == (initial.timestamp, initial.value):
            return True
        del self._initial[attribute]
        return False

    def _count_loss(self) -> None:
        self.lost += 1
        if self.lost == 1:
            _logger.warning(
                "A reader of %s lags: %d events wait, and the oldest are dropped from now on. "
                "Read faster, or raise max_queued.",
                ", ".join(asset.asset_uuid for asset in self._assets),
                len(self._events),
            )


def _with_sample_value(event: AssetEvent) -> AssetEvent:
    """Return an event whose value is a float, if it is a sample and its value is a number."""
    if event.type != "Samples":
        return event
    return msgspec.structs.replace(event, value=sample_value(event.value))
