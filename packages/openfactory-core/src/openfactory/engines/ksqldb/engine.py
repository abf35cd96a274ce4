"""The engine for Kafka with ksqlDB: state comes from the server's tables and the newest part of the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from openfactory.engines.base import LogPosition, OnEvent, OnGap, Servers, Snapshot, Subscription
from openfactory.engines.fanout import AssetRouter
from openfactory.engines.fanout.log_access import LogAccess
from openfactory.engines.fanout.nats_live import NatsLive
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.delivery import Delivery
from openfactory.engines.kafka_engine.fold import ASSET_TYPE_ID, Fold, is_deregistration
from openfactory.engines.kafka_engine.log_engine import LogEngine, in_order_of_time
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import LogReader, key_of
from openfactory.engines.kafka_engine.log_watch import LogWatch
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.register_rows import LAG_SECONDS
from openfactory.engines.ksqldb.server import KsqlDBServer
from openfactory.engines.ksqldb.tables import KsqlDBTables, topics_of_server
from openfactory.engines.ksqldb.topology import check_factory
from openfactory.engines.shared import HistoryQuery
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, OWNER_ID, counts_after, is_by_owner
from openfactory.events.receipt import Receipt
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["KsqlDBEngine"]

_logger = logging.getLogger("openfactory.engines")

# Age of a command after which no caller waits for its reply any more, in seconds.
_COMMAND_SECONDS = 600.0


class KsqlDBEngine(LogEngine):
    """Engine for Kafka with a ksqlDB server, `http://ksqldb:8088`; with an asset router, live events come from NATS.

    The addresses of the broker and the router are arguments, or in KAFKA_BROKER and ASSET_ROUTER_URL.

    Args:
        url: URL of the ksqlDB server.
        servers: addresses of the broker and the router, and credentials.

    Raises:
        ConfigurationError: the broker is not set, the URL is invalid, or the factory has another prefix than the URL.
        EngineUnavailableError: the server or the broker does not answer, or the broker is not that of the server.
    """

    def __init__(self, url: str, servers: Servers = Servers()) -> None:  # noqa: B008 - immutable
        resolved = servers.resolve(url)
        credentials = resolved.credentials
        topics = topics_of_server(url, credentials)
        if (prefix := resolved.location.options.get("prefix")) is not None:
            check_factory(topics.assets, prefix, resolved.location.server)
        if not resolved.bootstrap_servers:
            raise ConfigurationError(
                f"The Kafka broker of the ksqlDB server {redacted(url)} is not set. "
                "Set KAFKA_BROKER=host:9092, or set KSQLDB_URL=sqlite:///factory.db to run without a server."
            )
        with ExitStack() as opened:
            self._server = KsqlDBServer(url, credentials=credentials)
            opened.callback(self._server.close)
            connection = BrokerConnection(resolved.bootstrap_servers, credentials)
            # All clients exist before the first answer, so that they connect at the same time.
            reader = LogReader(connection)
            opened.callback(reader.close)
            delivery = Delivery(connection)
            opened.callback(delivery.abandon)
            watch = LogWatch(connection, (topics.assets, topics.uns_map))
            opened.callback(watch.close)
            identity = watch.answer(watch.ask()) or {}
            if topics.assets not in identity:
                raise EngineUnavailableError(
                    f"The broker at {connection.bootstrap_servers} has no topic {topics.assets}, which the ksqlDB at "
                    f"{self._server.url} reads. Set KAFKA_BROKER to the broker of that ksqlDB.",
                    address=connection.bootstrap_servers,
                )
            opened.pop_all()  # from here on, `close` closes them
        super().__init__(url, connection, reader, topics, watch, identity, delivery)
        self._rows.are_certain = True
        self._tables = KsqlDBTables(self._server)
        self._feed: LogFeed | None = None
        self._owners = Fold()  # only what owners have written
        self._nats: NatsLive | None = None
        try:
            self._known_ends.update(reader.ends([*self._partitions, *self._map_partitions]))
            if router_url := resolved.asset_router_url:
                self._nats = NatsLive(
                    AssetRouter(router_url),
                    credentials,
                    self._dispatcher,
                    LogAccess(
                        topics.assets,
                        LogReader(connection),
                        self._records.event_of,
                        lambda: self._partitions,
                        lambda asset_uuid: self._places_of([asset_uuid]),
                        lambda: self._positions.base,
                        lambda group: watch.committed(group, topics.assets),
                    ),
                )
        except BaseException:
            self.close()
            raise
        watch.start(identity, self._on_identity)

    @classmethod
    def location(cls, url: str, servers: Servers = Servers()) -> str:  # noqa: B008 - immutable
        resolved = servers.resolve(url)
        return f"{resolved.location.server} {resolved.bootstrap_servers or ''} {resolved.asset_router_url or ''}"

    # Writing

    def publish(self, event: AssetEvent) -> Receipt:
        return super().publish(event) if self._nats is None else self._nats.publish_own(event, super().publish)

    def topic_of(self, name: str) -> str:
        self._check_open()
        return self._tables.call(lambda: self._server.topic_of(name))

    # Reading

    def snapshot(self, asset_uuids: Collection[str] | None = None) -> Snapshot:
        self._check_open()
        wanted = None if asset_uuids is None else list(dict.fromkeys(asset_uuids))
        ends, newer = self._read_newest(wanted)
        events: dict[str, dict[str, AssetEvent]] = {}
        for event in (*([] if wanted == [] else self._tables.events(wanted)), *newer):
            if not is_deregistration(event):
                last_events = events.setdefault(event.asset_uuid, {})
                claim, available = last_events.get(OWNER_ID), last_events.get(AVAILABILITY_ID)
                if event.id in last_events and is_by_owner(event) and not counts_after(event, claim, available):
                    continue
                last_events.pop(event.id, None)  # moves the attribute to the end: the newest event is the last
                last_events[event.id] = event
        by_asset = {asset_uuid: list(last_events.values()) for asset_uuid, last_events in events.items()}
        return Snapshot(by_asset, self._position(ends, wanted), self._positions.log)

    def types(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        def newest(newer: Fold, asset_uuid: str) -> str | None:
            event = newer.assets[asset_uuid].get(ASSET_TYPE_ID)
            return str(event.value) if event is not None and event.type == "OpenFactory" else None

        return self._column("assets_type", "type", asset_uuids, newest)

    def availability(self, asset_uuids: Collection[str] | None = None) -> dict[str, str]:
        def newest(newer: Fold, asset_uuid: str) -> str | None:
            events = [event for event in newer.assets[asset_uuid].values() if event.id in ("avail", "agent_avail")]
            return str(events[-1].value) if events else None

        return self._column("assets_avail", "availability", asset_uuids, newest)

    def uns_map(self) -> dict[str, str]:
        self._check_open()
        places = self._tables.places()
        with suppress(EngineUnavailableError):  # an outage is logged, and the table has all but the newest
            ends = self._ends(self._map_partitions)
            for partition, offset, message in self._reader.read_newest(ends, LAG_SECONDS):
                if (record := self._records.place_of(message, partition, offset)) is not None:
                    asset_uuid, place = record
                    places[asset_uuid] = place.uns_id, place.updated_at
        in_order = sorted(places.items(), key=lambda entry: entry[1][1])
        return {asset_uuid: uns_id for asset_uuid, (uns_id, _) in in_order if uns_id is not None}

    def query(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        self._check_open()
        return self._tables.select(sql, parameters)

    def tables(self) -> list[str]:
        self._check_open()
        return self._tables.call(self._server.tables)

    def _oldest(self, query: HistoryQuery) -> float | None:
        # An app that starts asks for its commands, and to read the whole log could take too long.
        return time.time() - _COMMAND_SECONDS if query.is_of_all_commands else super()._oldest(query)

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
        known: Mapping[int, int] = {}
        if from_position is not None:
            position = self._in_each_partition(asset_uuid, from_position)
            known = position.partitions if isinstance(position, LogPosition) else {0: position}
        ends = self._ends(partition for partition in self._partitions if partition.number not in known)
        starts = {place: ends[place] if place in ends else known[place.number] for place in self._partitions}
        return self._nats.subscribe(asset_uuid, self._partition_of(asset_uuid), on_event, on_gap, starts)

    # Inside

    def _started_feed(self) -> LogFeed:
        with self._dispatcher.lock:
            if self._feed is None:
                self._feed = LogFeed(
                    self._connection,
                    self._reader,
                    lambda: self._dispatcher.lock,
                    self._deliver_record,
                    self._notify_gaps,
                    self._on_rewritten,
                    lambda: self._interest,
                    on_idle=self._let_go,
                    expects_own=self._expects_own,
                    on_run=self._pass_own,
                    on_reported=self._pass_reported,
                    is_behind=self._is_behind,
                )
                self._feed.start({})
            return self._feed

    def _follow(self, asset_uuid: str | None) -> list[Partition]:
        feed, wanted = self._started_feed(), None if asset_uuid is None else [asset_uuid]
        while True:
            partitions = self._places_of(wanted)
            self._follow_partitions(partitions)
            with self._dispatcher.lock:
                self._interest.ask(wanted)
                starts = {place: feed.positions[place] for place in partitions if place in feed.positions}
                if len(starts) < len(partitions):
                    continue  # let go, or of another log meanwhile
                if asset_uuid is None and not self._interest.everything:
                    self._interest.add_everything(starts)
                    self._owners = Fold()  # claims may have been skipped
                elif asset_uuid is not None and not self._interest.covers(asset_uuid, partitions):
                    if not self._interest.everything:
                        self._newest.pop(asset_uuid, None)
                        self._owners.assets.pop(asset_uuid, None)
                    self._interest.add(asset_uuid, starts, self._expected_of(asset_uuid))
                feed.change()
                return partitions

    def _begin_log(self) -> None:
        if self._feed is not None:
            ends = {partition: self._known_ends[partition] for partition in self._partitions}
            self._interest.begin_log(ends, lambda asset_uuid: self._places_of([asset_uuid]), self._expected_of)
            self._feed.restart({partition: ends[partition] for partition in self._interest.partitions()})
        if self._nats is not None:
            self._nats.begin_log(self._partition_of)
        self._notify_gaps()

    def _claims(self) -> list[AssetEvent]:
        if self._dispatcher.assets() is not None:
            return []  # the claims of assets that are watched are noted as they are read
        events = (event for events in self.snapshot().events.values() for event in events)
        return [event for event in events if event.id == OWNER_ID]

    def _notify_gaps(self, partition: Partition | None = None) -> None:
        self._owners = Fold()  # records that were missed may be claims
        super()._notify_gaps(partition)

    def _can_answer_offline(self) -> bool:
        return True

    def _deliver_record(self, partition: Partition, offset: int, message: Message) -> None:
        """Deliver a record of an asset that has, or had, subscribers."""
        asset_uuid = key_of(message)
        if asset_uuid is not None:
            if not self._positions.is_stray(asset_uuid, partition):
                self._newest[asset_uuid] = offset + 1
            if not self._dispatcher.is_needed(None if self._nats is not None else asset_uuid):
                self._owners.assets.pop(asset_uuid, None)  # the record may be a claim
                return
        if self._nats is None:
            write = self._delivery.echoes.written_at(partition, offset + 1, message)
            if write is not None and write.event is not None:
                self._dispatcher.deliver_echo(write.event.with_position(offset + 1), write, partition.number)
                return
        event = self._records.event_of(message, partition, offset)
        if event is None or is_deregistration(event):
            return
        if self._nats is None:
            # Also an event that does not count: an owner that hears one writes its own again, for the tables.
            self._dispatcher.deliver_to_asset(event, partition.number, offset + 1)
        if self._is_counting(event):  # subscriptions to a single asset receive its events from NATS
            self._dispatcher.deliver_to_wildcard(event, partition.number, offset + 1)

    def _may_pass(self, partition: Partition) -> bool:
        return super()._may_pass(partition) and self._nats is None

    def _is_counting(self, event: AssetEvent) -> bool:
        """Return whether an event counts, as far as the owner is known from the events since the feed has started."""
        if not is_by_owner(event):
            return True
        if not self._owners.counts(event):
            return False
        self._owners.apply(event)
        return True

    def _read_newest(self, asset_uuids: list[str] | None) -> tuple[dict[Partition, int], list[AssetEvent]]:
        """Return the ends of all partitions, and the newest events before them; meanwhile messages of NATS wait."""
        ends: dict[Partition, int] = {}
        newer: list[AssetEvent] = []
        paused = [] if self._nats is None else self._nats.pause(asset_uuids)
        try:
            ends = self._ends(self._partitions)
            newer = [] if asset_uuids == [] else self._newer(asset_uuids, ends)
            return ends, newer
        finally:
            if self._nats is not None:
                self._nats.resume(paused, newer, ends)

    def _newer(self, asset_uuids: list[str] | None, ends: dict[Partition, int]) -> list[AssetEvent]:
        """Return the events that the tables may not show yet, up to the given ends."""
        newer: dict[Partition, list[tuple[int, AssetEvent]]] = {}
        wanted = None if asset_uuids is None else set(asset_uuids)
        partitions = {place: ends[place] for place in self._places_of(asset_uuids) if place in ends}
        try:
            for partition, offset, message in self._reader.read_newest(partitions, LAG_SECONDS):
                if wanted is None or key_of(message) in wanted:
                    event = self._records.event_of(message, partition, offset)
                    if event is not None:
                        newer.setdefault(partition, []).append((message.timestamp()[1], event))
        except EngineUnavailableError as error:
            _logger.warning("The newest events cannot be read from the log, so state may be outdated: %s", error)
        return in_order_of_time(newer.values())

    def _column(
        self,
        table: str,
        column: str,
        asset_uuids: Collection[str] | None,
        newest: Callable[[Fold, str], str | None],
    ) -> dict[str, str]:
        """Return one column by asset, with the changes in the newest part of the log.

        Args:
            newest: returns the value of an asset in the newest part of the log, or None.
        """
        self._check_open()
        wanted = None if asset_uuids is None else list(dict.fromkeys(asset_uuids))
        if wanted == []:
            return {}
        values = self._tables.column(table, column, wanted)
        events = self._newer(wanted, self._ends(self._places_of(wanted)))
        newer = Fold.of_statements(events)
        for asset_uuid in newer.deregistered:
            values.pop(asset_uuid, None)
        for asset_uuid in list(newer.assets):
            if (value := newest(newer, asset_uuid)) is not None:
                values[asset_uuid] = value
        for asset_uuid in self._deleted_rows(table, events):
            values.pop(asset_uuid, None)
        return {asset_uuid: value for asset_uuid, value in values.items() if value not in (None, "delete")}

    def _deleted_rows(self, table: str, events: list[AssetEvent]) -> set[str]:
        """Return the assets whose row was deleted after their newest events, as other programs deregister an asset."""
        with suppress(EngineUnavailableError):  # an outage is logged, and the table has all but the newest
            return self._rows.deleted(table, events)
        return set()

    def _trouble(self) -> str:
        return self._tables.trouble or ("" if self._nats is None else self._nats.trouble())

    def _stop_following(self, timeout: float) -> None:
        if self._nats is not None:
            self._nats.close(timeout)
        if self._feed is not None:
            self._feed.close(timeout)
        self._server.close()
