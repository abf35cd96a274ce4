"""The part of an asset that delivers its events to callbacks and streams."""

from __future__ import annotations

from openfactory.assets.event_stream import EventStream
from openfactory.assets.subscriptions import ALL_EVENTS, AssetCallback, Subscriptions
from openfactory.exceptions import SubscriptionError

__all__ = ["Watching"]


class Watching:
    """Delivers the events of one asset to callbacks, in order, on one thread at a time.

    A callback receives the subject `<asset uuid>.<attribute id>` and the message, whose keys VALUE, TAG, TYPE and
    attributes are found in any case. An attribute may have several callbacks. If a callback raises an error, the error
    is logged and the other callbacks still run.
    """

    _subscriptions: Subscriptions

    def subscribe_to_attribute(self, attribute_id: str, callback: AssetCallback) -> None:
        """Call `callback` for each event of an attribute."""
        self._subscriptions.add(f".{attribute_id}", callback)

    def subscribe_to_messages(self, callback: AssetCallback) -> None:
        """Call `callback` for each event of the asset, including commands and replies."""
        self._subscriptions.add(ALL_EVENTS, callback)

    def subscribe_to_samples(self, callback: AssetCallback) -> None:
        """Call `callback` for each sample."""
        self._subscriptions.add("Samples", callback)

    def subscribe_to_events(self, callback: AssetCallback) -> None:
        """Call `callback` for each event of the attributes of type event."""
        self._subscriptions.add("Events", callback)

    def subscribe_to_conditions(self, callback: AssetCallback) -> None:
        """Call `callback` for each condition."""
        self._subscriptions.add("Condition", callback)

    def watch(self, attribute_id: str | None = None, *, max_queued: int = 1000) -> EventStream:
        """Return the events of an attribute, or of the whole asset, for `async for` on the running event loop.

        When the queue of the stream is full, the oldest event is dropped; the first drop is logged, and each is counted
        in the stream's `lost`.

        Args:
            attribute_id: id of the attribute; the whole asset by default.
            max_queued: maximum number of events in the queue.

        Raises:
            SubscriptionError: no event loop is running, or `max_queued` is less than 1.
        """
        try:
            return self._subscriptions.open_stream(attribute_id, max_queued)
        except RuntimeError as error:
            raise SubscriptionError(
                "watch() needs a running event loop. "
                "Call it in a coroutine, or subscribe a plain function with subscribe_to_attribute()."
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
        """End the subscriptions to attributes of type event."""
        self._subscriptions.remove("Events")

    def stop_conditions_subscription(self) -> None:
        """End the subscriptions to conditions."""
        self._subscriptions.remove("Condition")
