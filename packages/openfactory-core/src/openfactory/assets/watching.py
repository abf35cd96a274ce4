"""The part of an asset that calls back: who watches it, and what for."""

from __future__ import annotations

from openfactory.assets.event_stream import EventStream
from openfactory.assets.subscriptions import ALL_EVENTS, AssetCallback, Subscriptions
from openfactory.exceptions import SubscriptionError

__all__ = ["Watching"]


class Watching:
    """Calls back for the events of one asset, in order, on a thread of the asset's own.

    A callback gets the subject `<asset uuid>.<attribute id>` and the message, whose keys VALUE, TAG, TYPE and
    attributes are read in any case. Several callbacks may watch the same; one that raises is logged and stops no other.
    """

    _subscriptions: Subscriptions

    def subscribe_to_attribute(self, attribute_id: str, callback: AssetCallback) -> None:
        """Call back for each event of an attribute."""
        self._subscriptions.add(f".{attribute_id}", callback)

    def subscribe_to_messages(self, callback: AssetCallback) -> None:
        """Call back for each event of the asset, commands and replies included."""
        self._subscriptions.add(ALL_EVENTS, callback)

    def subscribe_to_samples(self, callback: AssetCallback) -> None:
        """Call back for each sample."""
        self._subscriptions.add("Samples", callback)

    def subscribe_to_events(self, callback: AssetCallback) -> None:
        """Call back for each event attribute."""
        self._subscriptions.add("Events", callback)

    def subscribe_to_conditions(self, callback: AssetCallback) -> None:
        """Call back for each condition."""
        self._subscriptions.add("Condition", callback)

    def watch(self, attribute_id: str | None = None, *, max_queued: int = 1000) -> EventStream:
        """The events of an attribute, or of the whole asset, for `async for` on the loop that is running.

        When more wait than may be queued, the oldest goes, which is logged and counted in the stream's `lost`.

        Raises:
            SubscriptionError: no event loop is running here.
        """
        try:
            return self._subscriptions.open_stream(attribute_id, max_queued)
        except RuntimeError as error:
            raise SubscriptionError(
                "watch() needs a running event loop, and there is none here. "
                "Use it in a coroutine, or subscribe a plain function by subscribe_to_attribute()."
            ) from error

    def stop_attribute_subscription(self, attribute_id: str) -> None:
        """End all subscriptions to an attribute."""
        self._subscriptions.remove(f".{attribute_id}")

    def stop_messages_subscription(self) -> None:
        """End the subscriptions to all events."""
        self._subscriptions.remove(ALL_EVENTS)

    def stop_samples_subscription(self) -> None:
        """End the subscriptions to samples."""
        self._subscriptions.remove("Samples")

    def stop_events_subscription(self) -> None:
        """End the subscriptions to event attributes."""
        self._subscriptions.remove("Events")

    def stop_conditions_subscription(self) -> None:
        """End the subscriptions to conditions."""
        self._subscriptions.remove("Condition")
