"""Failed deliveries: logged, passed to callbacks, and kept for the next flush to raise."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from openfactory.engines.base import OnDeliveryError
from openfactory.events.event import AssetEvent
from openfactory.exceptions import DeliveryError

__all__ = ["DeliveryFailures"]

_logger = logging.getLogger("openfactory.engines")

# Maximum number of failed events that are kept for the next flush.
_KEPT_EVENTS = 1_000

# Failures come by the thousands: each log line reports all since the line before.
_SECONDS_BETWEEN_LINES = 1.0


class DeliveryFailures:
    """The failed deliveries of one engine since its last flush."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[AssetEvent] = []
        self._count = 0
        self._reason: Exception | None = None
        self._callbacks: tuple[OnDeliveryError, ...] = ()
        self._logged_at = -_SECONDS_BETWEEN_LINES
        self._not_logged = 0

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Register a callback for each event that fails from now on."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

    def add(self, events: Sequence[AssetEvent], count: int, reason: Exception) -> DeliveryError:
        """Record a failure and return the error for the receipts.

        The caller passes the error to `call_hooks` after it has released every lock that a hook may need.

        Args:
            events: the events that failed.
            count: number of entries that failed; some may not be events.
            reason: why they failed.
        """
        failure = DeliveryError(f"An event was not written: {reason}", events=events)
        failure.__cause__ = reason
        with self._lock:
            self._reason = reason
            self._count += count
            self._events = (self._events + list(events))[:_KEPT_EVENTS]
            self._not_logged += count
            if time.monotonic() >= self._logged_at + _SECONDS_BETWEEN_LINES:
                _logger.error("%d events were not written, now %s: %s", self._not_logged, _name(events), reason)
                self._not_logged, self._logged_at = 0, time.monotonic()
        return failure

    def call_hooks(self, events: Sequence[AssetEvent], failure: DeliveryError) -> None:
        """Call each hook with each event. An exception of a hook is logged."""
        for callback in self._callbacks:
            for event in events:
                try:
                    callback(event, failure)
                except Exception:
                    _logger.exception(
                        "%r, a hook for failed deliveries, raised an exception. The other hooks are still called.",
                        callback,
                    )

    def raise_if_any(self) -> None:
        """Raise an error if events have failed since the last call.

        Raises:
            DeliveryError: events failed; the error lists them.
        """
        with self._lock:
            events, count, reason = self._events, self._count, self._reason
            self._events, self._count, self._reason = [], 0, None
        if reason is not None:
            raise DeliveryError(
                f"{count} events were not written, first {_name(events)}: {reason}", events=events
            ) from reason


def _name(events: Sequence[AssetEvent]) -> str:
    return f"{events[0].asset_uuid}.{events[0].id}" if events else "a registration"
