"""The engine for Kafka without ksqlDB, which computes the state of all assets from the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.base import EngineHealth, Servers, Snapshot
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.delivery import Delivery
from openfactory.engines.kafka_engine.fold import Fold
from openfactory.engines.kafka_engine.followed_fold import FollowedFold
from openfactory.engines.kafka_engine.keeper_lag import KeeperLag
from openfactory.engines.kafka_engine.kept_state import KeptState
from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.engines.kafka_engine.log_engine import LogEngine, TopicNames
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import Cluster, LogReader
from openfactory.engines.kafka_engine.log_watch import Identity, LogWatch
from openfactory.engines.kafka_engine.past_state import PastState
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.recent_commands import MAX_COMMANDS
from openfactory.engines.kafka_engine.record_mark import RecordMark
from openfactory.engines.kafka_engine.replay import Replay
from openfactory.engines.kafka_engine.state_records import log_of
from openfactory.engines.kafka_engine.tables import FoldedState, FoldedTables
from openfactory.engines.kafka_engine.topics import (
    ASSETS_AVAIL_TOPIC,
    ASSETS_STATE_TOPIC,
    ASSETS_TYPES_TOPIC,
    DOCKER_SERVICES_TOPIC,
    NEEDED_TOPICS,
    TOPICS,
    create_topics,
)
from openfactory.engines.shared import HistoryQuery
from openfactory.engines.tables import TABLES
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import OWNER_ID
from openfactory.events.receipt import Receipt
from openfactory.exceptions import EngineUnavailableError
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

# Number of records that a state file may be behind the log; a state keeper's topic is read instead of more.
_MANY_RECORDS = 100_000

# By table of ksqlDB, the topic whose tombstones it reads.
_TOMBSTONES = {
    "assets_type": ASSETS_TYPES_TOPIC,
    "assets_avail": ASSETS_AVAIL_TOPIC,
    "docker_services": DOCKER_SERVICES_TOPIC,
}


class KafkaEngine(LogEngine):
    """Engine for `kafka://host:9092`, which needs no other server than Kafka.

    If a state keeper runs, a start reads the last event of each attribute from its topic, and the log from there.

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
                lambda: self._interest,
                self._on_restart,
                self._on_idle,
                expects_own=self._expects_own,
                on_run=self._pass_own,
                on_reported=self._pass_reported,
                is_behind=self._is_behind,
            )
            opened.callback(feed.close, 0)  # its thread ends with its request
            assets, uns_map = (location.prefix + name for name in NEEDED_TOPICS)
            feed.connect(assets, uns_map)
            delivery = Delivery(connection, location.linger_ms)
            opened.callback(delivery.abandon)
            watch = LogWatch(connection, (assets, uns_map))
            opened.callback(watch.close)
            cluster, identity, ends = _found_log(connection, reader, watch, location.prefix)
            tables = FoldedTables(location.state, _mark_of(cluster, identity))
            opened.pop_all()  # from here on, `close` closes them
            tombstones = {table: location.prefix + topic for table, topic in _TOMBSTONES.items()}
            tombstones = {table: topic for table, topic in tombstones.items() if topic in cluster.topics}
            topics = TopicNames(assets, uns_map, tombstones)
            super().__init__(url, connection, reader, topics, watch, identity, delivery)
            self._cluster = cluster
            self._feed: LogFeed = feed
            self._tables = tables
            self._saved_at = time.monotonic()
            self._marks: dict[Partition, RecordMark] = {}  # the last record of each partition in the state file
            self._applied: dict[Partition, Message] = {}  # the last record since then
            state_topic = location.prefix + ASSETS_STATE_TOPIC
            kept_partitions = cluster.topics.get(state_topic, 0)
            self._kept = KeptState(reader, self._positions, state_topic, kept_partitions, log_of(identity[assets]))
            self._keeper_lag = KeeperLag(self._kept, lambda: self._partitions)
            past = PastState(reader, self._records, self._positions, assets, self._kept)
            self._state = FollowedFold(self, self._dispatcher.lock, feed, past)
            self._held_back = Outage(
                _logger, meanwhile="Answers lack these events.", over="The log can be read up to its end again."
            )
            self._known_ends.update(ends)
            waiting.step = f"the records of {assets}"
            try:
                if location.state is None:
                    feed.start({})
                else:
                    self._begin_with_state_file(past)
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
        with self._brought_up(wanted):
            positions = {place: self._passed(place) for place in self._partitions}
            return Snapshot(self._state.fold.events(wanted), self._position(positions, wanted), self._positions.log)

    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._tables_of(asset_uuids).pairs("assets_type", "type", asset_uuids)

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._tables_of(asset_uuids).pairs("assets_avail", "availability", asset_uuids)

    def uns_map(self) -> dict[str, str]:
        return self._tables_of((), with_places=True).places()

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        return self._tables_of(None, with_places=True).select(sql, parameters)

    def tables(self) -> list[str]:
        self._check_open()
        return list(TABLES)

    def _history(self, query: HistoryQuery) -> list[AssetEvent]:
        if query.tag is not None and query.is_of_all_commands:
            with self._brought_up([query.asset_uuid]):
                commands = self._state.fold.commands.get((query.asset_uuid, query.tag))
                if commands is None:
                    return []
                if query.limit <= len(commands) or len(commands) < MAX_COMMANDS:
                    return commands.newest(query.limit)
        return super()._history(query)

    # State

    def _claims(self) -> list[AssetEvent]:
        with self._dispatcher.lock:
            watched, known = self._dispatcher.assets(), self._state.fold.assets
            assets = known if watched is None else [uuid for uuid in watched if uuid in known]
            claims = (known[asset_uuid].get(OWNER_ID) for asset_uuid in assets)
            return [claim for claim in claims if claim is not None]

    def _started_feed(self) -> LogFeed:
        return self._feed

    def _follow(self, asset_uuid: str | None) -> list[Partition]:
        self._state.ask(None if asset_uuid is None else [asset_uuid])
        return self._places_of(None if asset_uuid is None else [asset_uuid])

    def _can_answer_offline(self) -> bool:
        return True

    def _begin_with_state_file(self, past: PastState) -> None:
        """Load the state file, read the log after it up to its end, and follow the whole log from there."""
        fold = Fold()
        state = self._tables.load(fold)
        if reason := self._difference_from(state):
            _logger.warning("The log %s. It is read from its start instead.", reason)
            self._tables.begin(_mark_of(self._cluster, self._identity))
            fold, state = Fold(), FoldedState()
        elif self._kept.exists and self._records_after(state) >= _MANY_RECORDS:
            self._tables.begin(_mark_of(self._cluster, self._identity))
            fold, state = Fold(), FoldedState()
        self._newest.update(
            (asset_uuid, max(event.position or 0 for event in attributes.values()))
            for asset_uuid, attributes in fold.assets.items()
        )
        ends = dict(self._known_ends)
        self._marks.update(state.marks)
        parts = {partition: (state.offsets.get(partition, 0), end) for partition, end in ends.items()}
        read = past.read(parts, None, Replay(self._positions, fold), on_last=self._note_last)
        with self._dispatcher.lock:
            self._newest.update(read.newest)
            self._state.begin_whole(fold)
            self._feed.start(ends)
            if state.offsets != ends:
                self._save()

    def _difference_from(self, state: FoldedState) -> str:
        """Return the difference between the log and that of a state file, or an empty text if they are the same."""
        if any(state.offsets.get(partition, 0) > end for partition, end in self._known_ends.items()):
            return "ends before the offsets in the state file"
        for partition, mark in state.marks.items():
            if not self._reader.is_continued(partition, state.offsets.get(partition, 0), mark):
                return "has other records now than the state file has read"
        return ""

    def _records_after(self, state: FoldedState) -> int:
        """Return the number of records of the log after a state file, and 0 for a new file."""
        if not state.offsets:
            return 0
        return sum(end - state.offsets.get(partition, 0) for partition, end in self._known_ends.items())

    def _note_last(self, partition: Partition, message: Message) -> None:
        """Note the last record of a partition, by which the next start recognises the log."""
        if self._tables.owns_file:
            self._applied[partition] = message

    def _begin_log(self) -> None:
        self._tables.begin(_mark_of(self._cluster, self._identity))
        self._kept.log = log_of(self._identity[self._topics.assets])
        self._marks.clear()
        self._applied.clear()
        partitions = self._state.begin_log([*self._partitions, *self._map_partitions])
        self._feed.restart({partition: self._known_ends[partition] for partition in partitions})

    def _on_restart(self) -> None:
        if self._state.reload():
            with self._dispatcher.lock:
                self._notify_gaps()

    def _on_idle(self) -> None:
        self._let_go()
        self._save_periodically()

    def _may_let_go(self) -> bool:
        return not self._tables.has_file and self._state.may_let_go()

    def _on_let_go(self) -> None:
        if not self._interest.everything:  # else the state of all is kept
            self._tables.drop(self._state.let_go())

    def _apply(self, partition: Partition, offset: int, message: Message) -> None:
        """Apply a record to the state, and deliver its event to the subscriptions."""
        self._note_last(partition, message)
        if partition.topic != self._topics.assets:
            place = self._records.place_of(message, partition, offset)
            if place is not None:
                self._state.fold.apply_place(*place)
            return
        if not self._state.admits(partition, offset, message):
            return
        if (write := self._delivery.echoes.written_at(partition, offset + 1, message)) is not None:
            self._apply_echo(write, partition, offset + 1)
            return
        event = self._records.event_of(message, partition, offset)
        if event is not None and self._apply_event(event):
            self._dispatcher.deliver(event, partition.number, offset + 1)

    def _may_pass(self, partition: Partition) -> bool:
        return super()._may_pass(partition) and self._state.may_let_go()

    def _may_leave_unread(self, partition: Partition) -> bool:
        return self._may_pass(partition) and not self._tables.owns_file  # which has the mark of the last record

    def _apply_known(self, event: AssetEvent) -> None:
        self._apply_event(event)

    def _apply_echo(self, write: Receipt, partition: Partition, position: int) -> None:
        """Apply a record that this process has written, without decoding it."""
        assert write.event is not None
        event = write.event.with_position(position)
        if self._apply_event(event):
            self._dispatcher.deliver_echo(event, write, partition.number)

    def _apply_event(self, event: AssetEvent) -> bool:
        """Apply an event to the state, and return whether subscriptions receive it."""
        self._newest[event.asset_uuid] = event.position or 0
        return self._state.fold.take(event)

    def _health(self) -> EngineHealth:
        return replace(super()._health(), keeper_lag=self._keeper_lag.records())

    def _passed(self, partition: Partition) -> int:
        return self._feed.positions.get(partition, super()._passed(partition))

    @contextmanager
    def _brought_up(self, asset_uuids: Collection[str] | None, *, with_places: bool = False) -> Generator[None]:
        """Own the dispatcher's lock while all events acknowledged before are in the state of some assets, or of all.

        Raises:
            EngineUnavailableError: the state of an asset was never read, and no broker answers.
        """
        while True:
            self._state.ask(asset_uuids)
            if with_places or asset_uuids is None:
                self._state.ask_places()  # who asks about all may do it during an outage, too
            log = self._positions.log
            self._wait_for_feed(asset_uuids, self._map_partitions if with_places else ())
            with self._dispatcher.lock:
                if not self._may_wait() or log == self._positions.log:
                    yield
                    return

    def _wait_for_feed(self, asset_uuids: Collection[str] | None, others: Collection[Partition] = ()) -> None:
        """Wait until all events acknowledged before are in the state; during an outage, keep the present state.

        Args:
            asset_uuids: the assets of the events; None for all.
            others: further partitions whose records are awaited.
        """
        if not self._may_wait():
            return  # called by the callback of a subscription, for which the feed itself waits
        log, has_passed = -1, False
        while log != self._positions.log:
            log = self._positions.log
            places = self._places_of(asset_uuids) if asset_uuids is None or asset_uuids else []
            with self._dispatcher.lock:
                known = [partition for partition in (*places, *others) if partition in self._feed.positions]
            ends = self._ends(known)
            positions = self._feed.positions
            with suppress(EngineUnavailableError):  # an outage is logged
                self._side.read({place: end for place, end in ends.items() if end > positions.get(place, end)})
            awaited = {partition: end for partition, end in ends.items() if not self._side.is_aside(partition)}
            has_passed = self._feed.wait_for(awaited, self._known_ends, _STALL_SECONDS)
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

    def _tables_of(self, asset_uuids: Collection[str] | None, *, with_places: bool = False) -> FoldedTables:
        """Return the tables with all events of some assets, or of all, that were acknowledged before."""
        self._check_open()
        with self._brought_up(asset_uuids, with_places=with_places):
            if self._state.fold.changed or self._state.fold.changed_registrations:
                self._save()
        return self._tables

    def _save(self) -> None:
        with self._dispatcher.lock:
            if not self._state.is_loaded:
                return  # the state lacks the records before the positions
            self._marks.update((partition, RecordMark.of(message)) for partition, message in self._applied.items())
            self._applied.clear()
            self._tables.save(self._state.fold, self._feed.positions, self._marks, self._positions.base)
        self._saved_at = time.monotonic()

    def _save_periodically(self) -> None:
        if self._tables.owns_file and time.monotonic() >= self._saved_at + _SAVE_SECONDS and self._state.fold.changed:
            self._save()

    def _stop_following(self, timeout: float) -> None:
        self._state.close()
        self._feed.close(timeout)
        if self._tables.owns_file and self._feed.positions:
            self._save()
        self._tables.close()


def _mark_of(cluster: Cluster, identity: Identity) -> str:
    """Return the identity of a log as one text, for a state file."""
    return " ".join([cluster.id, *(f"{topic}={known.id}/{known.partitions}" for topic, known in identity.items())])


def _found_log(
    connection: BrokerConnection, reader: LogReader, watch: LogWatch, prefix: str
) -> tuple[Cluster, Identity, dict[Partition, int]]:
    """Create the needed topics that do not exist, and return the cluster, their identity, and their ends."""
    topics = {prefix + name for name in NEEDED_TOPICS}
    question = watch.ask()  # answered while the reader connects, and finds the ends
    cluster = _ensure_topics(connection, reader, prefix)
    partitions = [Partition(topic, number) for topic in sorted(topics) for number in range(cluster.topics[topic])]
    ends = call_on_thread("openfactory-ends", reader.ends, partitions)
    identity = watch.answer(question) or {}
    deadline = time.monotonic() + _STALL_SECONDS
    while identity.keys() < topics:  # they were created a moment ago
        if time.monotonic() >= deadline:
            raise connection.unavailable(f"it does not describe the topics {', '.join(topics - identity.keys())}")
        identity = watch.answer(watch.ask()) or {}
    found = ends.result()
    if any(known.partitions != cluster.topics[topic] for topic, known in identity.items()):  # it has more by now
        found = reader.ends(Partition(topic, n) for topic, known in identity.items() for n in range(known.partitions))
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
