"""Live events from NATS, with a repair from the log: missed events arrive in the order of the log, and no event twice.

The headers of a message from a forwarder of OpenFactory have the place of its record in the log. A message from another
forwarder has no place. It is the same event as a record of the log if id, timestamp and value are equal. Its position
is estimated as one more than the position of the event before it. The estimate is never greater than the true position,
because the messages of an asset arrive in the order of the log. The echo of an own write has the position of its
receipt. An event outside of its asset's partition has no true position, only an estimate.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from openfactory.engines.base import LogPosition, OnEvent, OnGap, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.engines.fanout.late_assets import LOOK_SECONDS, LateAssets
from openfactory.engines.fanout.live_asset import LiveAsset, Place
from openfactory.engines.fanout.log_access import LogAccess
from openfactory.engines.fanout.log_repair import LogRepair
from openfactory.engines.fanout.nats_hub import Headers
from openfactory.engines.fanout.wire import OFFSET_HEADER, PARTITION_HEADER
from openfactory.engines.kafka_engine.fold import is_deregistration
from openfactory.engines.kafka_engine.log_reader import Partition
from openfactory.events.event import AssetEvent
from openfactory.events.message import read_payload
from openfactory.events.receipt import Receipt
from openfactory.exceptions import InvalidEventError
from openfactory.settings.credentials import Credentials

__all__ = ["NatsLive"]

_logger = logging.getLogger("openfactory.engines")


class NatsLive:
    """Live events of the subscribed assets: from NATS, and from the log while NATS does not carry them.

    Args:
        router: the asset router, closed with this object.
        credentials: login and certificate authorities of NATS.
        dispatcher: delivers events to subscriptions.
        log: the log; its reader is closed with this object.
    """

    def __init__(
        self,
        router: AssetRouter,
        credentials: Credentials,
        dispatcher: Dispatcher,
        log: LogAccess,
    ) -> None:
        self._dispatcher = dispatcher
        self._log = log
        self._router = router
        self._assets: dict[str, LiveAsset] = {}
        self._feed = NatsFeed(
            router,
            on_message=self._on_message,
            on_live=self._on_live,
            on_cut=self._on_cut,
            on_progress=lambda *progress: self._late.note_progress(*progress),
            credentials=credentials,
        )
        self._late = LateAssets(self._assets, lambda: dispatcher.lock, self._feed, log)
        self._repair = LogRepair(self._assets, dispatcher, log, self._deliver_due, self._late.look, LOOK_SECONDS)

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
            self._repair.start()
        self._repair.wake()
        return subscription

    def publish_own(self, event: AssetEvent, publish: Callable[[AssetEvent], Receipt]) -> Receipt:
        """Publish an event, and expect its echo if the asset has subscriptions."""
        asset = self._assets.get(event.asset_uuid)
        if asset is None or asset.placed:
            return publish(event)
        write = asset.own.expect(event)
        self._late.note_writing(asset)
        receipt: Receipt | None = None
        try:
            receipt = publish(event)
            return receipt
        finally:
            asset.own.note_receipt(write, receipt)

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
        self._late.begin_log()
        for asset_uuid, asset in self._assets.items():
            asset.begin_log(partition_of(asset_uuid))
        self._repair.wake()

    def trouble(self) -> str:
        """Return why events are missing or late, or an empty text."""
        return self._repair.trouble or self._feed.trouble() or self._late.trouble()

    def close(self, timeout: float) -> None:
        """Stop all deliveries, and close the feed, the router and the reader."""
        self._repair.end()
        self._feed.close(timeout)
        self._router.close()
        self._repair.close(timeout)

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
            place = self._place_of(asset, headers) if headers else None
            if place is not None and not asset.placed and asset.live and self._late.is_taken_over(asset):
                asset.begin_takeover()
                self._repair.wake()
            asset.hear(event, place)
            self._deliver_due(asset)

    def _place_of(self, asset: LiveAsset, headers: Mapping[str, str]) -> Place | None:
        """Return the place of the record in the headers of a message, or None for a message of another forwarder."""
        try:
            partition = Partition(asset.partition.topic, int(headers[PARTITION_HEADER]))
            return Place(partition, self._log.base() + int(headers[OFFSET_HEADER]) + 1)
        except (KeyError, ValueError):
            return None

    def _on_live(self, asset_uuids: frozenset[str]) -> None:
        with self._dispatcher.lock:
            for asset in self._known(asset_uuids):
                asset.on_nats = True
                self._late.judge(asset)
        self._repair.wake()

    def _on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        with self._dispatcher.lock:
            for asset in self._known(asset_uuids):
                asset.on_nats = asset.placed = False  # another forwarder may serve it afterwards
                asset.begin_repair(good_at)
        self._repair.wake()

    def _known(self, asset_uuids: frozenset[str]) -> list[LiveAsset]:
        return [self._assets[asset_uuid] for asset_uuid in asset_uuids if asset_uuid in self._assets]

    def _deliver_due(self, asset: LiveAsset) -> None:
        was_live = asset.live
        while (due := asset.next_due()) is not None:
            if not is_deregistration(due.event):
                self._dispatcher.deliver_to_asset(*due)
        if was_live and not asset.live:
            self._repair.wake()

    def _discard(self, subscription: Subscription) -> None:
        asset_uuid = subscription.asset_uuid
        assert asset_uuid is not None
        with self._dispatcher.lock:
            self._dispatcher.unsubscribe(subscription)
            if self._dispatcher.has_subscribers(asset_uuid) or self._assets.pop(asset_uuid, None) is None:
                return
            self._feed.unsubscribe(asset_uuid)
