"""What is known of one asset that is heard on NATS: how far, what was handed on, and which own writes come back."""

from __future__ import annotations

import time
from collections import Counter, deque
from contextlib import suppress

from openfactory.assets.event import AssetEvent
from openfactory.assets.receipt import Receipt
from openfactory.engines.base import Subscription
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka.log_reader import Partition

__all__ = ["FORWARDING_SECONDS", "HeardAsset"]

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


class HeardAsset:
    """One asset that is watched; all of it is used under the dispatcher's lock.

    Attributes:
        live: whether events come from NATS now; else they are read from the log, and NATS fills `pending`.
        on_nats: whether NATS carries the asset, as far as that is proven.
        good_at: until when nothing was missed, in seconds since 1970.
        since: the offset from which a subscription wants events, or None after a cut.
        log_from: up to which offset the log was read in this repair, or None at its beginning.
        repairs: counts the repairs that were begun.
        fresh: subscriptions that have not heard what others have.
    """

    def __init__(self, partition: Partition, since: int) -> None:
        self.partition = partition
        self.live = False
        self.on_nats = False
        self.pending: list[AssetEvent] = []
        self.fresh: list[Subscription] = []
        self.good_at = time.time()
        self.since: int | None = since
        self.log_from: int | None = None
        self.repairs = 0
        self._first_wanted = since
        self._floor = since
        self._heard: deque[tuple[float, _Content]] = deque()
        self._forgotten_until = 0.0
        self._repaired: Counter[_Content] | None = None
        self._ahead: Counter[_Content] = Counter()
        self._ahead_until = 0.0
        self._own: deque[tuple[_Content, Receipt]] = deque(maxlen=_OWN_WRITES)

    def begin_repair(self, good_at: float, since: int | None = None) -> None:
        """Take events from the log from now on, until NATS is known to carry them all again."""
        if not self.live:  # one is under way: what it has not read yet is read by this one
            good_at = min(self.good_at, good_at)
            known = [one for one in (self.since, self.log_from, since) if one is not None]
            since = min(known, default=None)
        self.live = False
        self.repairs += 1
        self.good_at, self.since, self.log_from = good_at, since, None
        self._repaired = Counter(content for _, content in self._heard)

    def hear_again(self, subscription: Subscription, since: int) -> None:
        """One more subscription wants what others have heard."""
        self.fresh.append(subscription)
        self.begin_repair(time.time(), since)

    def end_repair(self) -> list[AssetEvent]:
        """Take events from NATS from now on; gives back those that have come meanwhile."""
        self.live = True
        self.since = self._repaired = None
        self.fresh.clear()
        pending, self.pending = self.pending, []
        return pending

    def was_read_to(self, offset: int) -> None:
        """The log was read up to an offset, which all that comes on NATS from now on stands behind."""
        self.log_from = offset
        self._floor = max(self._floor, offset)

    def note_end(self, offset: int) -> None:
        """The log has ended there while NATS was live, so what has come before stands before that."""
        if self.live:
            self._floor = max(self._floor, offset)

    def note_own(self, event: AssetEvent, receipt: Receipt) -> None:
        """This process has written an event that will come back."""
        self._own.append((_content(event), receipt))

    def was_heard(self, event: AssetEvent, recorded_at: float) -> bool:
        """Whether a record of the log was handed on before, or need not be; it is from now on."""
        content = _content(event)
        position = event.position or 0
        heard = position <= self._first_wanted or recorded_at < self._forgotten_until
        if self._repaired and self._repaired[content] > 0:
            self._repaired[content] -= 1
            return True
        self._remember(content)
        self._ahead[content] += 1
        self._ahead_until = time.monotonic() + FORWARDING_SECONDS
        self._floor = max(self._floor, position)
        return heard

    def placed(self, event: AssetEvent) -> AssetEvent | None:
        """An event that has come on NATS with its position; None if the log has told it already."""
        content = _content(event)
        if self._ahead:
            if time.monotonic() > self._ahead_until:
                self._ahead.clear()
            elif self._ahead[content] > 0:
                self._ahead[content] -= 1
                return None
        self._remember(content)
        self._floor = max(self._floor + 1, self._own_position(content))
        return event.placed(self._floor)

    def _own_position(self, content: _Content) -> int:
        """The position of an own write that comes back, and 0 for what others wrote."""
        for number, (own, receipt) in enumerate(self._own):
            if own == content:
                for _ in range(number + 1):
                    self._own.popleft()
                with suppress(OpenFactoryError):
                    return receipt.wait(_REPORT_SECONDS)
                return 0
        return 0

    def _remember(self, content: _Content) -> None:
        now = time.monotonic()
        self._heard.append((now, content))
        while self.live and self._heard[0][0] < now - _REMEMBERED_SECONDS:
            at, _ = self._heard.popleft()
            self._forgotten_until = time.time() - (now - at)
