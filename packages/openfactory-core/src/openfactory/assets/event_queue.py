"""Queue of the events of some assets, for a thread that takes them at its own pace, such as a web page's stream."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from openfactory.assets.event_buffer import EventBuffer
from openfactory.events.event import AssetEvent
from openfactory.exceptions import SubscriptionError

if TYPE_CHECKING:
    from openfactory.assets.asset_class import Asset

__all__ = ["EventQueue"]


class EventQueue(EventBuffer):
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
        super().__init__(*assets, attributes=attributes, current_values=True, max_queued=max_queued)

    def take(self, timeout: float | None = None) -> AssetEvent | None:
        """Wait for the next event and remove it from the queue.

        Args:
            timeout: seconds to wait; no limit by default.

        Returns:
            the event, or None if no event arrived in time, or if the queue has `ended` and is empty.
        """
        return self.get(timeout)
