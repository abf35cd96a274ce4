"""The state of one asset: the last event of each attribute, by the order of the log and not of arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt

__all__ = ["AssetState"]


_RECEIPT_SECONDS = 0.02


class _OwnWrite(msgspec.Struct, gc=False):
    """What this process wrote and has no position yet."""

    event: AssetEvent
    receipt: Receipt


class AssetState:
    """Keeps what is known of an asset's attributes, and wakes those who wait for a change.

    An own write shows at once. It yields only to an event that stands after it in the log: its echo, or an older
    event that arrives late, changes nothing. A write that failed is taken back. A row of a table that tells no position
    replaces what has none only when it is newer, and never what was heard.
    """

    __slots__ = ("_changed", "_changes", "_confirmed", "_lock", "_own", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: threading.Condition | None = None  # made by the first who waits: most assets have none
        self._changes = 0  # counted only while somebody waits
        self._waiting = 0
        self._confirmed: dict[str, AssetEvent] = {}
        self._own: dict[str, deque[_OwnWrite]] = {}  # without a place yet, oldest first

    def load(self, events: Iterable[AssetEvent]) -> None:
        """Take in a snapshot; a row of it never replaces an event that stands after it."""
        for event in events:
            self.apply(event)

    def clear(self) -> None:
        """Forget everything: the asset behind this state is another one now."""
        with self._lock:
            self._confirmed.clear()
            self._own.clear()
            if self._waiting:
                self._wake()

    def apply(self, event: AssetEvent) -> None:
        """Take in an event from the log."""
        event = event.normalized()
        attribute_id = event.id
        with self._lock:
            known = self._confirmed.get(attribute_id)
            if known is None or _replaces(event, known):
                self._confirmed[attribute_id] = event
            if attribute_id in self._own:
                self._settle(attribute_id)
            if self._waiting:
                self._wake()

    def write(self, event: AssetEvent, receipt: Receipt) -> None:
        """Show an event that this process has just published."""
        with self._lock:
            writes = self._own.get(event.id)
            if writes is None:
                writes = self._own[event.id] = deque()
            writes.append(_OwnWrite(event, receipt))
            if len(writes) > 1 and writes[-2].receipt.number > receipt.number:  # two threads wrote at once
                self._own[event.id] = deque(sorted(writes, key=lambda write: write.receipt.number))
            if self._waiting:
                self._wake()

    def get(self, attribute_id: str) -> AssetEvent | None:
        """The event that holds for an attribute, or None if nobody has said anything of it."""
        if attribute_id in self._own:
            with self._lock:
                self._settle(attribute_id)
                if own := self._own.get(attribute_id):
                    return own[-1].event
        return self._confirmed.get(attribute_id)

    def __contains__(self, attribute_id: str) -> bool:
        return attribute_id in self._confirmed or (attribute_id in self._own and self.get(attribute_id) is not None)

    def events(self) -> list[AssetEvent]:
        """The event that holds for each attribute, in the order in which the attributes became known."""
        with self._lock:
            ids = list(dict.fromkeys((*self._confirmed, *self._own)))
        held = (self.get(attribute_id) for attribute_id in ids)
        return [event for event in held if event is not None]

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until something that depends on this state is true.

        Args:
            predicate: asked after every change, never while the state is locked.
            timeout: how long to wait, in seconds.

        Returns:
            whether it became true in time.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            changed = self._changed
            if changed is None:
                changed = self._changed = threading.Condition(self._lock)
            self._waiting += 1
        try:
            while True:
                seen = self._changes
                if predicate():
                    return True
                with self._lock:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return False
                    if self._changes == seen:
                        # A receipt that settles wakes nobody, so while one is open it is asked for again.
                        changed.wait(min(remaining, _RECEIPT_SECONDS) if self._own else remaining)
        finally:
            with self._lock:
                self._waiting -= 1

    def _wake(self) -> None:
        self._changes += 1
        if self._changed is not None:
            self._changed.notify_all()

    def _settle(self, attribute_id: str) -> None:
        """Give own writes the places that their receipts tell, and take failed ones back; the lock is held."""
        writes = self._own.get(attribute_id)
        last: AssetEvent | None = None
        position: int | None = None
        while writes and writes[0].receipt.settled:
            write = writes.popleft()
            if write.receipt.position is not None:
                last, position = write.event, write.receipt.position
        if last is not None and position is not None:
            placed, known = last.with_position(position), self._confirmed.get(attribute_id)
            if known is None or _replaces(placed, known):
                self._confirmed[attribute_id] = placed
        if writes is not None and not writes:
            del self._own[attribute_id]


def _replaces(event: AssetEvent, known: AssetEvent) -> bool:
    """Whether an event holds instead of the one that is known: by their places in the log, else by their times."""
    if event.position is not None:
        return known.position is None or event.position >= known.position
    if UNAVAILABLE in (event.timestamp, known.timestamp):
        return known.timestamp == UNAVAILABLE
    return event.timestamp >= known.timestamp
