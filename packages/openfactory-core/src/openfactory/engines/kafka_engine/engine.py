"""The engine for Kafka without ksqlDB, which computes the state of all assets from the log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from openfactory.engines.base import Servers, Snapshot
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.fold import Fold, is_deregistration
from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.engines.kafka_engine.log_engine import LogEngine, TopicNames
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition
from openfactory.engines.kafka_engine.tables import FoldedTables
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
from openfactory.events.event import AssetEvent

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["KafkaEngine"]

_logger = logging.getLogger("openfactory.engines")

# Seconds without a new record after which a wait for the log ends.
_STALL_SECONDS = 10.0

# Seconds between two updates of the state file.
_SAVE_SECONDS = 5.0

# Topics whose tombstones ksqlDB reads.
_TOMBSTONES = (ASSETS_TYPES_TOPIC, ASSETS_AVAIL_TOPIC, DOCKER_SERVICES_TOPIC)


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
            _logger.info("The broker is the one in %s; %s is not used.", url, servers.bootstrap_servers)
        connection = BrokerConnection(location.bootstrap_servers, servers.resolve(url).credentials)
        reader = LogReader(connection)
        try:
            partitions = _ensure_topics(connection, reader, location.prefix)
            tables = FoldedTables(location.state, reader.cluster())
        except BaseException:
            reader.close()
            raise
        assets, uns_map = (location.prefix + name for name in NEEDED_TOPICS)
        tombstones = tuple(name for topic in _TOMBSTONES if (name := location.prefix + topic) in partitions)
        super().__init__(
            url, connection, reader, TopicNames(assets, uns_map, tombstones), partitions[assets], location.linger_ms
        )
        self._map_partitions = [Partition(uns_map, number) for number in range(partitions[uns_map])]
        self._fold = Fold()
        self._tables = tables
        self._saved_at = time.monotonic()
        self._feed = LogFeed(
            connection,
            reader,
            lambda: self._dispatcher.lock,
            self._apply,
            self._on_lost,
            self._save_periodically,
        )
        try:
            self._read_state()
        except BaseException:
            self.close()
            raise

    @classmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: ARG003, B008 - the URL names the broker
        return KafkaLocation.of(url).place

    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        self._check_open()
        wanted = None if asset_uuids is None else list(asset_uuids)
        partitions = list({self._partition_of(asset_uuid): None for asset_uuid in wanted or ()}) or self._partitions
        self._wait_for_feed(partitions)
        with self._dispatcher.lock:
            positions = {partition: self._feed.positions[partition] for partition in partitions}
            return Snapshot(self._fold.events(wanted), self._position(positions))

    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._synchronised().pairs("assets_type", "type", asset_uuids)

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        return self._synchronised().pairs("assets_avail", "availability", asset_uuids)

    def uns_map(self) -> dict[str, str]:
        return self._synchronised().pairs("asset_to_uns_map", "uns_id")

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        return self._synchronised().select(sql, parameters)

    def tables(self) -> list[str]:
        self._check_open()
        return list(TABLES)

    def _history(self, query: HistoryQuery) -> list[AssetEvent]:
        if query.tag is not None and query.is_of_all_commands:
            self._wait_for_feed([self._partition_of(query.asset_uuid)])
            with self._dispatcher.lock:
                commands = self._fold.commands.get((query.asset_uuid, query.tag), ())
                if query.limit <= len(commands) or len(commands) < self._fold.max_commands:
                    return list(commands)[-query.limit :]
        return super()._history(query)

    # State

    def _started_feed(self) -> LogFeed:
        return self._feed

    def _can_answer_offline(self) -> bool:
        return True

    def _read_state(self) -> None:
        """Load the state file, apply the records after it up to the end of the log, and start the feed."""
        partitions = [*self._partitions, *self._map_partitions]
        bounds = self._reader.bounds(partitions)
        known = self._tables.load(self._fold)
        if any(known.get(partition, 0) > high for partition, (_, high) in bounds.items()):
            _logger.warning("The log ends before the offsets in the state file. It is read from its start instead.")
            self._tables.clear()
            self._fold, known = Fold(), {}
        self._newest.update(
            (asset_uuid, max(event.position or 0 for event in attributes.values()))
            for asset_uuid, attributes in self._fold.assets.items()
        )
        for partition, (low, high) in bounds.items():
            for message in self._reader.read(partition, max(known.get(partition, 0), low), high):
                self._apply(partition, message.offset() or 0, message)
        ends = {partition: high for partition, (_, high) in bounds.items()}
        self._known_ends.update(ends)
        self._feed.start(ends)
        if known != ends:
            self._save()

    def _apply(self, partition: Partition, offset: int, message: Message) -> None:
        """Apply a record to the state, and deliver its event to the subscriptions."""
        if partition.topic != self._topics.assets:
            place = self._records.place_of(message, partition, offset)
            if place is not None:
                self._fold.apply_place(*place)
            return
        event = self._records.event_of(message, partition, offset)
        if event is not None:
            self._newest[event.asset_uuid] = offset + 1
            if is_deregistration(event):
                self._fold.deregister(event)
                return
            self._fold.apply(event)
            self._dispatcher.deliver(event, partition.number)

    def _wait_for_feed(self, partitions: Collection[Partition]) -> None:
        """Wait until all events acknowledged before are in the state; during an outage, keep the present state."""
        if self._catching_up == threading.get_ident():
            return  # called by the callback of a new subscription, for which the feed itself waits
        if not self._feed.wait_for(self._ends(partitions), _STALL_SECONDS) and not self._connection.outage.reason:
            _logger.warning("No new records arrived for %g s. The answer may lack the newest events.", _STALL_SECONDS)

    def _synchronised(self) -> FoldedTables:
        """Return the tables with all events acknowledged before."""
        self._check_open()
        self._wait_for_feed([*self._partitions, *self._map_partitions])
        with self._dispatcher.lock:
            if self._fold.changed or self._fold.changed_registrations:
                self._save()
        return self._tables

    def _save(self) -> None:
        with self._dispatcher.lock:
            self._tables.save(self._fold, self._feed.positions)
        self._saved_at = time.monotonic()

    def _save_periodically(self) -> None:
        if self._tables.owns_file and time.monotonic() >= self._saved_at + _SAVE_SECONDS and self._fold.changed:
            self._save()

    def _stop_following(self, timeout: float) -> None:
        self._feed.close(timeout)
        if self._tables.owns_file and self._feed.positions:
            self._save()
        self._tables.close()


def _ensure_topics(connection: BrokerConnection, reader: LogReader, prefix: str) -> dict[str, int]:
    """Create the needed topics that do not exist, and return the number of partitions of every topic."""
    partitions = reader.topics()
    needed = {prefix + name for name in NEEDED_TOPICS}
    missing = [topic for topic in TOPICS if topic.name in NEEDED_TOPICS and prefix + topic.name not in partitions]
    if not missing:
        return partitions
    existing = [count for name, count in partitions.items() if name in needed]
    create_topics(connection.configuration(), missing, prefix=prefix, partitions=max(existing, default=1))
    names = ", ".join(prefix + topic.name for topic in missing)
    _logger.info("Created the topics %s. Use `ofa setup-kafka` to choose their partitions and retention.", names)
    deadline = time.monotonic() + _STALL_SECONDS
    while not needed <= partitions.keys():
        if time.monotonic() >= deadline:
            raise connection.unavailable(f"it does not show the new topics {names}")
        time.sleep(0.05)
        partitions = reader.topics()
    return partitions
