"""Live events from NATS, with a repair from the log: missed events arrive in the order of the log, and no event twice.

The headers of a message from a forwarder of OpenFactory have the place of its record in the log. A message from another
forwarder has no place. It is the same event as a record of the log if id, timestamp and value are equal. Its position
is estimated as one more than the position of the event before it. The estimate is never greater than the true position,
because the messages of an asset arrive in the order of the log. The echo of an own write has the position of its
receipt. An event outside of its asset's partition has no true position, only an estimate.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from openfactory.engines.base import LogPosition, OnEvent, OnGap, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.engines.fanout.live_asset import FORWARDING_SECONDS, LiveAsset, Place
from openfactory.engines.fanout.nats_hub import Headers
from openfactory.engines.fanout.wire import OFFSET_HEADER, PARTITION_HEADER
from openfactory.engines.kafka_engine.fold import is_deregistration
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition, key_of
from openfactory.events.event import AssetEvent
from openfactory.events.message import read_payload
from openfactory.events.receipt import Receipt
from openfactory.exceptions import EngineUnavailableError, InvalidEventError
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["NatsLive"]

_logger = logging.getLogger("openfactory.engines")

# Time between two readings of the log for assets that NATS does not carry now, in seconds.
_READ_SECONDS = 1.0

# Good times are rounded down to this many seconds, so that one request finds the offsets for many assets.
_ROUNDED_SECONDS = 0.5

_EventOf = Callable[["Message", Partition, int], AssetEvent | None]


class NatsLive:
    """Live events of the subscribed assets: from NATS, and from the log while NATS does not carry them.

    Args:
        router: the asset router, closed with this object.
        credentials: login and certificate authorities of NATS.
        dispatcher: delivers events to subscriptions.
        reader: reads the log; only this object uses it, and closes it.
        event_of: returns the event of a record, or None if the record is not an event.
        partitions: returns all partitions of the log.
        base: returns the base of the positions in the log.
    """

    def __init__(
        self,
        router: AssetRouter,
        credentials: Credentials,
        dispatcher: Dispatcher,
        reader: LogReader,
        event_of: _EventOf,
        partitions: Callable[[], list[Partition]],
        base: Callable[[], int],
    ) -> None:
        self._base = base
        self._dispatcher = dispatcher
        self._reader = reader
        self._event_of = event_of
        self._partitions = partitions
        self._router = router
        self._assets: dict[str, LiveAsset] = {}
        self._closed = False
        self._outage = Outage(
            _logger,
            meanwhile="Retrying until it succeeds.",
            over="Events that NATS may have missed can be read from the log again.",
        )
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._feed = NatsFeed(
            router, on_message=self._on_message, on_live=self._on_live, on_cut=self._on_cut, credentials=credentials
        )

    def subscribe(
        self,
        asset_uuid: str,
        partition: Partition,
        on_event: OnEvent,
        on_gap: OnGap | None,
        starts: Mapping[Partition, int],
    ) -> Subscription:
        """Deliver the events of an asset after an offset of each partition; existing events are delivered soon.

        Args:
            partition: the partition that OpenFactory chooses for the asset.
            starts: by partition, the offset, for all partitions.
        """
        start = LogPosition.of({place.number: offset for place, offset in starts.items()}, starts[partition])
        with self._dispatcher.lock:
            asset = self._assets.get(asset_uuid)
            if asset is None:
                self._feed.subscribe(asset_uuid)
                self._assets[asset_uuid] = LiveAsset(asset_uuid, partition, starts)
            subscription = self._dispatcher.add(asset_uuid, on_event, on_gap, start)
            subscription.when_closed(self._discard)
            if asset is not None:
                asset.catch_up(subscription, starts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="openfactory-repair", daemon=True)
                self._thread.start()
        self._work.set()
        return subscription

    def publish_own(self, event: AssetEvent, publish: Callable[[AssetEvent], Receipt]) -> Receipt:
        """Publish an event, and expect its echo if the asset has subscriptions."""
        asset = self._assets.get(event.asset_uuid)
        if asset is None or asset.placed:
            return publish(event)
        write = asset.expect_echo(event)
        receipt: Receipt | None = None
        try:
            receipt = publish(event)
            return receipt
        finally:
            asset.note_receipt(write, receipt)

    def pause(self, asset_uuids: Collection[str] | None) -> list[LiveAsset]:
        """Keep back the messages of some or all assets while a snapshot is read, and return the assets for `resume`."""
        with self._dispatcher.lock:
            wanted = self._assets if asset_uuids is None else asset_uuids
            paused = [self._assets[asset_uuid] for asset_uuid in wanted if asset_uuid in self._assets]
            for asset in paused:
                asset.readers += 1
            return paused

    def resume(self, paused: list[LiveAsset], events: Iterable[AssetEvent], ends: Mapping[Partition, int]) -> None:
        """Deliver the messages of paused assets again.

        Args:
            paused: the assets that `pause` returned.
            events: the newest events of the snapshot.
            ends: the ends of the partitions as of the snapshot.
        """
        by_asset: defaultdict[str, list[AssetEvent]] = defaultdict(list)
        for event in events:
            by_asset[event.asset_uuid].append(event)
        with self._dispatcher.lock:
            for asset in paused:
                asset.readers -= 1
                asset.note_snapshot(by_asset[asset.asset_uuid], ends)
                self._deliver_due(asset)

    def begin_log(self, partition_of: Callable[[str], Partition]) -> None:
        """Read the events of each asset from another log now. The caller owns the dispatcher's lock."""
        for asset_uuid, asset in self._assets.items():
            asset.begin_log(partition_of(asset_uuid))
        self._work.set()

    def trouble(self) -> str:
        """Return why events are missing or late, or an empty text."""
        return self._outage.reason or self._feed.trouble()

    def close(self, timeout: float) -> None:
        """Stop all deliveries, and close the feed, the router and the reader."""
        self._closed = True
        self._work.set()
        self._feed.close(timeout)
        self._router.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._reader.close()

    # On the thread of NATS

    def _on_message(self, asset_uuid: str, attribute_id: str, payload: bytes, headers: Headers) -> None:
        try:
            event = read_payload(asset_uuid, attribute_id, payload)
        except InvalidEventError as error:
            _logger.warning("A NATS message for %s.%s is skipped: %s", asset_uuid, attribute_id, error)
            return
        with self._dispatcher.lock:
            asset = self._assets.get(asset_uuid)
            if asset is None:
                return
            asset.hear(event, self._place_of(asset, headers) if headers else None)
            self._deliver_due(asset)

    def _place_of(self, asset: LiveAsset, headers: Mapping[str, str]) -> Place | None:
        """Return the place of the record in the headers of a message, or None for a message of another forwarder."""
        try:
            partition = Partition(asset.partition.topic, int(headers[PARTITION_HEADER]))
            return Place(partition, self._base() + int(headers[OFFSET_HEADER]) + 1)
        except (KeyError, ValueError):
            return None

    def _on_live(self, asset_uuids: frozenset[str]) -> None:
        with self._dispatcher.lock:
            for asset in self._known(asset_uuids):
                asset.on_nats = True
        self._work.set()

    def _on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        with self._dispatcher.lock:
            for asset in self._known(asset_uuids):
                asset.on_nats = asset.placed = False  # another forwarder may serve it afterwards
                asset.begin_repair(good_at)
        self._work.set()

    def _known(self, asset_uuids: frozenset[str]) -> list[LiveAsset]:
        return [self._assets[asset_uuid] for asset_uuid in asset_uuids if asset_uuid in self._assets]

    def _deliver_due(self, asset: LiveAsset) -> None:
        was_live = asset.live
        while (due := asset.next_due()) is not None:
            if not is_deregistration(due.event):
                self._dispatcher.deliver_to_asset(*due)
        if was_live and not asset.live:
            self._work.set()

    def _discard(self, subscription: Subscription) -> None:
        asset_uuid = subscription.asset_uuid
        assert asset_uuid is not None
        with self._dispatcher.lock:
            self._dispatcher.unsubscribe(subscription)
            if self._dispatcher.has_subscribers(asset_uuid) or self._assets.pop(asset_uuid, None) is None:
                return
            self._feed.unsubscribe(asset_uuid)

    # On the repair thread

    def _run(self) -> None:
        while not self._closed:
            with self._dispatcher.lock:
                repairing = any(not asset.live for asset in self._assets.values())
            self._work.wait(_READ_SECONDS if repairing else None)
            self._work.clear()
            if self._closed:
                return
            failure: Exception | None
            try:
                failure = self._repair()
            except Exception as error:
                failure = error
                if not self._outage.reason:
                    _logger.exception("Events that NATS may have missed could not be read from the log.")
            if failure is None:
                self._outage.end()
            elif not self._closed:
                self._outage.begin(f"Events that NATS may have missed cannot be read from the log: {failure}")

    def _repair(self) -> EngineUnavailableError | None:
        """Read each partition once for all assets that are not live, and return the error of a failed partition."""
        with self._dispatcher.lock:
            assets = {asset_uuid: asset for asset_uuid, asset in self._assets.items() if not asset.live}
            on_nats = {asset_uuid for asset_uuid, asset in assets.items() if asset.on_nats}
            repairs = {asset_uuid: asset.repairs for asset_uuid, asset in assets.items()}
            for asset in assets.values():
                asset.note_waiting()
        failure = None
        for partition in self._partitions() if assets else ():
            try:
                self._read_partition(partition, assets, repairs)
            except EngineUnavailableError as error:
                failure = error  # other partitions may have another leader
        if failure is None:
            with self._dispatcher.lock:
                for asset_uuid, asset in assets.items():
                    if asset_uuid in on_nats and asset.on_nats and asset.repairs == repairs[asset_uuid]:
                        asset.end_repair()
                        self._deliver_due(asset)
        return failure

    def _read_partition(self, partition: Partition, assets: dict[str, LiveAsset], repairs: dict[str, int]) -> None:
        """Deliver the events of some assets in a partition that were not delivered yet.

        Args:
            repairs: the number of the repair of each asset; the events of an asset are left to a newer repair.
        """
        with self._dispatcher.lock:
            for asset_uuid, asset in assets.items():
                if asset.repairs == repairs[asset_uuid]:
                    asset.begin_reading(partition)
        low, end = self._reader.bounds([partition])[partition]
        starts = self._starts_of(assets, partition, low)
        for offset, message in self._reader.read(partition, min(starts.values()), end):
            key = key_of(message)
            if key is None or offset < starts.get(key, end):
                continue
            event = self._event_of(message, partition, offset)
            if event is not None:
                with self._dispatcher.lock:
                    asset = assets[key]
                    if asset.repairs == repairs[key]:  # otherwise a new repair reads the event again
                        self._deliver_from_log(asset, event, message.timestamp()[1] / 1_000, partition, offset + 1)
        with self._dispatcher.lock:
            for asset_uuid, asset in assets.items():
                if asset.repairs == repairs[asset_uuid]:
                    asset.note_log_end(partition, end)

    def _starts_of(self, assets: dict[str, LiveAsset], partition: Partition, low: int) -> dict[str, int]:
        """Return the offset from which to read for each asset, and report a gap if the partition begins later."""
        starts: dict[str, int] = {}
        cuts: dict[float, int] = {}
        for asset_uuid, asset in assets.items():
            start = asset.log_from.get(partition)
            if start is None:
                good_at = asset.good_at // _ROUNDED_SECONDS * _ROUNDED_SECONDS
                if good_at not in cuts:
                    cuts[good_at] = self._reader.offsets_at([partition], good_at - FORWARDING_SECONDS)[partition]
                missed = max(cuts[good_at], asset.passed(partition))
                start = min(missed, asset.since.get(partition, missed))
            if start < low:
                self._report_gap(asset, partition, low)
            starts[asset_uuid] = max(start, low)
        return starts

    def _report_gap(self, asset: LiveAsset, partition: Partition, low: int) -> None:
        _logger.warning(
            "Events before offset %d of %s, partition %d are lost: NATS was away, and the log has deleted them. "
            "Subscribers get the latest values. Set a longer retention for the log.",
            low,
            *partition,
        )
        with self._dispatcher.lock:
            for subscription in list(self._dispatcher.subscriptions()):
                if self._assets.get(subscription.asset_uuid or "") is asset:
                    self._dispatcher.notify_gap(subscription)

    def _deliver_from_log(
        self, asset: LiveAsset, event: AssetEvent, recorded_at: float, partition: Partition, place: int
    ) -> None:
        was_delivered = asset.mark_delivered(event, recorded_at, partition, place)
        if is_deregistration(event):
            return
        if not was_delivered:
            self._dispatcher.deliver_to_asset(asset.with_newest_position(event), partition.number, place)
        else:
            for subscription in asset.fresh:
                self._dispatcher.call(subscription, event, partition.number, place)
