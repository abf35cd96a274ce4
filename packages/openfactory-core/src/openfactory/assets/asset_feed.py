"""Feed of an asset: its last events, then each new event, also across a gap."""

from __future__ import annotations

import msgspec

from openfactory.assets.state import AssetState
from openfactory.engines.base import Engine, OnEvent, Subscription
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.timestamp import current_timestamp

__all__ = ["AssetFeed"]


class AssetFeed:
    """Loads the snapshot of an asset into its state, then delivers each event that follows.

    After a gap, it delivers the last event of each attribute that was missed. If another log has taken the place of the
    log, it delivers the last events of that log, and `UNAVAILABLE` for each attribute that only the former log had.

    Args:
        engine: engine of the asset.
        asset_uuid: UUID of the asset.
        state: state of the asset.
        on_event: called with each new event, on the delivery thread of the engine; it applies the event to the state.
    """

    __slots__ = ("_asset_uuid", "_engine", "_log", "_on_event", "_state", "_subscription")

    def __init__(self, engine: Engine, asset_uuid: str, state: AssetState, on_event: OnEvent) -> None:
        self._engine = engine
        self._asset_uuid = asset_uuid
        self._state = state
        self._on_event = on_event
        self._subscription: Subscription | None = None
        self._log = 0

    def start(self) -> tuple[list[AssetEvent], int]:
        """Load the last events, begin the delivery, and return these events and the position of their snapshot."""
        snapshot = self._engine.snapshot([self._asset_uuid])
        events, position, self._log = snapshot.events.get(self._asset_uuid, []), snapshot.position, snapshot.log
        self._state.load(events)
        self._subscription = self._engine.subscribe(self._asset_uuid, self._on_event, self._on_gap, position)
        return events, position

    def close(self) -> None:
        """End the delivery."""
        if self._subscription is not None:
            self._subscription.close()

    def _on_gap(self) -> int:
        """Deliver the last events that were missed, and return the position after which the delivery continues."""
        snapshot = self._engine.snapshot([self._asset_uuid])
        events = snapshot.events.get(self._asset_uuid, [])
        delivered = self._delivered()
        if snapshot.log != self._log:
            self._log = snapshot.log
            self._forget_others(events, snapshot.position)
        for event in [event for event in events if self._was_missed(event, delivered)]:
            self._on_event(event)
        self._state.load(events)
        return snapshot.position

    def _forget_others(self, events: list[AssetEvent], position: int) -> None:
        """Deliver `UNAVAILABLE` for the attributes that are not among the events of another log, up to a position."""
        present = {event.id for event in events}
        for known in self._state.attribute_events():
            if known.id not in present and known.position is not None and known.position <= position:
                self._on_event(msgspec.structs.replace(known, value=UNAVAILABLE, timestamp=current_timestamp()))

    def _delivered(self) -> int:
        """Return the position of the last delivered event."""
        if self._subscription is not None:
            return self._subscription.position
        # A gap before `subscribe` has returned: the state holds what was loaded and delivered, and no own writes yet.
        return max((event.position or 0 for event in self._state.events()), default=0)

    def _was_missed(self, event: AssetEvent, delivered: int) -> bool:
        """Return whether an event of a snapshot was not delivered.

        The row of a table has no position; it counts as missed if it is newer than the known event.
        """
        if event.position is not None:
            return event.position > delivered
        known = self._state.get(event.id)
        return known is None or event.timestamp > known.timestamp
