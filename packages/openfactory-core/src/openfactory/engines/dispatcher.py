"""The subscriptions of an engine, and the delivery of events to them.

Each subscription receives each event once, in the order of the log, regardless of what a callback does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.engines.base import OnEvent, OnGap, Subscription
from openfactory.events.event import CANCEL_TAG, COMMAND_TAG, OWNER_TAG, REPLY_TAG, AssetEvent
from openfactory.events.receipt import Receipt

__all__ = ["Dispatcher", "has_plain_echo"]

_logger = logging.getLogger("openfactory.engines")

# Tags of the events that concern more than the last value of an attribute, so that each is decoded and handled.
_HANDLED_TAGS = frozenset((COMMAND_TAG, REPLY_TAG, CANCEL_TAG, OWNER_TAG))


class Dispatcher:
    """Dispatcher of events to the subscriptions of one engine.

    Attributes:
        lock: guards delivery and the set of subscriptions. It is reentrant: a callback may subscribe.
        counters: numbers of delivered events, of gaps and of failed deliveries.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.counters = {"delivered": 0, "gaps": 0, "failed_deliveries": 0}
        self._subscriptions: dict[str | None, tuple[Subscription, ...]] = {}
        reset_in_forked_child(self)

    def add(self, asset_uuid: str | None, on_event: OnEvent, on_gap: OnGap | None, position: int) -> Subscription:
        """Subscribe to the events of an asset after a position, or of all assets with None."""
        with self.lock:
            subscription = Subscription(asset_uuid, on_event, on_gap, position, self.unsubscribe)
            self._subscriptions[asset_uuid] = (*self._subscriptions.get(asset_uuid, ()), subscription)
            return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription."""
        with self.lock:
            asset_uuid = subscription.asset_uuid
            others = tuple(other for other in self._subscriptions.get(asset_uuid, ()) if other is not subscription)
            if others:
                self._subscriptions[asset_uuid] = others
            else:
                self._subscriptions.pop(asset_uuid, None)

    def has_subscribers(self, asset_uuid: str) -> bool:
        """Return whether an asset has subscribers of its own, besides wildcard subscribers."""
        return asset_uuid in self._subscriptions

    def is_needed(self, asset_uuid: str | None) -> bool:
        """Return whether events of an asset have subscribers, wildcard subscribers included.

        With None, return whether wildcard subscribers exist.
        """
        return asset_uuid in self._subscriptions or None in self._subscriptions

    def assets(self) -> list[str] | None:
        """Return the assets with subscribers, or None if a subscription is to all assets."""
        if None in self._subscriptions:
            return None
        return [asset_uuid for asset_uuid in self._subscriptions if asset_uuid is not None]

    def subscriptions(self) -> Iterator[Subscription]:
        """Yield the current subscriptions. A callback may change them meanwhile."""
        for subscriptions in list(self._subscriptions.values()):
            yield from subscriptions

    def clear(self) -> None:
        """Remove all subscriptions."""
        with self.lock:
            self._subscriptions.clear()

    def deliver(self, event: AssetEvent, partition: int = 0, place: int | None = None) -> None:
        """Deliver an event to the asset's subscribers and to wildcard subscribers. The caller holds the lock."""
        self.deliver_to_asset(event, partition, place)
        self.deliver_to_wildcard(event, partition, place)

    def deliver_to_asset(self, event: AssetEvent, partition: int = 0, place: int | None = None) -> None:
        """Deliver an event to the asset's subscribers only. The caller holds the lock."""
        for subscription in self._subscriptions.get(event.asset_uuid, ()):
            self.call(subscription, event, partition, place)

    def deliver_to_wildcard(self, event: AssetEvent, partition: int = 0, place: int | None = None) -> None:
        """Deliver an event to wildcard subscribers only. The caller holds the lock."""
        for subscription in self._subscriptions.get(None, ()):
            self.call(subscription, event, partition, place)

    def deliver_echo(self, event: AssetEvent, receipt: Receipt, partition: int = 0) -> None:
        """Deliver the echo of an own write to the subscribers that do not know it. The caller holds the lock.

        Args:
            event: the event, whose position is its place in the partition.
            receipt: the receipt of the write.
        """
        position = event.position
        assert position is not None
        subscriptions = self._subscriptions.get(event.asset_uuid, ())
        if None in self._subscriptions:
            subscriptions += self._subscriptions[None]
        for subscription in subscriptions:
            knows = subscription.knows
            if knows is None or not knows(receipt):
                self.call(subscription, event, partition)
            else:
                subscription.pass_by(position, partition)

    def pass_known(self, receipts: Iterable[Receipt], partition: int = 0) -> int:
        """Pass the echoes of consecutive own writes up to the first one that a subscriber does not know.

        The caller holds the lock.

        Args:
            receipts: the receipts of the writes, which are acknowledged.

        Returns:
            the number of echoes that were passed.
        """
        count = 0
        last: dict[str, Receipt] = {}
        asset_uuid: str | None = None
        shown_by: object = None
        for receipt in receipts:
            event = receipt.event
            if event is None or event.attributes is not None or event.tag in _HANDLED_TAGS:  # as `has_plain_echo` tells
                break
            if event.asset_uuid is not asset_uuid or receipt.shown_by is not shown_by:  # else the answer is the same
                asset_uuid, shown_by = event.asset_uuid, receipt.shown_by
                if not self.is_known(receipt):
                    break
            last[asset_uuid] = receipt
            count += 1
        for asset_uuid, receipt in last.items():
            assert receipt.position is not None
            for subscription in self._subscriptions.get(asset_uuid, ()):
                subscription.pass_by(receipt.position, partition)
        return count

    def is_known(self, receipt: Receipt) -> bool:
        """Return whether no subscriber has anything to do for the echo of an own write. The caller holds the lock."""
        if receipt.event is None or None in self._subscriptions:
            return False
        subscriptions = self._subscriptions.get(receipt.event.asset_uuid, ())
        return all(one.knows is not None and one.knows(receipt) for one in subscriptions)

    def call(self, subscription: Subscription, event: AssetEvent, partition: int = 0, place: int | None = None) -> None:
        """Deliver an event to one subscription, unless the subscription has received it.

        An event without a position is always delivered.

        Args:
            place: the place of the event in the partition, if that is not its position, which counts the records of the
                asset's own partition.
        """
        place = event.position if place is None else place
        if subscription.closed or (place is not None and not subscription.advance(place, partition)):
            return
        if event.position is not None:
            subscription.position = event.position
        try:
            subscription.on_event(event)
        except Exception:
            self.counters["failed_deliveries"] += 1
            _logger.exception(
                "A callback failed on the event at position %s (%s.%s).", event.position, event.asset_uuid, event.id
            )
        else:
            self.counters["delivered"] += 1

    def notify_gap(self, subscription: Subscription) -> None:
        """Call the gap callback of a subscription, and continue after the position that it returns."""
        self.counters["gaps"] += 1
        if subscription.on_gap is None:
            return
        try:
            subscription.seek(subscription.on_gap())
        except Exception:
            _logger.exception("The gap callback of a subscription to %s failed.", subscription.asset_uuid)

    def reset_after_fork(self) -> None:
        """Replace the lock: the child does not have the thread that may hold it."""
        self.lock = threading.RLock()


def has_plain_echo(event: AssetEvent) -> bool:
    """Return whether the echo of an own write tells the last value of an attribute, and nothing else.

    The others are always delivered, because the order of the log decides about more than the last value: commands,
    replies, cancels, claims, and events with further attributes, as an owner writes them.
    """
    return event.attributes is None and event.tag not in _HANDLED_TAGS
