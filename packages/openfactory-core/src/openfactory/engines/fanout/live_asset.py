"""State of an asset whose events come from NATS: delivered events, positions, and expected echoes of own writes."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from openfactory.engines.base import Subscription
from openfactory.engines.fanout.content_memory import ContentMemory
from openfactory.engines.fanout.expected_echoes import Content, ExpectedEchoes, content_of
from openfactory.engines.kafka_engine.log_reader import Partition
from openfactory.events.event import AssetEvent

__all__ = ["Due", "LiveAsset", "Place"]

# For how long at most no forwarder ran before another one takes over, without notice, in seconds. Together with
# FORWARDING_SECONDS, it is not more than the time for which the memory has delivered events.
_TAKEOVER_SECONDS = 30.0

# Stands for NATS where a subscription counts the places in each partition; estimated positions are not such places.
_NATS = -1


class Place(NamedTuple):
    """The place of a record: its partition, and the offset after it, from the base of the log."""

    partition: Partition
    offset: int


class _Message:
    """A message from NATS, with the place of its record if its headers have it."""

    __slots__ = ("_content", "event", "place")

    def __init__(self, event: AssetEvent, place: Place | None) -> None:
        self.event = event
        self.place = place
        self._content: Content | None = None

    @property
    def content(self) -> Content:
        """The content of the event, which is computed once; a message with a place is mostly delivered without it."""
        if self._content is None:
            self._content = content_of(self.event)
        return self._content


class Due(NamedTuple):
    """An event that can be delivered now, with its position, and its place in a partition or on NATS."""

    event: AssetEvent
    partition: int
    place: int


class LiveAsset:
    """An asset with subscriptions.

    While the asset is live, its events come from NATS. Otherwise a repair reads them from all partitions of the log,
    until NATS carries all of them again: writers may choose partitions in any way. The dispatcher's lock must be held.

    Args:
        asset_uuid: UUID of the asset.
        partition: the partition that OpenFactory chooses for the asset, to which its positions belong.
        since: by partition, the offset after which the first subscription wants events.

    Attributes:
        live: whether events come from NATS; otherwise the log is read, and messages wait in `pending`.
        on_nats: whether NATS carries all messages of the asset, as of the last proof.
        placed: whether messages have the places of their records, which decide what was delivered. Messages without a
            place, of another forwarder beside it, are ignored. Otherwise the contents of the events decide.
        late: whether a forwarder does not carry the events to NATS in time.
        live_at: time since which the asset is live, or was, by the monotonic clock.
        heard_at: time of the last message from NATS by the monotonic clock.
        pending: messages from NATS that are not delivered yet, the oldest first.
        fresh: subscriptions that want events which were already delivered to others.
        good_at: time until which no event was missed, in seconds since 1970.
        since: by partition, the offset from which a subscription wants events; empty after a cut.
        log_from: by partition, the offset up to which this repair has read it, as soon as it has read it to an end.
        repairs: number of repairs.
        readers: number of snapshots that are read from the log. Meanwhile messages wait in `pending`, because a
            snapshot may contain their events.
        own: writes of this process to the asset whose echoes are expected, so that they get the positions of their
            receipts; any thread may use it.
    """

    def __init__(self, asset_uuid: str, partition: Partition, since: Mapping[Partition, int]) -> None:
        self.asset_uuid = asset_uuid
        self.partition = partition
        self.live = False
        self.on_nats = False
        self.placed = False
        self.late = False
        self.live_at = self.heard_at = 0.0
        self.pending: deque[_Message] = deque()
        self.fresh: list[Subscription] = []
        self.good_at = time.time()
        self.since: Mapping[Partition, int] = since
        self.log_from: dict[Partition, int] = {}
        self.repairs = 0
        self.readers = 0
        self.own = ExpectedEchoes()
        self._first_wanted = since
        self._floor = since[partition]
        # By partition, the offset up to which each event was delivered; unless messages without places came since then.
        self._passed: dict[Partition, int] = {}
        self._all_passed = True
        self._memory = ContentMemory()
        self._covered = 0  # messages that waited when the log began to be read
        # While the asset is late: the newest event from the log, and whether its message has not arrived yet.
        self._awaited: Content | None = None
        self._is_awaiting = False
        # Positions of the events in the last snapshot, and its ends.
        self._snapshot: dict[Content, deque[int]] = {}
        self._snapshot_end = 0
        self._snapshot_ends: Mapping[Partition, int] = {}

    def begin_repair(self, good_at: float, since: Mapping[Partition, int] | None = None) -> None:
        """Read events from the log from now on, until NATS carries all of them again.

        Args:
            good_at: time until which no event was missed, in seconds since 1970.
            since: by partition, the offset from which a subscription wants events.
        """
        since = since or {}
        if not self.live:  # the new repair replaces the current one, and also reads the rest of its events
            good_at = min(self.good_at, good_at)
            since = _earliest(self.since, self.log_from, since)
        self.live = False
        self.repairs += 1
        self.good_at, self.since, self.log_from = good_at, since, {}
        self._memory.begin_repair()
        self._covered = 0

    def begin_log(self, partition: Partition) -> None:
        """Begin a repair from another log, whose places are all higher than those of the former one."""
        self.partition = partition
        self.placed = False
        self._passed.clear()
        self._all_passed = False
        self.begin_repair(time.time())

    def begin_late(self, good_at: float) -> None:
        """Begin a repair that goes on until a forwarder carries the events to NATS in time again."""
        self.late = self._is_awaiting = True
        self.placed = False  # another forwarder may serve it afterwards
        self._awaited = None
        self.begin_repair(good_at)

    def begin_takeover(self) -> None:
        """Begin a repair, because a forwarder whose messages have places has replaced another one.

        It may have begun later in the log than the other one has ended.
        """
        self.placed = True
        self.begin_repair(time.time() - _TAKEOVER_SECONDS)

    @property
    def is_on_nats(self) -> bool:
        """Whether NATS carries all messages of the asset, and in time."""
        return self.on_nats and not self.late

    @property
    def has_caught_up(self) -> bool:
        """Whether NATS has carried the newest event that the log has shown since the asset is late."""
        return not self._is_awaiting

    def passed(self, partition: Partition) -> int:
        """Return the offset in a partition up to which each event was delivered, or 0 if it is not known."""
        return self._passed.get(partition, 0) if self._all_passed else 0

    def hear(self, event: AssetEvent, place: Place | None = None) -> None:
        """Add a message from NATS.

        Args:
            event: its event, without a position.
            place: the place of its record, if its headers have it.
        """
        self.heard_at = time.monotonic()
        message = _Message(event, place)
        self.pending.append(message)
        if self._is_awaiting and message.content == self._awaited:
            self._is_awaiting = False

    def lacks(self, event: AssetEvent, partition: Partition, place: int) -> bool:
        """Return whether an event of the last seconds, which the log has, has not arrived."""
        content = content_of(event)
        return (
            place > self._first_wanted.get(partition, 0)
            and place > self._passed.get(partition, 0)
            and content not in self._memory
            and not any(one.content == content for one in self.pending)
        )

    def catch_up(self, subscription: Subscription, since: Mapping[Partition, int]) -> None:
        """Begin a repair for a new subscription, which wants events that were already delivered to others."""
        self.fresh.append(subscription)
        self.begin_repair(time.time(), since)

    def note_waiting(self) -> None:
        """Note that the log is about to be read up to its end, which is behind the events of all waiting messages."""
        self._covered = len(self.pending)
        if self.late:
            self._memory.expect_none()  # they grow otherwise

    def begin_reading(self, partition: Partition) -> None:
        """Prepare to read a partition. The events that a reading has shown before it failed count as known."""
        self._memory.begin_reading(partition, is_first=partition not in self.log_from)

    def note_log_end(self, partition: Partition, offset: int) -> None:
        """Note that a partition was read up to an offset; all later messages from NATS are behind it."""
        self.log_from[partition] = offset
        self._passed[partition] = max(self._passed.get(partition, 0), offset)
        self._memory.end_reading(partition)
        if partition == self.partition:
            self._floor = max(self._floor, offset)

    def note_all_read(self) -> None:
        """Note that all partitions were read to their ends, and drop the messages that the log has shown.

        While the asset is late, these are all that waited when the log began to be read.
        """
        if self._is_awaiting and any(one.content == self._awaited for one in self.pending):
            self._is_awaiting = False
        self._all_passed = True
        self._memory.end_repair()
        self.fresh.clear()
        waiting = [self.pending.popleft() for _ in range(self._covered)]
        self._covered = 0
        if not self.late:
            self.pending.extendleft(one for one in reversed(waiting) if not self._was_shown(one))

    def end_repair(self) -> None:
        """Deliver events from NATS from now on."""
        self.live = True
        self.live_at = time.monotonic()
        self.since = {}

    def next_due(self) -> Due | None:
        """Return the next event from NATS that can be delivered now, or None.

        An event whose place was passed is a repetition. If messages have no places, an event that was delivered a while
        ago is a repetition, or another event with the same content. The log decides it: the message waits, and a repair
        begins. It also begins with the first message with a place after others without.
        """
        while self.pending and self.live and not self.readers:
            message = self.pending[0]
            if (place := message.place) is not None:
                self.placed = True
                if not self._all_passed:
                    self._begin_repair_from_delivered()
                    continue
                self.pending.popleft()
                if place.offset > self._passed.get(place.partition, 0):
                    return self._in_place(message.event, place)
            elif self.placed or self._memory.take_expected(message.content):
                self.pending.popleft()
            elif self._is_doubtful(message.content):
                self._begin_repair_from_delivered()
            else:
                self.pending.popleft()
                return self._estimated(message)
        return None

    def note_snapshot(self, events: Iterable[AssetEvent], ends: Mapping[Partition, int]) -> None:
        """Note the newest events of a snapshot, up to its ends; all other messages from NATS are behind the ends."""
        end = ends.get(self.partition, 0)
        if self.live and end > self._snapshot_end:
            self._snapshot_ends = ends
            self._snapshot = defaultdict(deque)
            self._snapshot_end = end
            for event in events:
                self._snapshot[content_of(event)].append(event.position or 0)

    def mark_delivered(self, event: AssetEvent, recorded_at: float, partition: Partition, place: int) -> bool:
        """Mark an event of the log as delivered, and return whether it was delivered before or is not wanted.

        Args:
            event: the event, with its position.
            recorded_at: time of its record in the log, in seconds since 1970.
            partition: the partition with the record.
            place: the offset after it.
        """
        content = content_of(event)
        self._memory.note_shown(content, partition)
        if self._all_passed:
            if place <= self._passed.get(partition, 0):
                return True
            self._passed[partition] = place
            discarded = False
        elif self._memory.take_known(content, partition):
            return True
        else:
            discarded = self._memory.was_discarded(partition, recorded_at)
        delivered = place <= self._first_wanted.get(partition, 0) or discarded
        self.own.discard(content)
        self._memory.remember(content, may_discard=self._all_passed)
        self._memory.expect(content)
        if self.late:
            self._awaited, self._is_awaiting = content, True
        self._floor = max(self._floor, event.position or 0)
        return delivered

    def with_newest_position(self, event: AssetEvent) -> AssetEvent:
        """Return an event with the newest position: that of an event outside of the asset's partition may be older."""
        return event if event.position == self._floor else event.with_position(self._floor)

    def _was_shown(self, message: _Message) -> bool:
        if message.place is not None:
            return message.place.offset <= self._passed.get(message.place.partition, 0)
        return self._memory.take_expected(message.content) or message.content in self._memory

    def _is_doubtful(self, content: Content) -> bool:
        """Return whether only the log can decide if an event without a place was delivered before."""
        return self._memory.is_from_before(content) and content not in self.own

    def _begin_repair_from_delivered(self) -> None:
        """Begin a repair from the last delivered event."""
        self.begin_repair(time.time() - self._memory.quiet_seconds())

    def _in_place(self, event: AssetEvent, place: Place) -> Due:
        """Return an event whose place is known; outside of its asset's partition its position is the newest one."""
        partition, offset = place
        self._passed[partition] = offset
        if self.own:
            self.own.clear()  # echoes have places, too
        if partition == self.partition:
            self._floor = max(self._floor, offset)
            return Due(event.with_position(offset), partition.number, offset)
        if offset > self._snapshot_ends.get(partition, 0):
            self._floor = max(self._floor, self._snapshot_end)
        return Due(event.with_position(self._floor), partition.number, offset)

    def _estimated(self, message: _Message) -> Due:
        """Return the event of a message without a place, with an estimate of its position."""
        content = message.content
        self._all_passed = False
        self._memory.remember(content, may_discard=True)
        self._floor = max(self._floor, self.own.settled_position())
        positions = self._snapshot.get(content)
        position = max(self.own.position_of(content), positions.popleft() if positions else 0)
        if not position and self._snapshot_end:
            self._floor = max(self._floor, self._snapshot_end)
            self._snapshot, self._snapshot_end, self._snapshot_ends = {}, 0, {}
        self._floor = max(self._floor + 1, position)
        return Due(message.event.with_position(self._floor), _NATS, self._floor)


def _earliest(*offsets: Mapping[Partition, int]) -> dict[Partition, int]:
    """Return the smallest offset of each partition."""
    pairs = sorted((pair for by_partition in offsets for pair in by_partition.items()), reverse=True)
    return dict(pairs)
