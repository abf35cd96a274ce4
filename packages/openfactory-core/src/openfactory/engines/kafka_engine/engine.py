"""Kafka alone: the state of all assets is folded from the log itself, and the same consumer is live."""

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
from openfactory.engines.tables import TABLES
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["KafkaEngine"]

_logger = logging.getLogger("openfactory.engines")

# How long the log may stand still while the state is read from it, in seconds.
_STALL_SECONDS = 10.0

# How often a state file is brought up to date, in seconds.
_SAVE_SECONDS = 5.0

# The topics in which a ksqlDB looks for tombstones.
_TOMBSTONES = (ASSETS_TYPES_TOPIC, ASSETS_AVAIL_TOPIC, DOCKER_SERVICES_TOPIC)


class KafkaEngine(LogEngine):
    """A factory on a Kafka and nothing else, `kafka://host:9092`.

    Options in the URL: `state=/path/factory-state.db` (a file that lets the next start read only what is new),
    `prefix=plant2_` (before the names of all topics), `linger_ms=N` (how long a message waits for others to go with).

    What nobody has said for longer than the topic keeps its records is not known. Topics that are missing are made.

    Raises:
        ConfigurationError: the URL cannot be understood.
        EngineUnavailableError: no broker answers, or the state file cannot be used.
    """

    def __init__(self, url: str, servers: Servers = Servers()) -> None:  # noqa: B008 - immutable
        location = KafkaLocation.of(url)
        if servers.bootstrap_servers and servers.bootstrap_servers != location.bootstrap_servers:
            _logger.info("%s names the broker, so %s is not used.", url, servers.bootstrap_servers)
        connection = BrokerConnection(location.bootstrap_servers, servers.credentials or Credentials.from_environment())
        reader = LogReader(connection)
        try:
            there = _topics_made(connection, reader, location.prefix)
            tables = FoldedTables(location.state, reader.cluster())
        except BaseException:
            reader.close()
            raise
        assets, uns_map = (location.prefix + name for name in NEEDED_TOPICS)
        tombstones = tuple(name for one in _TOMBSTONES if (name := location.prefix + one) in there)
        super().__init__(
            url, connection, reader, TopicNames(assets, uns_map, tombstones), there[assets], location.linger_ms
        )
        self._map_partitions = [Partition(uns_map, number) for number in range(there[uns_map])]
        self._fold = Fold()
        self._tables = tables
        self._saved_at = time.monotonic()
        self._feed = LogFeed(
            connection,
            reader,
            lambda: self._dispatcher.lock,
            self._take,
            self._after_loss,
            self._save_now_and_then,
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
        concerned = self._partitions if wanted is None else list({self._partition_of(one): None for one in wanted})
        self._catch_up_with(concerned or self._partitions)
        with self._dispatcher.lock:
            positions = {one: self._feed.positions[one] for one in concerned or self._partitions}
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

    def history(
        self,
        asset_uuid: str,
        attribute_id: str | None = None,
        *,
        tag: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int = 1000,
    ) -> list[AssetEvent]:
        self._check_open()
        if tag in (COMMAND_TAG, REPLY_TAG) and attribute_id is since is until is None:
            self._catch_up_with([self._partition_of(asset_uuid)])
            with self._dispatcher.lock:
                remembered = self._fold.commands.get((asset_uuid, tag), ())
                if limit <= len(remembered) or len(remembered) < self._fold.most_commands:
                    return list(remembered)[-limit:] if limit > 0 else []
        return super().history(asset_uuid, attribute_id, tag=tag, since=since, until=until, limit=limit)

    # Inside

    def _following(self) -> LogFeed:
        return self._feed

    def _can_do_without(self) -> bool:
        return True

    def _read_state(self) -> None:
        """Fold the log, from where the state file ends or from its start, up to where it ends now."""
        partitions = [*self._partitions, *self._map_partitions]
        bounds = self._reader.bounds(partitions)
        known = self._tables.load(self._fold)
        if any(known.get(one, 0) > high for one, (_, high) in bounds.items()):
            _logger.warning("The log ends before what the state file knows. It is read from its start instead.")
            self._tables.clear()
            self._fold, known = Fold(), {}
        self._newest.update(
            (asset_uuid, max(event.position or 0 for event in attributes.values()))
            for asset_uuid, attributes in self._fold.assets.items()
        )
        for partition, (low, high) in bounds.items():
            for message in self._reader.read(partition, max(known.get(partition, 0), low), high):
                self._take(partition, message.offset() or 0, message)
        ends = {partition: high for partition, (_, high) in bounds.items()}
        self._known_ends.update(ends)
        self._feed.start(ends)
        if known != ends:
            self._save()

    def _take(self, partition: Partition, offset: int, message: Message) -> None:
        """Take in a record, and hand it on."""
        if partition.topic != self._topics.assets:
            self._take_place(partition, offset, message)
            return
        event = self._records.event_of(message, partition, offset)
        if event is not None:
            self._newest[event.asset_uuid] = offset + 1
            if is_deregistration(event):
                self._fold.deregister(event)
                return
            self._fold.take(event)
            self._dispatcher.deliver(event, partition.number)

    def _take_place(self, partition: Partition, offset: int, message: Message) -> None:
        place = self._records.place_of(message, partition, offset)
        if place is not None:
            self._fold.take_place(*place)

    def _catch_up_with(self, partitions: Collection[Partition]) -> None:
        """Wait until all that is acknowledged by now is folded; without a broker it is what was read before."""
        if self._catching_up == threading.get_ident():
            return  # a new subscriber asks, and the feed waits for it
        if not self._feed.wait_for(self._ends(partitions), _STALL_SECONDS) and not self._connection.trouble:
            _logger.warning("The log has stood still for %g s; what was read before is answered.", _STALL_SECONDS)

    def _synchronised(self) -> FoldedTables:
        """The tables, with all that is acknowledged by now."""
        self._check_open()
        self._catch_up_with([*self._partitions, *self._map_partitions])
        with self._dispatcher.lock:
            if self._fold.changed or self._fold.changed_registrations:
                self._save()
        return self._tables

    def _save(self) -> None:
        with self._dispatcher.lock:
            self._tables.save(self._fold, self._feed.positions)
        self._saved_at = time.monotonic()

    def _save_now_and_then(self) -> None:
        if self._tables.keeps and time.monotonic() >= self._saved_at + _SAVE_SECONDS and self._fold.changed:
            self._save()

    def _stop_reading(self, timeout: float) -> None:
        self._feed.close(timeout)
        if self._tables.keeps and self._feed.positions:
            self._save()
        self._tables.close()


def _topics_made(connection: BrokerConnection, reader: LogReader, prefix: str) -> dict[str, int]:
    """All topics with the number of their partitions, after those that are needed and missing were made."""
    there = reader.topics()
    missing = [topic for topic in TOPICS if topic.name in NEEDED_TOPICS and prefix + topic.name not in there]
    if not missing:
        return there
    beside = [count for name, count in there.items() if name in {prefix + needed for needed in NEEDED_TOPICS}]
    create_topics(connection.configuration(), missing, prefix=prefix, partitions=max(beside, default=1))
    names = ", ".join(prefix + topic.name for topic in missing)
    _logger.info("Made the topics %s. `ofa setup-kafka` makes them with other partitions and retentions.", names)
    deadline = time.monotonic() + _STALL_SECONDS
    while not all(prefix + name in there for name in NEEDED_TOPICS):
        if time.monotonic() >= deadline:
            raise connection.unavailable(f"the topics {names} do not appear")
        time.sleep(0.05)
        there = reader.topics()
    return there
