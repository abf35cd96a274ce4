"""State of one asset: the last event of each attribute, in the order of the log, not of arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from openfactory.concurrency.turns import leave_turn
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, OWNER_ID, Owner, counts_after, owner_of
from openfactory.events.receipt import Receipt
from openfactory.events.timestamp import is_before

__all__ = ["AssetState"]

# Seconds between two looks at the receipts of pending writes while a thread waits.
_POLL_SECONDS = 0.02

# Number of pending writes of an attribute from which each further write drops those that are acknowledged.
_MANY_WRITES = 64


class AssetState:
    """Keeps the last event of each attribute of an asset, and wakes threads that wait for a change.

    A write of this process shows at once. Only an event that is after it in the log replaces it; its echo, or an older
    event that arrives late, changes nothing. A failed write is undone. An event without a position, such as a row of a
    table, replaces the known event unless its timestamp is older.

    The owner of an asset keeps the types and tags of its attributes: another program that writes one of them with
    another type or tag changes its value only.
    """

    __slots__ = ("_changed", "_changes", "_confirmed", "_kept", "_lock", "_mark", "_pending", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: threading.Condition | None = None  # created by the first waiting thread; most assets need none
        self._changes = 0  # counted only while a thread waits
        self._waiting = 0
        self._confirmed: dict[str, AssetEvent] = {}
        self._mark = object()  # on the receipts of the writes; a reference to this state would keep it for ever
        self._pending: dict[str, deque[Receipt]] = {}  # the writes of an attribute, the oldest first
        self._kept: dict[str, tuple[str, str]] = {}  # type and tag by attribute

    def load(self, events: Iterable[AssetEvent]) -> None:
        """Apply the events of a snapshot; events that are later in the log stay."""
        for event in events:
            self.apply(event)

    def forget(self, attribute_id: str) -> None:
        """Discard the last event of an attribute."""
        with self._lock:
            self._confirmed.pop(attribute_id, None)

    def clear(self) -> None:
        """Discard all events, because another asset takes the place of this one."""
        with self._lock:
            self._mark = object()  # the echoes of earlier writes are news
            self._confirmed.clear()
            self._pending.clear()
            if self._waiting:
                self._wake()

    def keep(self, attribute_id: str, type: str, tag: str) -> None:
        """Keep the type and the tag of an attribute until this process itself writes it with others."""
        self._kept[attribute_id] = type, tag

    def apply(self, event: AssetEvent) -> AssetEvent:
        """Apply an event from the log, and return it as this state shows it."""
        event = event.normalized()
        attribute_id = event.id
        if self._kept and (kept := self._kept.get(attribute_id)) is not None and kept != (event.type, event.tag):
            event = msgspec.structs.replace(event, type=kept[0], tag=kept[1])
        with self._lock:
            known = self._confirmed.get(attribute_id)
            if known is None or _replaces(event, known):
                self._confirmed[attribute_id] = event
            if attribute_id in self._pending:
                self._settle(attribute_id)
            if self._waiting:
                self._wake()
        return event

    def counts(self, event: AssetEvent) -> bool:
        """Return whether an event from the log counts: one that an owner has written does not after another claim."""
        return counts_after(event, self._before(event, OWNER_ID), self._before(event, AVAILABILITY_ID))

    @property
    def owner(self) -> Owner | None:
        """The process that owns the asset; None if no process has claimed it."""
        return owner_of(self.get(OWNER_ID), self.get(AVAILABILITY_ID))

    def write(self, event: AssetEvent, receipt: Receipt) -> None:
        """Add an event that this process has published and that is not acknowledged yet."""
        attribute_id = event.id
        receipt.event, receipt.shown_by = event, self._mark
        with self._lock:
            if self._kept and attribute_id in self._kept:
                self._kept[attribute_id] = event.type, event.tag
            writes = self._pending.get(attribute_id)
            if writes is None:
                self._pending[attribute_id] = deque((receipt,))
            elif writes[-1].number < receipt.number:
                writes.append(receipt)
                if len(writes) > _MANY_WRITES and writes[0].settled:
                    self._settle(attribute_id)
            else:  # two threads wrote at the same time
                self._pending[attribute_id] = deque(sorted((*writes, receipt), key=lambda write: write.number))
            if self._waiting:
                self._wake()

    def shows(self, receipt: Receipt) -> bool:
        """Return whether a write that is acknowledged was added to this state, so that its echo changes nothing."""
        if receipt.shown_by is not self._mark:
            return False
        if receipt.event is not None and (writes := self._pending.get(receipt.event.id)) and receipt is writes[-1]:
            with self._lock:
                self._settle(receipt.event.id)  # its receipts are not needed any more
        return True

    def get(self, attribute_id: str) -> AssetEvent | None:
        """Return the last event of an attribute, or None if the attribute has never been written."""
        if (writes := self._pending.get(attribute_id)) is not None:
            last = writes[-1]
            if last.position is None and last.error is None:  # without the lock: an app that writes asks often
                return last.event
            with self._lock:
                self._settle(attribute_id)
                if writes := self._pending.get(attribute_id):
                    return writes[-1].event
        return self._confirmed.get(attribute_id)

    def __contains__(self, attribute_id: str) -> bool:
        return attribute_id in self._confirmed or (attribute_id in self._pending and self.get(attribute_id) is not None)

    def events(self) -> list[AssetEvent]:
        """Return the last event of each attribute, in the order in which the attributes became known."""
        with self._lock:
            ids = list(dict.fromkeys((*self._confirmed, *self._pending)))
        events = (self.get(attribute_id) for attribute_id in ids)
        return [event for event in events if event is not None]

    def attribute_events(self) -> list[AssetEvent]:
        """Return the last event of each attribute, without methods, commands and replies."""
        return [event for event in self.events() if event.is_attribute]

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until a predicate that depends on this state is true.

        Args:
            predicate: called after each change, never while the state is locked.
            timeout: seconds to wait.

        Returns:
            True if the predicate became true in time.
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
                        leave_turn()
                        # A receipt that settles does not wake this thread, so look again while a receipt is open.
                        changed.wait(min(remaining, _POLL_SECONDS) if self._pending else remaining)
        finally:
            with self._lock:
                self._waiting -= 1

    def _before(self, event: AssetEvent, attribute_id: str) -> AssetEvent | None:
        """Return the known event of an attribute, unless it is an event itself or one after it in the log."""
        known = self._confirmed.get(attribute_id)
        if known is None or known.position is None or event.position is None or known.position < event.position:
            return known
        return None

    def _wake(self) -> None:
        self._changes += 1
        if self._changed is not None:
            self._changed.notify_all()

    def _settle(self, attribute_id: str) -> None:
        """Confirm the acknowledged writes of an attribute and drop the failed ones; the caller owns the lock."""
        writes = self._pending.get(attribute_id)
        if writes is None:
            return
        last: Receipt | None = None
        settled = position = 0
        for write in writes:
            if write.position is None:
                if write.error is None:
                    break
            elif write.position > position:  # of two threads that write at the same time, either may be the last
                last, position = write, write.position
            settled += 1
        if last is not None and last.event is not None:
            confirmed, known = last.event.with_position(position), self._confirmed.get(attribute_id)
            if known is None or _replaces(confirmed, known):
                self._confirmed[attribute_id] = confirmed
        if settled == len(writes):
            del self._pending[attribute_id]
        else:
            for _ in range(settled):
                writes.popleft()


def _replaces(event: AssetEvent, known: AssetEvent) -> bool:
    """Return whether an event replaces the known event: by their positions, or else by their timestamps."""
    if event.position is not None:
        return known.position is None or event.position >= known.position
    if UNAVAILABLE in (event.timestamp, known.timestamp):
        return known.timestamp == UNAVAILABLE
    return not is_before(event.timestamp, known.timestamp)
