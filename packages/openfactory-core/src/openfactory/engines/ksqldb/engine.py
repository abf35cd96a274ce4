"""Kafka and a ksqlDB: the server keeps the state, and the log tells what its tables do not show yet."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from openfactory.engines.base import LogPosition, OnEvent, OnGap, Servers, Snapshot, Subscription
from openfactory.engines.fanout import AssetRouter
from openfactory.engines.fanout.nats_live import NatsLive
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.fold import Fold, is_deregistration
from openfactory.engines.kafka_engine.log_engine import LogEngine
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition, key_of
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.engines.ksqldb.tables import KsqlDBTables, topics_of_server
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.settings import setting
from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["KsqlDBEngine"]

_logger = logging.getLogger("openfactory.engines")

# The tables lag behind the log by less than this, in seconds: what is newer is read from the log itself.
_LAG_SECONDS = 30.0

# Nobody waits any more for the answer to a command that is older than this, in seconds.
_COMMAND_SECONDS = 600.0


class KsqlDBEngine(LogEngine):
    """A factory on a Kafka with a ksqlDB, `http://ksqldb:8088`; with an asset router, live events come from NATS.

    The broker and the router are named by arguments, or by KAFKA_BROKER and ASSET_ROUTER_URL.

    Raises:
        ConfigurationError: no broker is named, or the URL cannot be understood.
        EngineUnavailableError: the server or the broker does not answer.
    """

    def __init__(self, url: str, servers: Servers = Servers()) -> None:  # noqa: B008 - immutable
        credentials = servers.credentials or Credentials.from_environment()
        topics = topics_of_server(url, credentials)
        broker = _broker(url, servers)
        self._server = KsqlDBServer(url, credentials=credentials)
        connection = BrokerConnection(broker, credentials)
        reader = LogReader(connection)
        try:
            there = reader.topics()
            if topics.assets not in there:
                raise EngineUnavailableError(
                    f"The broker at {connection.bootstrap_servers} has no topic {topics.assets}, which the ksqlDB at "
                    f"{self._server.url} reads. Name the broker of that ksqlDB in KAFKA_BROKER.",
                    address=connection.bootstrap_servers,
                )
        except BaseException:
            self._server.close()
            reader.close()
            raise
        super().__init__(url, connection, reader, topics, there[topics.assets])
        self._map_partitions = [Partition(topics.uns_map, number) for number in range(there.get(topics.uns_map, 0))]
        self._tables = KsqlDBTables(self._server)
        self._feed: LogFeed | None = None
        self._nats: NatsLive | None = None
        try:
            self._known_ends.update(reader.ends([*self._partitions, *self._map_partitions]))
            if router_url := servers.asset_router_url or setting("ASSET_ROUTER_URL"):
                self._nats = NatsLive(
                    AssetRouter(router_url),
                    credentials,
                    self._dispatcher,
                    LogReader(connection),
                    self._records.event_of,
                )
        except BaseException:
            self.close()
            raise

    @classmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: B008 - immutable
        address = redacted(url)
        try:
            parts = urlsplit(address)
            port = parts.port or 8088
        except ValueError:
            raise ConfigurationError(f"{address} has no proper host or port. Write http://host:8088.") from None
        if not parts.hostname:
            raise ConfigurationError(f"{address} names no host. Write http://host:8088.")
        router = servers.asset_router_url or setting("ASSET_ROUTER_URL") or ""
        broker = servers.bootstrap_servers or setting("KAFKA_BROKER") or ""
        return f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')} {broker} {router}"

    # Writing

    def publish(self, event: AssetEvent) -> Receipt:
        return super().publish(event) if self._nats is None else self._nats.publish_own(event, super().publish)

    def topic_of(self, name: str) -> str:
        self._check_open()
        return self._tables.asked(lambda: self._server.topic_of(name))

    # Reading

    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        self._check_open()
        wanted = None if asset_uuids is None else list(dict.fromkeys(asset_uuids))
        concerned = self._partitions if wanted is None else list({self._partition_of(one): None for one in wanted})
        ends, newer = self._read_newest(wanted, concerned or self._partitions)
        events: dict[str, dict[str, AssetEvent]] = {}
        for event in (*([] if wanted == [] else self._tables.events(wanted)), *newer):
            if not is_deregistration(event):
                known = events.setdefault(event.asset_uuid, {})
                known.pop(event.id, None)  # the newest is the last
                known[event.id] = event
        return Snapshot({asset: list(known.values()) for asset, known in events.items()}, self._position(ends))

    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        def overlaid(newer: Fold, asset_uuid: str) -> str | None:
            event = newer.assets[asset_uuid].get("AssetType")
            return str(event.value) if event is not None and event.type == "OpenFactory" else None

        return self._pairs("assets_type", "type", asset_uuids, overlaid)

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        def overlaid(newer: Fold, asset_uuid: str) -> str | None:
            said = [event for event in newer.assets[asset_uuid].values() if event.id in ("avail", "agent_avail")]
            return str(said[-1].value) if said else None

        return self._pairs("assets_avail", "availability", asset_uuids, overlaid)

    def uns_map(self) -> dict[str, str]:
        self._check_open()
        places = self._tables.column("asset_to_uns_map", "uns_id")
        ends = self._ends(self._map_partitions)
        starts = self._reader.offsets_at(self._map_partitions, time.time() - _LAG_SECONDS)
        for partition, end in ends.items():
            for message in self._reader.read(partition, starts[partition], end):
                found = self._records.place_of(message, partition, message.offset() or 0)
                if found is not None:
                    asset_uuid, place = found
                    places[asset_uuid] = place.uns_id
        return {asset_uuid: uns_id for asset_uuid, uns_id in places.items() if uns_id is not None}

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        self._check_open()
        return self._tables.select(sql, parameters)

    def tables(self) -> list[str]:
        self._check_open()
        return self._tables.asked(self._server.tables)

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
            # An app asks so when it starts, and the whole log may be too long for that.
            partition = self._partition_of(asset_uuid)
            start = self._reader.offsets_at([partition], time.time() - _COMMAND_SECONDS)[partition]
            read = self._read(partition, start, self._ends([partition])[partition], asset_uuid)
            found = [event for event in read if event.tag == tag]
            return found[-limit:] if limit > 0 else []
        return super().history(asset_uuid, attribute_id, tag=tag, since=since, until=until, limit=limit)

    def subscribe(
        self,
        asset_uuid: str | None,
        on_event: OnEvent,
        on_gap: OnGap | None = None,
        from_position: int | None = None,
    ) -> Subscription:
        if self._nats is None or asset_uuid is None:
            return super().subscribe(asset_uuid, on_event, on_gap, from_position)
        self._check_open()
        partition = self._partition_of(asset_uuid)
        if from_position is None or (
            isinstance(from_position, LogPosition) and partition.number not in from_position.partitions
        ):
            start = self._ends([partition])[partition]
        elif isinstance(from_position, LogPosition):
            start = from_position.partitions[partition.number]
        else:
            start = from_position
        return self._nats.subscribe(asset_uuid, partition, on_event, on_gap, start)

    # Inside

    def _following(self) -> LogFeed:
        with self._dispatcher.lock:
            if self._feed is None:
                feed = LogFeed(
                    self._connection, self._reader, lambda: self._dispatcher.lock, self._take, self._after_loss
                )
                feed.start(self._reader.ends(self._partitions))
                self._feed = feed
            return self._feed

    def _can_do_without(self) -> bool:
        return True

    def _take(self, partition: Partition, offset: int, message: Message) -> None:
        """Hand a record on if anybody wants it; others are not even decoded."""
        asset_uuid = key_of(message)
        if asset_uuid is not None:
            self._newest[asset_uuid] = offset + 1
            if not self._dispatcher.is_needed(None if self._nats is not None else asset_uuid):
                return
        event = self._records.event_of(message, partition, offset)
        if event is None or is_deregistration(event):
            return
        if self._nats is None:
            self._dispatcher.deliver(event, partition.number)
        else:  # whoever hears one asset hears it from NATS
            self._dispatcher.deliver_to_wildcard(event, partition.number)

    def _read_newest(
        self, wanted: list[str] | None, concerned: list[Partition]
    ) -> tuple[dict[Partition, int], list[AssetEvent]]:
        """Where the log ends, and what it says before that; what NATS brings meanwhile waits for it."""
        ends: dict[Partition, int] = {}
        newer: list[AssetEvent] = []
        held = [] if self._nats is None else self._nats.acquire(wanted)
        try:
            ends = self._ends(concerned)
            newer = [] if wanted == [] else self._newer(wanted, ends)
            return ends, newer
        finally:
            if self._nats is not None:
                self._nats.release(held, newer, ends)

    def _newer(self, asset_uuids: list[str] | None, ends: dict[Partition, int]) -> list[AssetEvent]:
        """What the log says that the tables may not show yet, up to some ends."""
        newer: list[AssetEvent] = []
        wanted = None if asset_uuids is None else set(asset_uuids)
        try:
            starts = self._reader.offsets_at(ends, time.time() - _LAG_SECONDS)
            for partition, end in ends.items():
                for message in self._reader.read(partition, starts[partition], end):
                    if wanted is None or key_of(message) in wanted:
                        event = self._records.event_of(message, partition, message.offset() or 0)
                        if event is not None:
                            newer.append(event)
        except EngineUnavailableError as error:
            _logger.warning("What the tables may not show yet cannot be read: %s", error)
        return newer

    def _pairs(
        self,
        table: str,
        column: str,
        asset_uuids: Collection[str] | None,
        overlaid: Callable[[Fold, str], str | None],
    ) -> dict[str, str]:
        """One column by asset, as the table has it and the newest part of the log changes it."""
        self._check_open()
        wanted = None if asset_uuids is None else list(dict.fromkeys(asset_uuids))
        if wanted == []:
            return {}
        pairs = self._tables.column(table, column, wanted)
        concerned = self._partitions if wanted is None else list({self._partition_of(one): None for one in wanted})
        newer = Fold.of_statements(self._newer(wanted, self._ends(concerned)))
        for asset_uuid in newer.deregistered:
            pairs.pop(asset_uuid, None)
        for asset_uuid in list(newer.assets):
            if (value := overlaid(newer, asset_uuid)) is not None:
                pairs[asset_uuid] = value
        return {asset_uuid: value for asset_uuid, value in pairs.items() if value not in (None, "delete")}

    def _trouble(self) -> str:
        return self._tables.trouble or ("" if self._nats is None else self._nats.trouble())

    def _stop_reading(self, timeout: float) -> None:
        if self._nats is not None:
            self._nats.close(timeout)
        if self._feed is not None:
            self._feed.close(timeout)
        self._server.close()


def _broker(url: str, servers: Servers) -> str:
    broker = servers.bootstrap_servers or setting("KAFKA_BROKER")
    if not broker:
        raise ConfigurationError(
            f"{redacted(url)} is a ksqlDB, and the Kafka that it works on is not named. "
            "Set KAFKA_BROKER=host:9092, or run without any server by KSQLDB_URL=sqlite:///factory.db."
        )
    return broker
