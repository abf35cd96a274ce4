"""Memory of the events that were delivered to an asset's subscribers, for messages and records without a place."""

from __future__ import annotations

import time
from collections import Counter, deque

from openfactory.engines.fanout.expected_echoes import Content
from openfactory.engines.kafka_engine.log_reader import Partition

__all__ = ["FORWARDING_SECONDS", "ContentMemory"]

#: Upper bound for the delay between the log and NATS, in seconds.
FORWARDING_SECONDS = 10.0

# For how long delivered events are remembered, so that a repair does not deliver them again, in seconds.
_REMEMBERED_SECONDS = 40.0

# Two equal events that a writer has written within a millisecond arrive within this time, in seconds. An event that was
# delivered longer ago mostly comes again from a forwarder that has crashed and repeats its last messages.
_TWIN_SECONDS = 0.05


class ContentMemory:
    """The contents of delivered events, and of those that a repair has shown or that may still arrive."""

    def __init__(self) -> None:
        # Delivered events with their times of delivery, the last time by event, and the time of the newest discarded.
        self._delivered: deque[tuple[float, Content]] = deque()
        self._delivered_at: dict[Content, float] = {}
        self._discarded_until = 0.0
        # Of this repair: delivered events that the log has not shown yet, the partitions that have shown one of them,
        # and the events that an unfinished reading has shown.
        self._known: Counter[Content] = Counter()
        self._found_known: set[Partition] = set()
        self._shown: dict[Partition, Counter[Content]] = {}
        # Events that were delivered from the log, whose messages may still arrive from NATS.
        self._ahead: Counter[Content] = Counter()
        self._ahead_until = 0.0

    def __contains__(self, content: Content) -> bool:
        return content in self._delivered_at

    def quiet_seconds(self) -> float:
        """Return the time since the last delivered event in seconds, or 0 without one."""
        return time.monotonic() - self._delivered[-1][0] if self._delivered else 0.0

    def is_from_before(self, content: Content) -> bool:
        """Return whether an event with this content was delivered, and not just now."""
        delivered_at = self._delivered_at.get(content)
        return delivered_at is not None and time.monotonic() > delivered_at + _TWIN_SECONDS

    def remember(self, content: Content, *, may_discard: bool) -> None:
        """Note that an event is delivered.

        Args:
            may_discard: whether no repair needs the oldest ones.
        """
        now = time.monotonic()
        self._delivered.append((now, content))
        self._delivered_at[content] = now
        while may_discard and self._delivered[0][0] < now - _REMEMBERED_SECONDS:
            delivered_at, discarded = self._delivered.popleft()
            if self._delivered_at[discarded] == delivered_at:
                del self._delivered_at[discarded]
            self._discarded_until = time.time() - (now - delivered_at)

    # A repair

    def begin_repair(self) -> None:
        """Prepare for a log that shows delivered events again."""
        self._known = Counter(content for _, content in self._delivered)
        self._found_known.clear()
        self._shown.clear()

    def begin_reading(self, partition: Partition, *, is_first: bool) -> None:
        """Prepare to read a partition. The events that a reading has shown before it failed count as known.

        Args:
            is_first: whether this repair has not read the partition to an end yet.
        """
        self._known.update(self._shown.pop(partition, ()))
        self._shown[partition] = Counter()
        if is_first:
            self._found_known.discard(partition)

    def note_shown(self, content: Content, partition: Partition) -> None:
        """Note that a reading has shown an event."""
        self._shown[partition][content] += 1

    def take_known(self, content: Content, partition: Partition) -> bool:
        """Return whether an event that the log shows was delivered before the repair, and take it out."""
        if self._known[content] <= 0:
            return False
        self._known[content] -= 1
        self._found_known.add(partition)
        return True

    def was_discarded(self, partition: Partition, recorded_at: float) -> bool:
        """Return whether an event that the log shows is older than those that are remembered.

        In the log, discarded events precede the known ones. The time alone is no proof: a clock may be wrong.

        Args:
            recorded_at: time of its record in the log, in seconds since 1970.
        """
        return recorded_at < self._discarded_until and partition not in self._found_known

    def end_reading(self, partition: Partition) -> None:
        """Note that a partition was read to its end."""
        del self._shown[partition]

    def end_repair(self) -> None:
        """Note that all partitions were read to their ends."""
        self._known.clear()

    # Messages that arrive after the log has shown their events

    def expect(self, content: Content) -> None:
        """Expect the message of an event that was delivered from the log."""
        self._ahead[content] += 1
        self._ahead_until = time.monotonic() + FORWARDING_SECONDS

    def expect_none(self) -> None:
        """Expect no messages of events that were delivered from the log."""
        self._ahead.clear()

    def take_expected(self, content: Content) -> bool:
        """Return whether the event of a message was delivered from the log before it arrived, and expect it no more."""
        if self._ahead:
            if time.monotonic() > self._ahead_until:
                self._ahead.clear()
            elif self._ahead[content] > 0:
                self._ahead[content] -= 1
                return True
        return False
