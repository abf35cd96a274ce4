"""All assets of an engine, as the source of an event buffer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection

from openfactory.assets.abandoned import abandon, close_abandoned
from openfactory.assets.subscriptions import Listener
from openfactory.engines.base import Engine, Subscription
from openfactory.events.event import OWNER_TAG, AssetEvent

__all__ = ["AllAssets"]


class AllAssets:
    """Delivers the events of all assets of an engine to one listener.

    After a gap, it delivers the last event of each attribute that may have been missed.

    Args:
        engine: engine of the factory.
    """

    name = "all assets"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listener: Callable[[], Listener | None] = lambda: None
        self._attribute_ids: Collection[str] | None = None
        self._subscription: Subscription | None = None
        self._delivered: dict[str, int] = {}  # position of the last event of each asset

    def add_listener(
        self, listener: Listener, attribute_ids: Collection[str] | None = None, *, current_values: bool = False
    ) -> list[AssetEvent]:
        """Deliver new events of some attributes, or of all, to a listener.

        Returns:
            the last event of each attribute, if `current_values` is true; new events follow after them.
        """
        close_abandoned()
        self._listener, self._attribute_ids = weakref.ref(listener, self._on_abandoned), attribute_ids
        current: list[AssetEvent] = []
        position: int | None = None
        if current_values:
            snapshot = self._engine.snapshot()
            position = snapshot.position
            for event in (event.normalized() for events in snapshot.events.values() for event in events):
                self._note(event)
                if event.is_attribute and self._is_wanted(event):
                    current.append(event)
        self._subscription = self._engine.subscribe(None, self._receive, self._on_gap, position)
        return current

    def remove_listener(self, listener: Listener) -> None:  # noqa: ARG002 - there is only one
        """Stop the delivery of events."""
        if self._subscription is not None:
            self._subscription.close()

    def _on_abandoned(self, _: object) -> None:
        if self._subscription is not None:
            abandon(self._subscription)

    def _receive(self, event: AssetEvent) -> None:
        self._note(event)
        if self._is_wanted(event) and (listener := self._listener()) is not None:
            listener.offer(event.normalized())

    def _on_gap(self) -> int:
        """Deliver the last events that were missed, and return the position of the snapshot that has them."""
        snapshot = self._engine.snapshot()
        for asset_uuid, events in snapshot.events.items():
            delivered = self._delivered.get(asset_uuid, 0)
            for event in events:
                if event.position is None or event.position > delivered:
                    self._receive(event)
        return snapshot.position

    def _note(self, event: AssetEvent) -> None:
        if event.position is not None:
            known = self._delivered.get(event.asset_uuid, event.position)
            self._delivered[event.asset_uuid] = max(event.position, known)
        if event.tag == OWNER_TAG and self._engine.liveness is not None:
            self._engine.liveness.note(event.asset_uuid, event)

    def _is_wanted(self, event: AssetEvent) -> bool:
        return self._attribute_ids is None or event.id in self._attribute_ids
