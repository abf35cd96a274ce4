"""Who subscribed to what, and handing events on: in the order of the log, each once, whatever a subscriber does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.base import OnEvent, OnGap, Subscription
from openfactory.events.event import AssetEvent

__all__ = ["Dispatcher"]

_logger = logging.getLogger("openfactory.engines")


class Dispatcher:
    """The subscriptions of one engine.

    Attributes:
        lock: held by whoever hands on or changes what is handed on; a subscriber may subscribe inside its call.
        counters: what was handed on.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.counters = {"delivered": 0, "gaps": 0, "failed_deliveries": 0}
        self._subscriptions: dict[str | None, tuple[Subscription, ...]] = {}
        reset_in_forked_child(self)

    def add(self, asset_uuid: str | None, on_event: OnEvent, on_gap: OnGap | None, position: int) -> Subscription:
        """Hand on the events of an asset, or of all with None, behind a position."""
        with self.lock:
            subscription = Subscription(asset_uuid, on_event, on_gap, position, self.unsubscribe)
            self._subscriptions[asset_uuid] = (*self._subscriptions.get(asset_uuid, ()), subscription)
            return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Hand nothing on to a subscription any more."""
        with self.lock:
            asset_uuid = subscription.asset_uuid
            left = tuple(one for one in self._subscriptions.get(asset_uuid, ()) if one is not subscription)
            if left:
                self._subscriptions[asset_uuid] = left
            else:
                self._subscriptions.pop(asset_uuid, None)

    def has_subscribers(self, asset_uuid: str) -> bool:
        """Whether anybody has subscribed to an asset itself."""
        return asset_uuid in self._subscriptions

    def is_needed(self, asset_uuid: str | None) -> bool:
        """Whether anybody hears an asset, or all with None."""
        return asset_uuid in self._subscriptions or None in self._subscriptions

    def assets(self) -> list[str] | None:
        """The assets that are heard, or None where somebody hears all."""
        if None in self._subscriptions:
            return None
        return [asset_uuid for asset_uuid in self._subscriptions if asset_uuid is not None]

    def subscriptions(self) -> Iterator[Subscription]:
        """All of them, as they are now."""
        for subscriptions in list(self._subscriptions.values()):
            yield from subscriptions

    def clear(self) -> None:
        """Hand nothing on any more."""
        with self.lock:
            self._subscriptions.clear()

    def deliver(self, event: AssetEvent, partition: int = 0) -> None:
        """Call whoever has not heard an event; the lock is held."""
        self.deliver_to_asset(event, partition)
        self.deliver_to_wildcard(event, partition)

    def deliver_to_asset(self, event: AssetEvent, partition: int = 0) -> None:
        """Call only those who subscribed to the asset itself; the lock is held."""
        for subscription in self._subscriptions.get(event.asset_uuid, ()):
            self.call(subscription, event, partition)

    def deliver_to_wildcard(self, event: AssetEvent, partition: int = 0) -> None:
        """Call only those who hear all assets; the lock is held."""
        for subscription in self._subscriptions.get(None, ()):
            self.call(subscription, event, partition)

    def call(self, subscription: Subscription, event: AssetEvent, partition: int = 0) -> None:
        """Hand an event on to one subscription, unless it has heard it; an event without a position is always due."""
        if subscription.closed or (event.position is not None and not subscription.advance(event.position, partition)):
            return
        try:
            subscription.on_event(event)
        except Exception:
            self.counters["failed_deliveries"] += 1
            _logger.exception("A subscriber failed at position %s (%s.%s).", event.position, event.asset_uuid, event.id)
        else:
            self.counters["delivered"] += 1

    def notify_gap(self, subscription: Subscription) -> None:
        """Have a subscriber read again, and go on behind what it has read."""
        self.counters["gaps"] += 1
        if subscription.on_gap is None:
            return
        try:
            subscription.seek(subscription.on_gap())
        except Exception:
            _logger.exception("A subscriber to %s failed to read again after a gap.", subscription.asset_uuid)

    def reset_after_fork(self) -> None:
        """The thread that may hold the lock is not there."""
        self.lock = threading.RLock()
