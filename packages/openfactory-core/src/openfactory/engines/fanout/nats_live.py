"""Live events from NATS, repaired from the log: what was missed comes in the order of the log, and nothing twice.

A message on NATS tells no offset. It is the same event as a record of the log where id, time and value are the same.
Its position is estimated: one more than the last, which is never more than the true one, because on NATS, too, the
events of an asset come in the order of the log; the echo of an own write has the position of its receipt.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from openfactory.engines.base import OnEvent, OnGap, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.engines.fanout.live_asset import FORWARDING_SECONDS, LiveAsset
from openfactory.engines.kafka_engine.fold import is_deregistration
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition, key_of
from openfactory.events.event import AssetEvent
from openfactory.events.message import read_payload
from openfactory.events.receipt import Receipt
from openfactory.exceptions import EngineUnavailableError, InvalidEventError
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["NatsLive"]

_logger = logging.getLogger("openfactory.engines")

# How often the log is read for assets that NATS does not carry now, in seconds.
_READ_SECONDS = 1.0

_MISSED = "What NATS may have missed cannot be read from the log:"

_EventOf = Callable[["Message", Partition, int], AssetEvent | None]


class NatsLive:
    """Hears assets on NATS, and reads the log for those that NATS does not carry at the moment.

    Args:
        router: says which NATS cluster carries an asset.
        dispatcher: hands events on.
        reader: reads the log; nobody else uses it.
        event_of: the event of a record, None where it is none.
    """

    def __init__(
        self,
        router: AssetRouter,
        credentials: Credentials,
        dispatcher: Dispatcher,
        reader: LogReader,
        event_of: _EventOf,
    ) -> None:
        self._dispatcher = dispatcher
        self._reader = reader
        self._event_of = event_of
        self._router = router
        self._assets: dict[str, LiveAsset] = {}
        self._closed = False
        self._trouble = ""
        self._work = threading.Event()
        self._thread: threading.Thread | None = None
        self._feed = NatsFeed(
            router, on_message=self._on_message, on_live=self._on_live, on_cut=self._on_cut, credentials=credentials
        )

    def subscribe(
        self, asset_uuid: str, partition: Partition, on_event: OnEvent, on_gap: OnGap | None, start: int
    ) -> Subscription:
        """Hand on the events of an asset behind a position; those that are there already come soon after."""
        with self._dispatcher.lock:
            asset = self._assets.get(asset_uuid)
            if asset is None:
                self._feed.subscribe(asset_uuid)
                self._assets[asset_uuid] = LiveAsset(asset_uuid, partition, start)
            subscription = self._dispatcher.add(asset_uuid, on_event, on_gap, start)
            subscription.when_closed(self._forget)
            if asset is not None:
                asset.hear_again(subscription, start)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="openfactory-repair", daemon=True)
                self._thread.start()
        self._work.set()
        return subscription

    def publish_own(self, event: AssetEvent, publish: Callable[[AssetEvent], Receipt]) -> Receipt:
        """Publish an event that comes back if its asset is heard."""
        asset = self._assets.get(event.asset_uuid)
        if asset is None:
            return publish(event)
        write, receipt = asset.expect_own(event), None
        try:
            receipt = publish(event)
        finally:
            asset.note_own(write, receipt)
        return receipt

    def acquire(self, asset_uuids: Collection[str] | None) -> list[LiveAsset]:
        """Somebody begins to read these assets from the log: what comes meanwhile waits until that is let go."""
        with self._dispatcher.lock:
            concerned = self._assets if asset_uuids is None else asset_uuids
            held = [self._assets[asset_uuid] for asset_uuid in concerned if asset_uuid in self._assets]
            for asset in held:
                asset.readers += 1
            return held

    def release(self, held: list[LiveAsset], read: Iterable[AssetEvent], ends: Mapping[Partition, int]) -> None:
        """These events were read, the newest before some ends."""
        by_asset: defaultdict[str, list[AssetEvent]] = defaultdict(list)
        for event in read:
            by_asset[event.asset_uuid].append(event)
        with self._dispatcher.lock:
            for asset in held:
                asset.readers -= 1
                asset.note_read(by_asset[asset.asset_uuid], ends.get(asset.partition, 0))
                self._deliver_due(asset)

    def trouble(self) -> str:
        """Why events do not come as they should; empty if they do."""
        return self._trouble or self._feed.trouble()

    def close(self, timeout: float) -> None:
        """Hear nothing any more."""
        self._closed = True
        self._work.set()
        self._feed.close(timeout)
        self._router.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._reader.close()

    # On the threads of NATS

    def _on_message(self, asset_uuid: str, attribute_id: str, payload: bytes) -> None:
        try:
            event = read_payload(asset_uuid, attribute_id, payload)
        except InvalidEventError as error:
            _logger.warning("A NATS message for %s.%s is skipped: %s", asset_uuid, attribute_id, error)
            return
        with self._dispatcher.lock:
            asset = self._assets.get(asset_uuid)
            if asset is None:
                return
            asset.pending.append(event)
            self._deliver_due(asset)

    def _on_live(self, asset_uuids: frozenset[str]) -> None:
        with self._dispatcher.lock:
            for asset in self._those(asset_uuids):
                asset.on_nats = True
        self._work.set()

    def _on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        with self._dispatcher.lock:
            for asset in self._those(asset_uuids):
                asset.on_nats = False
                asset.begin_repair(good_at)
        self._work.set()

    def _those(self, asset_uuids: frozenset[str]) -> list[LiveAsset]:
        return [self._assets[asset_uuid] for asset_uuid in asset_uuids if asset_uuid in self._assets]

    def _deliver_due(self, asset: LiveAsset) -> None:
        for event in asset.due():
            placed = asset.with_position(event)
            if placed is not None and not is_deregistration(placed):
                self._dispatcher.deliver_to_asset(placed, asset.partition.number)

    def _forget(self, subscription: Subscription) -> None:
        asset_uuid = subscription.asset_uuid
        assert asset_uuid is not None
        with self._dispatcher.lock:
            self._dispatcher.unsubscribe(subscription)
            if self._dispatcher.has_subscribers(asset_uuid) or self._assets.pop(asset_uuid, None) is None:
                return
            self._feed.unsubscribe(asset_uuid)

    # On the thread that repairs

    def _run(self) -> None:
        while not self._closed:
            with self._dispatcher.lock:
                repairing = any(not asset.live for asset in self._assets.values())
            self._work.wait(_READ_SECONDS if repairing else None)
            self._work.clear()
            if self._closed:
                return
            error: Exception | None
            try:
                error = self._repair()
            except Exception as unexpected:
                error = unexpected
                if not self._trouble:
                    _logger.exception("What NATS may have missed could not be read from the log.")
            if error is not None and not self._trouble and not self._closed:
                _logger.warning("%s %s It is tried again until it can.", _MISSED, error)
            self._trouble = "" if error is None else f"{_MISSED} {error}"

    def _repair(self) -> EngineUnavailableError | None:
        """Read the log for all assets that are not live, each partition once; gives back why one could not be read."""
        by_partition: defaultdict[Partition, dict[str, LiveAsset]] = defaultdict(dict)
        with self._dispatcher.lock:
            for asset_uuid, asset in self._assets.items():
                if not asset.live:
                    by_partition[asset.partition][asset_uuid] = asset
        failure = None
        for partition, assets in by_partition.items():
            try:
                self._repair_partition(partition, assets)
            except EngineUnavailableError as error:
                failure = error  # others may have another leader
        return failure

    def _repair_partition(self, partition: Partition, assets: dict[str, LiveAsset]) -> None:
        with self._dispatcher.lock:
            on_nats = {asset_uuid for asset_uuid, asset in assets.items() if asset.on_nats}
            repairs = {asset_uuid: asset.repairs for asset_uuid, asset in assets.items()}
            for asset in assets.values():
                asset.begin_reading()
        low, end = self._reader.bounds([partition])[partition]
        starts = {asset_uuid: self._start_of(asset, low) for asset_uuid, asset in assets.items()}
        for message in self._reader.read(partition, min(starts.values()), end):
            asset_uuid, offset = key_of(message), message.offset() or 0
            if asset_uuid is None or offset < starts.get(asset_uuid, end):
                continue
            event = self._event_of(message, partition, offset)
            if event is not None:
                with self._dispatcher.lock:
                    asset = assets[asset_uuid]
                    if asset.repairs == repairs[asset_uuid]:  # else it is read again, from where somebody wants it
                        self._tell_from_log(asset, event, message.timestamp()[1] / 1_000)
        with self._dispatcher.lock:
            for asset_uuid, asset in assets.items():
                if asset.repairs != repairs[asset_uuid]:
                    continue
                asset.was_read_to(end)
                if asset_uuid in on_nats and asset.on_nats:
                    asset.end_repair()
                    self._deliver_due(asset)

    def _start_of(self, asset: LiveAsset, low: int) -> int:
        """The offset from which the log is read for an asset; what it has lost is told."""
        start = asset.log_from
        if start is None:
            at = self._reader.offsets_at([asset.partition], asset.good_at - FORWARDING_SECONDS)[asset.partition]
            start = at if asset.since is None else min(at, asset.since)
        if start < low:
            _logger.warning(
                "The log has lost what stands before offset %d of %s, partition %d, and NATS was away. Subscribers get "
                "the latest values; keep more of the log by a longer retention.",
                low,
                *asset.partition,
            )
            with self._dispatcher.lock:
                for subscription in list(self._dispatcher.subscriptions()):
                    if self._assets.get(subscription.asset_uuid or "") is asset:
                        self._dispatcher.notify_gap(subscription)
        return max(start, low)

    def _tell_from_log(self, asset: LiveAsset, event: AssetEvent, recorded_at: float) -> None:
        heard = asset.was_heard(event, recorded_at)
        if is_deregistration(event):
            return
        if not heard:
            self._dispatcher.deliver_to_asset(event, asset.partition.number)
        else:
            for subscription in asset.fresh:
                self._dispatcher.call(subscription, event, asset.partition.number)
