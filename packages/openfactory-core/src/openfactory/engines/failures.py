"""What could not be written: kept for the next flush to raise, logged, and told to those who want to hear it."""

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

# So many failed events are kept for the next flush to name.
_KEPT = 1_000

# Failures come by the thousands: one line tells those since the last.
_SECONDS_BETWEEN_LINES = 1.0


class DeliveryFailures:
    """The failed deliveries of one engine since its last flush."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: list[AssetEvent] = []
        self._count = 0
        self._reason: Exception | None = None
        self._callbacks: tuple[OnDeliveryError, ...] = ()
        self._said_at = -_SECONDS_BETWEEN_LINES
        self._unsaid = 0

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Have each event told that fails from now on."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

    def add(self, events: Sequence[AssetEvent], count: int, reason: Exception) -> DeliveryError:
        """Note a failure of so many entries, those events among them; returns the error for their receipts.

        The caller calls the hooks, by `call_hooks`, when it holds nothing that a hook may need.
        """
        failure = DeliveryError(f"An event was not written: {reason}", events=events)
        failure.__cause__ = reason
        with self._lock:
            self._reason = reason
            self._count += count
            self._events = (self._events + list(events))[:_KEPT]
            self._unsaid += count
            unsaid = self._unsaid
            if time.monotonic() >= self._said_at + _SECONDS_BETWEEN_LINES:
                self._unsaid, self._said_at = 0, time.monotonic()
                _logger.error("%d events were not written, now %s: %s", unsaid, _name(events), reason)
        return failure

    def call_hooks(self, events: Sequence[AssetEvent], failure: DeliveryError) -> None:
        """Call each hook with each event; a hook that raises is logged."""
        for callback in self._callbacks:
            for event in events:
                try:
                    callback(event, failure)
                except Exception:
                    _logger.exception(
                        "%r, the hook for failed deliveries, raised; other hooks are called all the same.", callback
                    )

    def raise_if_any(self) -> None:
        """Raise what has failed since the last time.

        Raises:
            DeliveryError: events failed; it names them.
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
