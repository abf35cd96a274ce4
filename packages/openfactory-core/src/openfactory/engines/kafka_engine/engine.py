"""The engine for Kafka without ksqlDB, which computes the state of all assets from the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.base import Servers, Snapshot
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.delivery import Delivery
from openfactory.engines.kafka_engine.fold import Fold, is_deregistration
from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.engines.kafka_engine.log_engine import LogEngine, TopicNames
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import Cluster, LogReader
from openfactory.engines.kafka_engine.log_watch import Identity, LogWatch
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.recent_commands import MAX_COMMANDS
from openfactory.engines.kafka_engine.tables import FoldedState, FoldedTables, RecordMark
from openfactory.engines.kafka_engine.topics import (
    ASSETS_AVAIL_TOPIC,
    ASSETS_TYPES_TOPIC,
    DOCKER_SERVICES_TOPIC,
    NEEDED_TOPICS,
    TOPICS,
    create_topics,
)
from openfactory.engines.shared import HistoryQuery
from openfactory.engines.tables import TABLES
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.ownership import OWNER_ID
from openfactory.events.receipt import Receipt
from openfactory.logs.outage import Outage
from openfactory.logs.waiting import Waiting
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["KafkaEngine"]

_logger = logging.getLogger("openfactory.engines")

# Seconds without a new record after which a wait for the log ends.
_STALL_SECONDS = 10.0

# Seconds between two updates of the state file.
_SAVE_SECONDS = 5.0

# By table of ksqlDB, the topic whose tombstones it reads.
_TOMBSTONES = {
    "assets_type": ASSETS_TYPES_TOPIC,
    "assets_avail": ASSETS_AVAIL_TOPIC,
    "docker_services": DOCKER_SERVICES_TOPIC,
}


class KafkaEngine(LogEngine):
    """Engine for `kafka://host:9092`, which needs no other server than Kafka.

    Options in the URL: `state=/path/factory-state.db` (a file that lets the next start read only new records),
    `prefix=plant2_` (the beginning of all topic names), `linger_ms=N` (milliseconds that a message waits for others).

    The engine does not know an attribute whose last event is older than the retention of the topic. It creates the
    topics that are missing.

    Args:
        url: a `kafka://` URL.
        servers: credentials; the broker is the one in the URL.

    Raises:
        ConfigurationError: the URL is not valid.
        EngineUnavailableError: no broker answers, or the state file cannot be used.
    """

    def __init__(self, url: str, servers: Servers = Servers()) -> None:  # noqa: B008 - immutable
        location = KafkaLocation.of(url)
        if servers.bootstrap_servers and servers.bootstrap_servers != location.bootstrap_servers:
            _logger.info("The broker is the one in %s; %s is not used.", redacted(url), servers.bootstrap_servers)
        connection = BrokerConnection(location.bootstrap_servers, servers.resolve(url).credentials)
        with Waiting(_logger, f"Opening {redacted(url)}", "the list of topics") as waiting, ExitStack() as opened:
            # All clients exist before the first answer, so that they connect at the same time.
            reader = LogReader(connection)
            opened.callback(reader.close)
            feed = LogFeed(
                connection,
                reader,
                lambda: self._dispatcher.lock,
                self._apply,
                self._notify_gaps,
                self._on_rewritten,
                self._on_idle,
            )
            opened.callback(feed.close, 0)  # its thread ends with its request
            assets, uns_map = (location.prefix + name for name in NEEDED_TOPICS)
            feed.connect(assets, uns_map)
            delivery = Delivery(connection, location.linger_ms)
            opened.callback(delivery.abandon)
            watch = LogWatch(connection, (assets, uns_map))
            opened.callback(watch.close)
            cluster, identity, bounds = _found_log(connection, reader, watch, location.prefix)
            tables = FoldedTables(location.state, _mark_of(cluster, identity))
            opened.pop_all()  # from here on, `close` closes them
            tombstones = {table: location.prefix + topic for table, topic in _TOMBSTONES.items()}
            tombstones = {table: topic for table, topic in tombstones.items() if topic in cluster.topics}
            topics = TopicNames(assets, uns_map, tombstones)
            super().__init__(url, connection, reader, topics, watch, identity, delivery)
            self._cluster = cluster
            self._fold = Fold()
            self._feed = feed
            self._tables = tables
            self._saved_at = time.monotonic()
            self._replay: dict[Partition, int] = {}  # the ends up to which the log is read before events are delivered
            self._applied: dict[Partition, Message] = {}  # the last record of each partition, for the state file
            self._strays: dict[tuple[str, ...], tuple[int, AssetEvent]] = {}  # of a replay, each with its time
            self._times: dict[tuple[str, str], int] = {}  # of a replay, the time of the last event of each attribute
            self._expected: Mapping[Partition, RecordMark] = {}  # the record at each position of the state file
            self._held_back = Outage(
                _logger, meanwhile="Answers lack these events.", over="The log can be read up to its end again."
            )
            waiting.step = f"the records of {assets}"
            try:
                self._read_state(bounds)
            except BaseException:
                self.close()
                raise
            watch.start(identity, self._on_identity)

    @classmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: ARG003, B008 - the URL names the broker
        return KafkaLocation.of(url).place

    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        self._check_open()
        wanted = None if asset_uuids is None else list(asset_uuids)
        self._wait_for_feed(lambda: self._places_of(wanted))
        with self._dispatcher.lock:
            positions = {partition: self._feed.positions[partition] for partition in self._partitions}
            return Snapshot(self._fold.events(wanted), self._position(positions, wanted), self._positions.log)

    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._synchronised().pairs("assets_type", "type", asset_uuids)

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._synchronised().pairs("assets_avail", "availability", asset_uuids)

    def uns_map(self) -> dict[str, str]:
        return self._synchronised().places()

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        return self._synchronised().select(sql, parameters)

    def tables(self) -> list[str]:
        self._check_open()
        return list(TABLES)

    def _history(self, query: HistoryQuery) -> list[AssetEvent]:
        if query.tag is not None and query.is_of_all_commands:
            self._wait_for_feed(lambda: [self._partition_of(query.asset_uuid)])
            with self._dispatcher.lock:
                commands = self._fold.commands.get((query.asset_uuid, query.tag))
                if commands is None:
                    return []
                if query.limit <= len(commands) or len(commands) < MAX_COMMANDS:
                    return commands.newest(query.limit)
        return super()._history(query)

    # State

    def _claims(self) -> list[AssetEvent]:
        with self._dispatcher.lock:
            watched = self._dispatcher.assets()
            assets = self._fold.assets if watched is None else [uuid for uuid in watched if uuid in self._fold.assets]
            claims = (self._fold.assets[asset_uuid].get(OWNER_ID) for asset_uuid in assets)
            return [claim for claim in claims if claim is not None]

    def _started_feed(self) -> LogFeed:
        return self._feed

    def _can_answer_offline(self) -> bool:
        return True

    def _read_state(self, bounds: Mapping[Partition, tuple[int, int]]) -> None:
        """Load the state file, start the feed after it, and wait until the feed has reached the end of the log."""
        state = self._tables.load(self._fold)
        ends = {partition: high for partition, (_, high) in bounds.items()}
        self._lows = {partition: low for partition, (low, _) in bounds.items()}
        self._known_ends.update(ends)
        if any(state.offsets.get(partition, 0) > end for partition, end in ends.items()):
            self._discard_state("ends before the offsets in the state file")
            state = FoldedState()
        self._newest.update(
            (asset_uuid, max(event.position or 0 for event in attributes.values()))
            for asset_uuid, attributes in self._fold.assets.items()
        )
        self._expected, self._replay = dict(state.marks), ends
        self._feed.start({partition: max(state.start_of(partition), low) for partition, low in self._lows.items()})
        if not self._feed.wait_for(self._known_ends, self._known_ends, _STALL_SECONDS):
            raise self._connection.unavailable(f"it sent no records of the log for {_STALL_SECONDS:g} s")
        with self._dispatcher.lock:
            self._end_replay()
            if state.offsets != self._feed.positions:
                self._save()

    def _discard_state(self, reason: str) -> None:
        _logger.warning("The log %s. It is read from its start instead.", reason)
        self._begin_log(self._lows)

    def _begin_log(self, starts: dict[Partition, int]) -> None:
        self._tables.begin(_mark_of(self._cluster, self._identity))
        self._fold, self._expected, self._replay = Fold(), {}, dict(self._known_ends)
        self._applied.clear()
        self._strays.clear()
        self._times.clear()
        self._feed.restart(starts)

    def _on_idle(self) -> None:
        if self._replay and self._feed.has_passed(self._replay):
            with self._dispatcher.lock:
                if self._feed.has_passed(self._replay):
                    self._end_replay()
        self._save_periodically()

    def _end_replay(self) -> None:
        """Deliver events from now on, and tell the subscriptions that they were not delivered before."""
        if not self._replay:
            return
        for milliseconds, event in sorted(self._strays.values(), key=lambda stray: stray[0]):
            if self._times.get((event.asset_uuid, event.id), 0) <= milliseconds:
                self._apply_event(event.with_position(self._passed(self._partition_of(event.asset_uuid))))
        self._replay = {}
        self._strays.clear()
        self._times.clear()
        self._notify_gaps()

    def _apply(self, partition: Partition, offset: int, message: Message) -> None:
        """Apply a record to the state, and deliver its event to the subscriptions."""
        if self._tables.owns_file:
            self._applied[partition] = message
        if self._replay and (mark := self._expected.get(partition)) is not None and offset == mark.offset:
            if mark != RecordMark.of(message):
                self._discard_state("has other records now than the state file has read")
            return
        if partition.topic != self._topics.assets:
            place = self._records.place_of(message, partition, offset)
            if place is not None:
                self._fold.apply_place(*place)
            return
        if not self._replay and (write := self._delivery.echoes.written_at(partition, offset + 1, message)) is not None:
            self._apply_echo(write, partition, offset + 1)
            return
        event = self._records.event_of(message, partition, offset)
        if event is None:
            return
        if not self._replay:
            if self._apply_event(event):
                self._dispatcher.deliver(event, partition.number, offset + 1)
        elif len(self._partitions) == 1 or self._is_in_order(event, partition, message.timestamp()[1]):
            self._apply_event(event)

    def _apply_echo(self, write: Receipt, partition: Partition, position: int) -> None:
        """Apply a record that this process has written, without decoding it."""
        assert write.event is not None
        event = write.event.with_position(position)
        self._newest[event.asset_uuid] = position
        self._fold.apply(event)
        self._dispatcher.deliver_echo(event, write, partition.number)

    def _apply_event(self, event: AssetEvent) -> bool:
        """Apply an event to the state, and return whether subscriptions receive it."""
        self._newest[event.asset_uuid] = event.position or 0
        if not self._fold.counts(event):
            return False
        if is_deregistration(event):
            self._fold.deregister(event)
            return False
        self._fold.apply(event)
        return True

    def _is_in_order(self, event: AssetEvent, partition: Partition, milliseconds: int) -> bool:
        """Return whether an event of a replay can be applied now, and not at the end of the replay.

        A replay reads partitions in any order. So a stray waits until the end, where the times of the records decide
        whether it is newer than the last event of its attribute.
        """
        key = (event.asset_uuid, event.id)
        if not self._positions.is_stray(event.asset_uuid, partition):
            self._times[key] = milliseconds
            return True
        is_command = event.tag in (COMMAND_TAG, REPLY_TAG)  # each of them counts, not only the last
        stray = (*key, event.timestamp) if is_command else key
        if stray not in self._strays or self._strays[stray][0] <= milliseconds:
            self._strays[stray] = (milliseconds, event)
        return False

    def _passed(self, partition: Partition) -> int:
        return self._feed.positions.get(partition, 0)

    def _wait_for_feed(self, partitions: Callable[[], Collection[Partition]]) -> None:
        """Wait until all events acknowledged before are in the state; during an outage, keep the present state.

        Args:
            partitions: returns the partitions of the events; it is called again for another log.
        """
        if not self._may_wait():
            return  # called by the callback of a subscription, for which the feed itself waits
        log, has_passed = -1, False
        while log != self._positions.log:
            log = self._positions.log
            has_passed = self._feed.wait_for(self._ends(partitions()), self._known_ends, _STALL_SECONDS)
        if has_passed:
            self._held_back.end()
        elif self._connection.outage.reason:
            pass  # which is logged
        elif self._feed.is_held_back():
            self._held_back.begin(
                "A transaction of another program is open, so events behind its begin cannot be read. "
                "End that program, or wait until the broker ends the transaction (transaction.timeout.ms)."
            )
        else:
            _logger.warning("No new records arrived for %g s. The answer may lack the newest events.", _STALL_SECONDS)

    def _may_wait(self) -> bool:
        return super()._may_wait() and not self._feed.is_current()

    def _synchronised(self) -> FoldedTables:
        """Return the tables with all events acknowledged before."""
        self._check_open()
        self._wait_for_feed(lambda: [*self._partitions, *self._map_partitions])
        with self._dispatcher.lock:
            if self._fold.changed or self._fold.changed_registrations:
                self._save()
        return self._tables

    def _save(self) -> None:
        with self._dispatcher.lock:
            marks = {partition: RecordMark.of(message) for partition, message in self._applied.items()}
            self._tables.save(self._fold, self._feed.positions, marks, self._positions.base)
        self._saved_at = time.monotonic()

    def _save_periodically(self) -> None:
        if self._tables.owns_file and time.monotonic() >= self._saved_at + _SAVE_SECONDS and self._fold.changed:
            self._save()

    def _stop_following(self, timeout: float) -> None:
        self._feed.close(timeout)
        if self._tables.owns_file and self._feed.positions:
            self._save()
        self._tables.close()


def _mark_of(cluster: Cluster, identity: Identity) -> str:
    """Return the identity of a log as one text, for a state file."""
    return " ".join([cluster.id, *(f"{topic}={known.id}/{known.partitions}" for topic, known in identity.items())])


def _found_log(
    connection: BrokerConnection, reader: LogReader, watch: LogWatch, prefix: str
) -> tuple[Cluster, Identity, dict[Partition, tuple[int, int]]]:
    """Create the needed topics that do not exist, and return the cluster, their identity, and their bounds."""
    topics = {prefix + name for name in NEEDED_TOPICS}
    question = watch.ask()  # answered while the reader connects, and finds the bounds
    cluster = _ensure_topics(connection, reader, prefix)
    partitions = [Partition(topic, number) for topic in sorted(topics) for number in range(cluster.topics[topic])]
    bounds = call_on_thread("openfactory-bounds", reader.bounds, partitions)
    identity = watch.answer(question) or {}
    deadline = time.monotonic() + _STALL_SECONDS
    while identity.keys() < topics:  # they were created a moment ago
        if time.monotonic() >= deadline:
            raise connection.unavailable(f"it does not describe the topics {', '.join(topics - identity.keys())}")
        identity = watch.answer(watch.ask()) or {}
    found = bounds.result()
    if any(known.partitions != cluster.topics[topic] for topic, known in identity.items()):  # it has more by now
        found = reader.bounds(Partition(topic, n) for topic, known in identity.items() for n in range(known.partitions))
    return cluster, dict(sorted(identity.items())), found


def _ensure_topics(connection: BrokerConnection, reader: LogReader, prefix: str) -> Cluster:
    """Create the needed topics that do not exist, and return the cluster with all its topics."""
    cluster = reader.cluster()
    needed = {prefix + name for name in NEEDED_TOPICS}
    missing = [topic for topic in TOPICS if topic.name in NEEDED_TOPICS and prefix + topic.name not in cluster.topics]
    if not missing:
        return cluster
    existing = [count for name, count in cluster.topics.items() if name in needed]
    create_topics(connection.configuration(), missing, prefix=prefix, partitions=max(existing, default=1))
    names = ", ".join(prefix + topic.name for topic in missing)
    _logger.info("Created the topics %s. Use `ofa setup-kafka` to choose their partitions and retention.", names)
    deadline = time.monotonic() + _STALL_SECONDS
    while not needed <= cluster.topics.keys():
        if time.monotonic() >= deadline:
            raise connection.unavailable(f"it does not show the new topics {names}")
        time.sleep(0.05)
        cluster = reader.cluster()
    return cluster
