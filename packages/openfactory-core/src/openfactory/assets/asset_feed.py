"""Feed of an asset: its last events, then each new event, also across a gap."""

# A part of `Asset`, where each public name could be the id of an attribute.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Protocol

import msgspec

from openfactory.assets.abandoned import abandon, close_abandoned
from openfactory.assets.state import AssetState
from openfactory.assets.subscriptions import Subscriptions
from openfactory.engines import EngineReference
from openfactory.engines.base import Snapshot, Subscription
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import OWNER_ID
from openfactory.events.receipt import Receipt
from openfactory.events.timestamp import current_timestamp, is_before

__all__ = ["AssetFeed"]


class _Asset(Protocol):
    """The part of an `Asset` that receives events."""

    _state: AssetState
    _subscriptions: Subscriptions

    def _receive(self, event: AssetEvent) -> None:
        """Apply a new event to the state. The delivery thread of the engine calls it."""


class AssetFeed:
    """Loads the snapshot of an asset into its state, then delivers each event that follows.

    After a gap, it delivers the last event of each attribute that was missed. If another log has taken the place of the
    log, it delivers the last events of that log, and `UNAVAILABLE` for each attribute that only the former log had. The
    engine keeps the feed, and the feed does not keep the asset: with an asset that is not closed and not used any more,
    the delivery ends, and the reference to the engine is released.

    Args:
        reference: reference of the asset to its engine.
        asset_uuid: UUID of the asset.
        asset: the asset.
        kept: contains the asset while it must be kept.
    """

    __slots__ = ("_asset", "_asset_uuid", "_engine", "_kept", "_log", "_reference", "_subscription")

    def __init__(self, reference: EngineReference, asset_uuid: str, asset: _Asset, kept: list[object]) -> None:
        self._reference = reference
        self._engine = reference.engine
        self._asset_uuid = asset_uuid
        self._asset: Callable[[], _Asset | None] = weakref.ref(asset, self._on_abandoned)
        self._kept = kept
        self._subscription: Subscription | None = None
        self._log = 0

    def start(self) -> tuple[list[AssetEvent], int]:
        """Load the last events, begin the delivery, and return these events and the position of their snapshot."""
        close_abandoned()
        snapshot = self._engine.snapshot([self._asset_uuid])
        events, position, self._log = self._events(snapshot), snapshot.position, snapshot.log
        if (asset := self._asset()) is not None:
            asset._state.load(events)
            self._subscription = self._engine.subscribe(self._asset_uuid, self._on_event, self._on_gap, position)
            self._subscription.knows = self._knows
        return events, position

    def close(self) -> None:
        """End the delivery."""
        self._asset = _no_asset
        if self._subscription is not None:
            self._subscription.close()

    def _on_abandoned(self, _: object) -> None:
        if self._subscription is not None:
            abandon(self._subscription)
        abandon(self._reference)

    def _events(self, snapshot: Snapshot) -> list[AssetEvent]:
        return snapshot.events.get(self._asset_uuid, [])

    def _on_event(self, event: AssetEvent) -> None:
        if (asset := self._asset()) is not None:
            asset._receive(event)

    def _knows(self, receipt: Receipt) -> bool:
        """Return whether the state shows an own write already, and no callback or listener waits for its echo."""
        asset = self._asset()
        return asset is None or (not asset._subscriptions.are_heard and asset._state.shows(receipt))

    def _on_gap(self) -> int:
        """Deliver the last events that were missed, and return the position after which the delivery continues."""
        snapshot = self._engine.snapshot([self._asset_uuid])
        events = self._events(snapshot)
        if (asset := self._asset()) is not None:
            delivered = self._delivered(asset._state)
            _forget_owner(asset, events, is_other_log=snapshot.log != self._log)
            if snapshot.log != self._log:
                self._log = snapshot.log
                _forget_others(asset, events, snapshot.position)
            for event in [event for event in events if _was_missed(event, delivered, asset._state)]:
                asset._receive(event)
            asset._state.load(events)
        return snapshot.position

    def _delivered(self, state: AssetState) -> int:
        """Return the position of the last delivered event."""
        if self._subscription is not None:
            return self._subscription.position
        # A gap before `subscribe` has returned: the state holds what was loaded and delivered, and no own writes yet.
        return max((event.position or 0 for event in state.events()), default=0)


def _no_asset() -> None:
    """Return None, as the weak reference to an asset that is garbage."""


def _forget_owner(asset: _Asset, events: list[AssetEvent], *, is_other_log: bool) -> None:
    """Discard the owner if a gap hides the claims between it and that of a snapshot, so that its events count."""
    known, claim = asset._state.get(OWNER_ID), next((event for event in events if event.id == OWNER_ID), None)
    if is_other_log or (claim is not None and known is not None and claim.value != known.value):
        asset._state.forget(OWNER_ID)


def _forget_others(asset: _Asset, events: list[AssetEvent], position: int) -> None:
    """Deliver `UNAVAILABLE` for the attributes that are not among the events of another log, up to a position."""
    present = {event.id for event in events}
    for known in asset._state.attribute_events():
        if known.id not in present and known.position is not None and known.position <= position:
            now = current_timestamp()
            asset._receive(msgspec.structs.replace(known, value=UNAVAILABLE, timestamp=now, attributes=None))


def _was_missed(event: AssetEvent, delivered: int, state: AssetState) -> bool:
    """Return whether an event of a snapshot was not delivered.

    The row of a table has no position; it counts as missed if it is newer than the known event.
    """
    known = state.get(event.id)
    if event.position is not None:
        # An event outside of its asset's partition shares the position of the event before it.
        is_other = known is None or (event.timestamp, event.value) != (known.timestamp, known.value)
        return event.position > delivered or (event.position == delivered and is_other)
    return known is None or is_before(known.timestamp, event.timestamp)
