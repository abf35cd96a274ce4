"""Feed of an asset: its last events, then each new event, also across a gap."""

from __future__ import annotations

from openfactory.assets.state import AssetState
from openfactory.engines.base import Engine, OnEvent
from openfactory.events.event import AssetEvent

__all__ = ["AssetFeed"]


class AssetFeed:
    """Loads the snapshot of an asset into its state, then delivers each event that follows.

    After a gap, it delivers the last event of each attribute that was missed.

    Args:
        engine: engine of the asset.
        asset_uuid: UUID of the asset.
        state: state of the asset.
        on_event: called with each new event, on the delivery thread of the engine; it applies the event to the state.

    Attributes:
        events: events of the first snapshot.
        position: position of the first snapshot.
    """

    def __init__(self, engine: Engine, asset_uuid: str, state: AssetState, on_event: OnEvent) -> None:
        self._engine = engine
        self._asset_uuid = asset_uuid
        self._state = state
        self._on_event = on_event
        snapshot = engine.snapshot([asset_uuid])
        self.events = snapshot.events.get(asset_uuid, [])
        state.load(self.events)
        self.position = self._delivered = snapshot.position
        self._subscription = engine.subscribe(asset_uuid, self._receive, self._on_gap, snapshot.position)

    def close(self) -> None:
        """End the delivery."""
        self._subscription.close()

    def _receive(self, event: AssetEvent) -> None:
        if event.position is not None:
            self._delivered = event.position
        self._on_event(event)

    def _on_gap(self) -> int:
        snapshot = self._engine.snapshot([self._asset_uuid])
        events = snapshot.events.get(self._asset_uuid, [])
        for event in [event for event in events if self._was_missed(event)]:
            self._receive(event)
        self._state.load(events)
        self._delivered = snapshot.position
        return snapshot.position

    def _was_missed(self, event: AssetEvent) -> bool:
        """Return whether an event of a snapshot was not delivered.

        The row of a table has no position; it counts as missed if it is newer than the known event.
        """
        if event.position is not None:
            return event.position > self._delivered
        known = self._state.get(event.id)
        return known is None or event.timestamp > known.timestamp
