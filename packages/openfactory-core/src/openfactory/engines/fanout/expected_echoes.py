"""Own writes whose echoes are expected on NATS, of one asset."""

from __future__ import annotations

import threading
import time
from collections import deque

from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import OpenFactoryError

__all__ = ["Content", "ExpectedEchoes", "OwnWrite", "content_of"]

# The echo of an own write proves that it was acknowledged; its receipt is settled within this time, in seconds.
_REPORT_SECONDS = 0.5

_MAX_OWN_WRITES = 10_000

#: Identifies an event of an asset without its offset.
Content = tuple[str, str, int]


def content_of(event: AssetEvent) -> Content:
    """Return the content of an event, by which messages and records are compared."""
    return event.id, event.timestamp, hash(repr(event.value))


class OwnWrite:
    """An event that this process writes; it is created before the write, and gets its receipt after it."""

    __slots__ = ("acknowledged_at", "content", "receipt", "written_at")

    def __init__(self, content: Content) -> None:
        self.content = content
        self.receipt: Receipt | None = None
        self.written_at = time.time()
        self.acknowledged_at = 0.0  # by the monotonic clock, as soon as that is noticed


class ExpectedEchoes:
    """Own writes of an asset, from their beginning until their echoes arrive. Any thread may use it."""

    def __init__(self) -> None:
        self._writes: dict[Content, deque[OwnWrite]] = {}
        self._changed = threading.Condition()
        self._unsettled: list[Receipt] = []

    def __contains__(self, content: Content) -> bool:
        return content in self._writes

    def __len__(self) -> int:
        return len(self._writes)

    def expect(self, event: AssetEvent) -> OwnWrite:
        """Note an event that this process is about to write."""
        write = OwnWrite(content_of(event))
        with self._changed:
            self._writes.setdefault(write.content, deque()).append(write)
            if len(self._writes) > _MAX_OWN_WRITES:
                del self._writes[next(iter(self._writes))]
        return write

    def note_receipt(self, write: OwnWrite, receipt: Receipt | None) -> None:
        """Set the receipt of an own write, or discard a failed write, which has None."""
        with self._changed:
            write.receipt = receipt
            if receipt is None:
                self._take(write.content, write)
            self._changed.notify_all()

    def discard(self, content: Content) -> None:
        """Expect the echo of an event no more."""
        with self._changed:
            self._take(content)

    def clear(self) -> None:
        """Expect no echoes."""
        with self._changed:
            self._writes.clear()

    def position_of(self, content: Content) -> int:
        """Return the position of the echo of an own write, or 0 for an event of another process."""
        with self._changed:
            write = self._take(content)
            if write is None:
                return 0
            self._changed.wait_for(lambda: write.receipt is not None, _REPORT_SECONDS)
        if write.receipt is None:
            return 0
        try:
            return write.receipt.wait(_REPORT_SECONDS)
        except OpenFactoryError:
            self._unsettled.append(write.receipt)
            return 0

    def settled_position(self) -> int:
        """Return the highest position of the echoes whose receipts were settled after their arrival, or 0."""
        position = 0
        while self._unsettled and self._unsettled[0].settled:
            position = max(position, self._unsettled.pop(0).position or 0)
        return position

    def overdue_since(self, seconds: float) -> float | None:
        """Return the time of a write whose echo has not arrived in time, in seconds since 1970, or None.

        Args:
            seconds: the time limit, from the first call after the acknowledgement.
        """
        now = time.monotonic()
        with self._changed:
            writes = next(iter(self._writes.values()), None)
            if not writes or (receipt := writes[0].receipt) is None or not receipt.settled:
                return None
            if receipt.position is None:  # it has failed
                self._take(writes[0].content, writes[0])
                return None
            writes[0].acknowledged_at = writes[0].acknowledged_at or now
            return writes[0].written_at if now - writes[0].acknowledged_at > seconds else None

    def _take(self, content: Content, write: OwnWrite | None = None) -> OwnWrite | None:
        """Remove and return an expected own write with this content: the given write, or the oldest."""
        writes = self._writes.get(content, ())
        taken = next((expected for expected in writes if write is None or expected is write), None)
        if taken is not None and isinstance(writes, deque):
            writes.remove(taken)
            if not writes:
                del self._writes[content]
        return taken
