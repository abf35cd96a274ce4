"""What is known of one asset that is heard on NATS: how far, what was handed on, and which own writes come back."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable

from openfactory.engines.base import Subscription
from openfactory.engines.kafka_engine.log_reader import Partition
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import OpenFactoryError

__all__ = ["FORWARDING_SECONDS", "LiveAsset"]

#: A message is on NATS at most this long after it is in the log, in seconds.
FORWARDING_SECONDS = 10.0

# What was handed on is remembered for so long, so that a repair does not tell it again, in seconds.
_REMEMBERED_SECONDS = 40.0

# The echo of an own write proves that it was acknowledged; the report of it comes within this time, in seconds.
_REPORT_SECONDS = 0.5

_OWN_WRITES = 10_000

# What tells one event of an asset from another, where no offset does.
_Content = tuple[str, str, int]


def _content(event: AssetEvent) -> _Content:
    return event.id, event.timestamp, hash(repr(event.value))


class _OwnWrite:
    """An event that this process writes, before it can come back; its receipt is known a moment later."""

    __slots__ = ("content", "receipt")

    def __init__(self, content: _Content) -> None:
        self.content = content
        self.receipt: Receipt | None = None


class LiveAsset:
    """One asset that is watched; all but own writes are noted under the dispatcher's lock.

    Attributes:
        live: whether events come from NATS now; else they are read from the log, and NATS fills `pending`.
        on_nats: whether NATS carries the asset, as far as that is proven.
        good_at: until when nothing was missed, in seconds since 1970.
        since: the offset from which a subscription wants events, or None after a cut.
        log_from: up to which offset the log was read in this repair, or None at its beginning.
        repairs: counts the repairs that were begun.
        fresh: subscriptions that have not heard what others have.
        readers: who reads the log beside; NATS fills `pending` until it is known what of it stands in what they read.
    """

    def __init__(self, asset_uuid: str, partition: Partition, since: int) -> None:
        self.asset_uuid = asset_uuid
        self.partition = partition
        self.live = False
        self.on_nats = False
        self.pending: list[AssetEvent] = []
        self.fresh: list[Subscription] = []
        self.good_at = time.time()
        self.since: int | None = since
        self.log_from: int | None = None
        self.repairs = 0
        self.readers = 0
        self._first_wanted = since
        self._floor = since
        self._heard: deque[tuple[float, _Content]] = deque()
        self._forgotten_until = 0.0
        self._repaired: Counter[_Content] = Counter()
        self._met = False
        self._ahead: Counter[_Content] = Counter()
        self._ahead_until = 0.0
        self._read: dict[_Content, deque[int]] = {}
        self._read_end = 0
        self._own: dict[_Content, deque[_OwnWrite]] = {}
        self._own_told = threading.Condition()
        self._late: list[Receipt] = []

    def begin_repair(self, good_at: float, since: int | None = None) -> None:
        """Take events from the log from now on, until NATS is known to carry them all again."""
        if not self.live:  # one is under way: what it has not read yet is read by this one
            good_at = min(self.good_at, good_at)
            known = [one for one in (self.since, self.log_from, since) if one is not None]
            since = min(known, default=None)
        self.live = False
        self.repairs += 1
        self.good_at, self.since, self.log_from = good_at, since, None

    def hear_again(self, subscription: Subscription, since: int) -> None:
        """One more subscription wants what others have heard."""
        self.fresh.append(subscription)
        self.begin_repair(time.time(), since)

    def begin_reading(self) -> None:
        """The log is read, from the start of this repair if it was not read to an end yet."""
        if self.log_from is None:
            self._repaired = Counter(content for _, content in self._heard)
            self._met = False

    def end_repair(self) -> None:
        """Take events from NATS from now on."""
        self.live = True
        self.since = None
        self._repaired.clear()
        self.fresh.clear()

    def due(self) -> list[AssetEvent]:
        """What has come on NATS and need not wait any more."""
        if not self.live or self.readers:
            return []
        due, self.pending = self.pending, []
        return due

    def was_read_to(self, offset: int) -> None:
        """The log was read up to an offset, which all that comes on NATS from now on stands behind."""
        self.log_from = offset
        self._floor = max(self._floor, offset)

    def note_read(self, events: Iterable[AssetEvent], end: int) -> None:
        """Somebody has read these events, the newest before an end; what comes and is none of them stands behind it."""
        if self.live and end > self._read_end:
            self._read = defaultdict(deque)
            self._read_end = end
            for event in events:
                self._read[_content(event)].append(event.position or 0)

    def expect_own(self, event: AssetEvent) -> _OwnWrite:
        """This process is about to write an event that will come back."""
        write = _OwnWrite(_content(event))
        with self._own_told:
            self._own.setdefault(write.content, deque()).append(write)
            if len(self._own) > _OWN_WRITES:
                del self._own[next(iter(self._own))]
        return write

    def note_own(self, write: _OwnWrite, receipt: Receipt | None) -> None:
        """It is written, or will never be."""
        with self._own_told:
            write.receipt = receipt
            if receipt is None:
                self._take_own(write.content, write)
            self._own_told.notify_all()

    def was_heard(self, event: AssetEvent, recorded_at: float) -> bool:
        """Whether a record of the log was handed on before, or need not be; it is from now on."""
        content = _content(event)
        position = event.position or 0
        if self._repaired[content] > 0:
            self._repaired[content] -= 1
            self._met = True
            return True
        # What was forgotten stands before what is remembered, and a writer's clock may be wrong.
        forgotten = recorded_at < self._forgotten_until and not self._met
        heard = position <= self._first_wanted or forgotten
        with self._own_told:
            self._take_own(content)
        self._remember(content)
        self._ahead[content] += 1
        self._ahead_until = time.monotonic() + FORWARDING_SECONDS
        self._floor = max(self._floor, position)
        return heard

    def with_position(self, event: AssetEvent) -> AssetEvent | None:
        """An event that has come on NATS with its position; None if the log has told it already."""
        content = _content(event)
        if self._ahead:
            if time.monotonic() > self._ahead_until:
                self._ahead.clear()
            elif self._ahead[content] > 0:
                self._ahead[content] -= 1
                return None
        self._remember(content)
        read = self._read.get(content)
        position = max(self._own_position(content), read.popleft() if read else 0)
        if not position and self._read_end:
            self._floor = max(self._floor, self._read_end)
            self._read, self._read_end = {}, 0
        self._floor = max(self._floor + 1, position)
        return event.with_position(self._floor)

    def _own_position(self, content: _Content) -> int:
        """The position of an own write that comes back, and 0 for what others wrote."""
        while self._late and self._late[0].settled:
            self._floor = max(self._floor, self._late.pop(0).position or 0)
        with self._own_told:
            write = self._take_own(content)
            if write is None:
                return 0
            self._own_told.wait_for(lambda: write.receipt is not None, _REPORT_SECONDS)
        if write.receipt is None:
            return 0
        try:
            return write.receipt.wait(_REPORT_SECONDS)
        except OpenFactoryError:
            self._late.append(write.receipt)
            return 0

    def _take_own(self, content: _Content, write: _OwnWrite | None = None) -> _OwnWrite | None:
        """One own write of this content, the oldest or a certain one, which is not expected any more."""
        writes = self._own.get(content, ())
        taken = next((one for one in writes if write is None or one is write), None)
        if taken is not None and isinstance(writes, deque):
            writes.remove(taken)
            if not writes:
                del self._own[content]
        return taken

    def _remember(self, content: _Content) -> None:
        now = time.monotonic()
        self._heard.append((now, content))
        while self.live and self._heard[0][0] < now - _REMEMBERED_SECONDS:
            at, _ = self._heard.popleft()
            self._forgotten_until = time.time() - (now - at)
