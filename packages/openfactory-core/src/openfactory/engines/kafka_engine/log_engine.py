"""The base class of the engines on Kafka, which write events to one topic and read it by its offsets.

The position of an event is its offset plus one, so that position 0 is before all events.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from openfactory.concurrency import forked_child
from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.base import (
    ASSETS_STREAM,
    ASSETS_TOPIC,
    EngineHealth,
    LogPosition,
    OnDeliveryError,
    OnEvent,
    OnGap,
    Subscription,
)
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.kafka_engine import command_age
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.delivery import Delivery
from openfactory.engines.kafka_engine.fold import is_deregistration
from openfactory.engines.kafka_engine.interest import Interest, key_of_asset
from openfactory.engines.kafka_engine.log_clock import LogClock
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import LogReader
from openfactory.engines.kafka_engine.log_watch import Identity, LogWatch, TopicIdentity
from openfactory.engines.kafka_engine.partitioning import partition_of
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.presence import GroupPresence
from openfactory.engines.kafka_engine.records import Records
from openfactory.engines.kafka_engine.register_rows import RegisterRows
from openfactory.engines.kafka_engine.side_reader import SideReader
from openfactory.engines.liveness import Liveness, liveness_timeout
from openfactory.engines.shared import HistoryQuery, SharedEngine
from openfactory.events.attribute import UNAVAILABLE
from openfactory.events.event import AssetEvent
from openfactory.events.message import checked_event, encode_message, read_message
from openfactory.events.ownership import owned
from openfactory.events.receipt import Receipt
from openfactory.events.registration import Registration, deregistration_event
from openfactory.exceptions import ConfigurationError, EngineUnavailableError, OpenFactoryError
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["LogEngine", "TopicNames", "in_order_of_time"]

_logger = logging.getLogger("openfactory.engines")

# An upper bound for the difference between the clocks of writers and brokers, in seconds.
_CLOCKS_DIFFER_SECONDS = 3_600.0

# Seconds to wait for the owner of an asset before it is deregistered.
_OWNER_SECONDS = 1.0

# Seconds to wait until the identity of the log is known.
_LOOK_SECONDS = 6.0

# Seconds between two looks for assets that are not needed any more.
_LET_GO_SECONDS = 10.0


class TopicNames(NamedTuple):
    """The topics to which an engine writes.

    Attributes:
        assets: topic of all events.
        uns_map: topic of the places in the unified namespace.
        tombstones: by table of ksqlDB, its topic if that exists, for the tombstones of deregistered assets.
    """

    assets: str
    uns_map: str
    tombstones: Mapping[str, str] = {}


class LogEngine(SharedEngine):
    """Base class of an engine whose log is a Kafka topic.

    Args:
        url: the URL that opens the engine.
        connection: the cluster.
        reader: reader for the log; the engine closes it.
        topics: the topics for events, places and tombstones.
        watch: watch over the topics of the log; the engine closes it.
        identity: the identity of the topics.
        delivery: the writer of the log; the engine closes it.
    """

    liveness: Liveness
    _feed: LogFeed | None

    def __init__(
        self,
        url: str,
        connection: BrokerConnection,
        reader: LogReader,
        topics: TopicNames,
        watch: LogWatch,
        identity: Identity,
        delivery: Delivery,
    ) -> None:
        super().__init__(url)
        self._connection = connection
        self._reader = reader
        self._topics = topics
        self._watch = watch
        self._identity = identity
        self._positions = connection.positions
        self._positions.counts = {topic: known.partitions for topic, known in identity.items()}
        self._positions.passed = self._passed
        self._partitions = self._partitions_of(topics.assets)
        self._map_partitions = self._partitions_of(topics.uns_map)
        self._dispatcher = Dispatcher()
        self._delivery = delivery
        self._known_ends: dict[Partition, int] = {}
        self._catching_up: int | None = None  # id of the thread that delivers past events to a new subscription
        self._newest: dict[str, int] = {}  # by asset that the feed delivers, the position of its newest event
        self._interest = Interest()
        self._side = SideReader(reader, self._started_feed, self._interest, self._delivering)
        self._let_go_at = time.monotonic() + _LET_GO_SECONDS
        self._replacing = threading.Lock()  # owned while another log takes the place of the present one
        self._records = Records(self._positions)
        self._rows = RegisterRows(connection, reader, self._records, topics.tombstones)
        timeout = liveness_timeout()
        presence = GroupPresence(connection, topics.assets, timeout)
        self.liveness = Liveness(presence, self._last_events, self.publish, self._claims, timeout)

    # Writing

    def publish(self, event: AssetEvent) -> Receipt:
        if self._closed or self._pid != forked_child.pid:
            self._check_open()
        return self._delivery.publish(self._topics.assets, event.asset_uuid, encode_message(event), event)

    def produce(self, topic: str, key: str | bytes, value: str | bytes | None) -> Receipt:
        self._check_open()
        if topic in (self._topics.assets, ASSETS_TOPIC):
            event = checked_event(key, value)
            message = value.encode() if isinstance(value, str) else value
            assert message is not None
            if read_message(event.asset_uuid, message).timestamp == UNAVAILABLE:
                message = encode_message(event)  # the message has no time: use the current time
            return self._delivery.publish(self._topics.assets, event.asset_uuid, message, event)
        return self._delivery.publish(topic, key, value)

    def stamp(self, asset_uuid: str) -> dict[str, str]:
        return command_age.stamp(self._clock_of(asset_uuid))

    def age(self, event: AssetEvent) -> float | None:
        return command_age.age(event, self._clock_of(event.asset_uuid), self._connection.pauses.last)

    def _clock_of(self, asset_uuid: str) -> LogClock:
        partition = self._partition_of(asset_uuid)
        return self._connection.clocks.of(partition.topic, partition.number)

    def topic_of(self, name: str) -> str:
        if name.strip("`").upper() != ASSETS_STREAM:
            raise ConfigurationError(f"{redacted(self.url)} has no stream {name!r}. Use {ASSETS_STREAM}.")
        return self._topics.assets

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        self._delivery.on_delivery_error(callback)

    def flush(self, timeout: float = 10.0) -> None:
        self._check_open()
        self._delivery.flush(timeout)

    def register(self, registration: Registration) -> list[Receipt]:
        receipts = [self.publish(event) for event in registration.events()]
        if registration.uns_id is not None:
            place: dict[str, object] = {
                "ASSET_UUID": registration.asset_uuid,
                "UNS_ID": registration.uns_id,
                "UNS_LEVELS": registration.uns_levels,
                "UPDATED_AT": time.time_ns() // 1_000_000,
            }
            receipts.append(self._publish_place(registration.asset_uuid, place))
        return receipts

    def deregister(self, asset_uuid: str, epoch: int | None = None) -> list[Receipt]:
        self._check_open()
        if epoch is not None and self._has_newer_owner(asset_uuid, epoch):
            return []  # tombstones and places have no epochs
        place: dict[str, object] = {
            "asset_uuid": asset_uuid,
            "uns_id": None,
            "uns_levels": None,
            "updated_at": time.time_ns() // 1_000_000,
        }
        event = deregistration_event(asset_uuid)
        written = self.publish(event if epoch is None else owned(event, epoch))
        receipts = [written, self._publish_place(asset_uuid, place)]
        if self._rows.wait_until_deletable(asset_uuid, written, self._partitions, self._partition_of(asset_uuid)):
            tombstones = self._topics.tombstones.values()
            receipts += [self._delivery.publish(topic, asset_uuid, None) for topic in tombstones]
        return receipts

    # Reading the log

    def _history(self, query: HistoryQuery) -> list[AssetEvent]:
        if query.is_of_all_commands:  # commands come from programs of OpenFactory, and a start must not take long
            return self._newest_in([self._partition_of(query.asset_uuid)], query)
        likely = self._places_of([query.asset_uuid])
        return self._newest_in(likely, query) or self._newest_in(
            [partition for partition in self._partitions if partition not in likely], query
        )

    def _newest_in(self, partitions: list[Partition], query: HistoryQuery) -> list[AssetEvent]:
        """Return the newest events of a query in some partitions, in the order of the times of their records."""
        oldest = self._oldest(query)
        starts = self._reader.offsets_at(partitions, oldest) if oldest is not None else {}
        ends = self._ends(partitions)
        found = [
            deque(
                (
                    (milliseconds, event)
                    for _, milliseconds, event in self._read(
                        partition, starts.get(partition, self._positions.base), ends[partition], query.asset_uuid
                    )
                    if query.matches(event)
                ),
                query.limit,
            )
            for partition in partitions
        ]
        return in_order_of_time(found)[-query.limit :]

    def _oldest(self, query: HistoryQuery) -> float | None:
        """Return the time before which the log has no event of a query, in seconds since 1970, or None."""
        since = query.period.since
        return None if since is None else since / 1e9 - _CLOCKS_DIFFER_SECONDS

    def subscribe(
        self,
        asset_uuid: str | None,
        on_event: OnEvent,
        on_gap: OnGap | None = None,
        from_position: int | None = None,
    ) -> Subscription:
        self._check_open()
        partitions = self._follow(asset_uuid)
        feed = self._started_feed()
        wanted = None if asset_uuid is None else [asset_uuid]
        ends = self._ends(partitions) if from_position is None else {}
        if from_position is not None and asset_uuid is not None:
            from_position = self._in_each_partition(asset_uuid, from_position)
        with self._delivering():
            if from_position is None:
                from_position = self._position(
                    {partition: max(end, feed.positions.get(partition, end)) for partition, end in ends.items()}, wanted
                )
            subscription = self._dispatcher.add(asset_uuid, on_event, on_gap, from_position)
            try:
                for partition in partitions:
                    self._catch_up(subscription, partition, from_position, feed.positions.get(partition, 0))
            except BaseException:
                subscription.close()
                raise
        if asset_uuid is None:
            self.liveness.read_claims()
        return subscription

    @abstractmethod
    def _follow(self, asset_uuid: str | None) -> list[Partition]:
        """Have the feed deliver the events of an asset, or of all with None, and return their partitions."""

    def _follow_partitions(self, partitions: Collection[Partition]) -> None:
        """Have the feed follow some partitions, those that it does not follow yet from their present ends."""
        feed, followed = self._started_feed(), False
        while not followed:
            with self._dispatcher.lock:
                log = self._positions.log
                missing = [partition for partition in partitions if partition not in feed.positions]
            ends = self._reader.ends(missing)
            with self._dispatcher.lock:
                followed = log == self._positions.log
                if followed:
                    feed.follow(ends)
                    self._side.start()

    @contextmanager
    def _delivering(self) -> Generator[None]:
        """Own the dispatcher's lock while this thread delivers events, so that it waits for no others."""
        with self._dispatcher.lock:
            outer, self._catching_up = self._catching_up, threading.get_ident()
            try:
                yield
            finally:
                self._catching_up = outer

    def _expects_own(self) -> bool:
        """Return whether the feed may read records that this process has written."""
        return self._delivery.echoes.may_come(are_queued=self._delivery.queued > 0)

    def _pass_own(self, partition: Partition, offset: int, messages: Sequence[Message]) -> int:
        """Pass the first records of a run, as far as this process has written them and its subscriptions know them.

        The caller owns the dispatcher's lock.

        Args:
            offset: the offset of the first record, from the base of the log.
            messages: consecutive records of the partition.

        Returns:
            the number of records that are passed.
        """
        if not self._may_pass(partition):
            return 0
        echoes = self._delivery.echoes
        writes = echoes.run_at(partition, offset + 1, messages)
        passed = writes[: self._dispatcher.pass_known(writes, partition.number)]
        if passed:
            self._apply_passed(partition, offset, passed)
            self._note_last(partition, messages[len(passed) - 1])
        return len(passed)

    def _is_behind(self, partition: Partition, offset: int) -> bool:
        """Return whether many records from an offset on could be passed by `_pass_reported`."""
        write = self._delivery.echoes.first_of_many(partition, offset + 1)
        if write is None or not self._may_leave_unread(partition):
            return False
        with self._dispatcher.lock:
            return self._dispatcher.is_known(write)

    def _pass_reported(self, partition: Partition, offset: int) -> int | None:
        """Pass the next records of a partition, as far as delivery reports show that this process has written them.

        The caller owns the dispatcher's lock.

        Args:
            offset: the offset of the next record, from the base of the log.

        Returns:
            the number of records that are passed, or None if the next one may have to be read.
        """
        if not self._may_leave_unread(partition):
            return None
        echoes = self._delivery.echoes
        writes = echoes.reported_from(partition, offset + 1)
        passed = writes[: self._dispatcher.pass_known(writes, partition.number)]
        if passed:
            self._apply_passed(partition, offset, passed)
        return len(passed) if passed or not echoes.has_reports(partition) else None

    def _apply_passed(self, partition: Partition, offset: int, writes: Sequence[Receipt]) -> None:
        """Apply the last event of each attribute among consecutive own writes, and forget the writes."""
        last = {(event.asset_uuid, event.id): write for write in writes if (event := write.event) is not None}
        for write in sorted(last.values(), key=attrgetter("position")):
            event, position = write.event, write.position
            assert event is not None
            assert position is not None
            if self._interest.wants(partition, key_of_asset(event.asset_uuid)):
                self._apply_known(event.with_position(position))
        self._delivery.echoes.forget(partition, offset + 1, len(writes))

    def _may_pass(self, partition: Partition) -> bool:
        """Return whether echoes in a partition may be passed. The caller owns the dispatcher's lock."""
        return partition.topic == self._topics.assets

    def _may_leave_unread(self, partition: Partition) -> bool:
        """Return whether echoes in a partition may be passed without their records."""
        return self._may_pass(partition)

    def _apply_known(self, event: AssetEvent) -> None:
        """Apply an event of this process that no subscription has to receive."""
        self._newest[event.asset_uuid] = event.position or 0

    def _note_last(self, partition: Partition, message: Message) -> None:
        """Note the last record of a partition that was applied."""

    def _let_go(self) -> None:
        """Drop the assets that this process has not needed for a while; the feed calls it again and again."""
        if time.monotonic() < self._let_go_at:
            return
        self._let_go_at = time.monotonic() + _LET_GO_SECONDS
        with self._dispatcher.lock:
            if not self._may_let_go() or not self._interest.let_go(self._dispatcher.assets(), self._topics.assets):
                return
            self._on_let_go()
            kept = self._interest.partitions()
            feed = self._started_feed()
            feed.unfollow([partition for partition in feed.positions if partition not in kept])
            feed.change()
            if not self._interest.everything:
                for asset_uuid in self._newest.keys() - self._interest.assets.keys():
                    del self._newest[asset_uuid]

    def _may_let_go(self) -> bool:
        """Return whether the state can be changed now. The caller owns the dispatcher's lock."""
        return True

    def _on_let_go(self) -> None:
        """Drop the state of the assets that the interest has let go. The caller owns the dispatcher's lock."""

    @abstractmethod
    def _started_feed(self) -> LogFeed:
        """Return the feed that follows the log; start it at the first call."""

    def _catch_up(self, subscription: Subscription, partition: Partition, start: int, passed: int) -> None:
        """Deliver the events before the position of the feed to a new subscription.

        The caller owns the dispatcher's lock.

        Args:
            subscription: the new subscription.
            partition: the partition to read.
            start: position after which the subscription receives events.
            passed: offset up to which the feed has delivered the partition.
        """
        first = start.partitions.get(partition.number, passed) if isinstance(start, LogPosition) else int(start)
        if first >= passed:
            return
        asset_uuid = subscription.asset_uuid
        if asset_uuid is not None and not self._may_have(asset_uuid, partition, first):
            return
        for place, _, event in self._read(partition, first, passed, asset_uuid):
            self._dispatcher.call(subscription, event, partition.number, place)

    def _may_have(self, asset_uuid: str, partition: Partition, first: int) -> bool:
        """Return whether a partition may have events of an asset between an offset and the position of the feed."""
        if partition == self._partition_of(asset_uuid):
            return not 0 < self._newest.get(asset_uuid, 0) <= first
        since = self._interest.since(asset_uuid, partition)
        return since is None or first < since or partition in self._positions.strays.get(asset_uuid, ())

    def _read(
        self, partition: Partition, start: int, end: int, asset_uuid: str | None
    ) -> Iterator[tuple[int, int, AssetEvent]]:
        """Yield the events between two offsets, of one asset or of all with None; deregistrations are left out.

        Each event comes with its place in the partition, which is its position if the partition is that of its asset,
        and with the time of its record in milliseconds since 1970.
        """
        keys = None if asset_uuid is None else (key_of_asset(asset_uuid),)
        for offset, message in self._reader.read(partition, start, end, keys):
            event = self._records.event_of(message, partition, offset)
            if event is not None and not is_deregistration(event):
                yield offset + 1, message.timestamp()[1], event

    # A log that takes the place of another

    def _on_identity(self, identity: Identity) -> None:
        """Read the log anew, because topics were made anew or have other partitions."""
        changes = [
            f"{topic} {_difference(self._identity[topic], now)}"
            for topic, now in identity.items()
            if topic in self._identity and self._identity[topic] != now
        ]
        self._read_anew(identity, " and ".join(changes))

    def _on_rewritten(self, partition: Partition) -> None:
        """Read the log anew, because a partition ends before the position, or has other records before it."""
        log = self._positions.log
        self._watch.look(_LOOK_SECONDS)
        if log == self._positions.log:  # else the topic was made anew, and the look has found it
            self._read_anew(self._identity, f"{partition.topic} has lost records that were read")

    def _read_anew(self, identity: Identity, reason: str) -> None:
        """Take the log for another one, whose positions are all higher, and read it from its start.

        Raises:
            EngineUnavailableError: the broker does not answer; the present log is kept.
        """
        with self._replacing:
            base, counts = self._positions.base, {topic: known.partitions for topic, known in identity.items()}
            partitions = [Partition(topic, number) for topic, count in counts.items() for number in range(count)]
            self._reader.cluster()  # otherwise the reader does not know new partitions for minutes
            ends = self._reader.ends(partitions)
            with self._dispatcher.lock:
                if self._closed:
                    return
                self._identity = identity
                self._delivery.take_reports()  # their offsets are those of the former log
                self._positions.begin_log(counts)
                self._partitions = self._partitions_of(self._topics.assets)
                self._map_partitions = self._partitions_of(self._topics.uns_map)
                self._delivery.begin_log()
                self._newest.clear()
                moved = self._positions.base - base
                self._known_ends = {partition: end + moved for partition, end in ends.items()}
                self._begin_log()
        _logger.warning(
            "%s. The log is read anew, and nothing of the former log counts any more: an attribute that the new log "
            "lacks reads as UNAVAILABLE. Restart the apps whose registrations are missing.",
            reason,
        )

    @abstractmethod
    def _begin_log(self) -> None:
        """Discard the state of the former log, and follow the new one from its present end, which is `_known_ends`.

        The caller owns the dispatcher's lock.
        """

    def _notify_gaps(self, partition: Partition | None = None) -> None:
        """Notify the subscriptions to assets in a partition of a gap, or all. The caller owns the dispatcher's lock."""
        for subscription in list(self._dispatcher.subscriptions()):
            asset_uuid = subscription.asset_uuid
            if partition is None or asset_uuid is None or partition in self._places_of([asset_uuid]):
                self._dispatcher.notify_gap(subscription)

    # Positions

    def _partitions_of(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in range(self._positions.counts.get(topic, 0))]

    def _passed(self, partition: Partition) -> int:
        """Return the offset up to which a partition was read."""
        return self._known_ends.get(partition, 0)

    def _partition_of(self, asset_uuid: str) -> Partition:
        return self._partitions[partition_of(asset_uuid, len(self._partitions))]

    def _places_of(self, asset_uuids: Collection[str] | None) -> list[Partition]:
        """Return the partitions in which the events of some assets may be; all partitions for None or no assets.

        They are those that OpenFactory and librdkafka choose, and those in which this process has seen the assets. An
        asset that is nowhere in them may be in any other, if its writer has a partitioner of its own.
        """
        if not asset_uuids or len(self._partitions) == 1:
            return self._partitions
        topic = self._topics.assets
        return list(
            dict.fromkeys(place for uuid in asset_uuids for place in self._positions.partitions_of(uuid, topic))
        )

    def _expected_of(self, asset_uuid: str) -> list[Partition]:
        """Return the partitions in which an asset's records are expected, among those in which they are looked for."""
        return self._positions.expected_of(asset_uuid, self._topics.assets)

    def _in_each_partition(self, asset_uuid: str, position: int) -> int:
        """Return a position of an asset with the place of the same time in each partition that may have its events."""
        if len(self._partitions) == 1 or isinstance(position, LogPosition):
            return position
        own, *others = self._places_of([asset_uuid])
        starts = dict.fromkeys(others, self._positions.base)
        for _, message in self._reader.read(own, position - 1, position):
            starts = self._reader.offsets_at(others, message.timestamp()[1] / 1_000)
        return LogPosition.of({place.number: start for place, start in {own: position, **starts}.items()}, position)

    def _ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the end of each partition; during an outage, the last known end.

        Raises:
            EngineUnavailableError: no broker answers, and no end is known or `_can_answer_offline` is false.
        """
        partitions = list(partitions)
        try:
            ends = self._reader.ends(partitions)
            if any(end < self._known_ends.get(partition, 0) for partition, end in ends.items()) and self._may_wait():
                self._watch.look(_LOOK_SECONDS)  # the log may be another one
                ends = self._reader.ends(partitions)
            self._known_ends.update(ends)
        except EngineUnavailableError:
            if not self._can_answer_offline() or not self._known_ends.keys() >= set(partitions):
                raise
        # A broker that has just become leader may report an end before the events that this process has written.
        return {
            partition: max(self._known_ends[partition], self._delivery.furthest.get(partition, 0))
            for partition in partitions
        }

    def _may_wait(self) -> bool:
        """Return whether this thread may wait for the feed and the watch: it does not deliver events for them."""
        return self._catching_up != threading.get_ident()

    def _can_answer_offline(self) -> bool:
        """Return whether the engine can answer reads while no broker can be reached."""
        return False

    def _position(self, offsets: Mapping[Partition, int], asset_uuids: Collection[str] | None = None) -> int:
        """Return the offsets of all partitions as one position, for some assets or for all."""
        if len(self._partitions) == 1:
            return next(iter(offsets.values()))
        own = [offsets[self._partition_of(asset_uuid)] for asset_uuid in asset_uuids or ()]
        places = {partition.number: offset for partition, offset in offsets.items()}
        return LogPosition.of(places, max(own, default=None))

    # Owners

    def _last_events(self, asset_uuids: Collection[str]) -> Mapping[str, list[AssetEvent]]:
        return self.snapshot(asset_uuids).events

    def _has_newer_owner(self, asset_uuid: str, epoch: int) -> bool:
        """Return whether another process is known to have claimed an asset after a claim; do not wait long for it."""
        snapshot = call_on_thread("openfactory-owner", self.snapshot, [asset_uuid])
        try:
            owner = snapshot.result(_OWNER_SECONDS).owners().get(asset_uuid)
        except (TimeoutError, OpenFactoryError):
            return False
        return owner is not None and owner.epoch > epoch

    def _claims(self) -> list[AssetEvent]:
        """Return the claims that the engine knows of the watched assets; others are noted when they are read."""
        return []

    # State of the engine

    def _health(self) -> EngineHealth:
        trouble = self._connection.outage.reason or self._trouble()
        counters = self._delivery.counters | self._dispatcher.counters | self.liveness.counters | self._reading()
        counters["unreadable"] = self._records.unreadable
        return EngineHealth(not trouble, trouble, self._delivery.queued, counters)

    def _reading(self) -> dict[str, int]:
        """Return how much of the log this process reads."""
        counters, feed = dict(self._reader.counters), self._feed
        for name, count in feed.counters.items() if feed is not None else ():
            counters[name] += count
        return {
            "records_read": counters["read"],
            "records_skipped": counters["skipped"],
            "partitions_followed": 0 if feed is None else feed.followed,
        }

    def _trouble(self) -> str:
        """Return the reason why the engine does not work although the broker answers, or an empty text."""
        return ""

    def _end_writing(self, timeout: float) -> None:
        self._delivery.close(timeout)

    def _end_reading(self, timeout: float) -> None:
        self.liveness.close()
        self._watch.close()
        self._side.close(0.5)
        self._stop_following(timeout)
        self._dispatcher.clear()
        self._reader.close()
        self._delivery.join()  # last: the threads for writing and for reading end at the same time

    @abstractmethod
    def _stop_following(self, timeout: float) -> None:
        """Stop following the log and release the state."""

    def _publish_place(self, asset_uuid: str, place: dict[str, object]) -> Receipt:
        return self._delivery.publish(self._topics.uns_map, asset_uuid.encode(), msgspec.json.encode(place))


def _difference(known: TopicIdentity, now: TopicIdentity) -> str:
    if known.id != now.id:
        return "was deleted and made anew"
    return f"has {now.partitions} partitions now and not {known.partitions}, so assets have moved to other partitions"


def in_order_of_time(parts: Iterable[Iterable[tuple[int, AssetEvent]]]) -> list[AssetEvent]:
    """Return the events of several partitions by the times of their records; each partition keeps its own order."""
    return [event for _, event in heapq.merge(*parts, key=itemgetter(0))]
