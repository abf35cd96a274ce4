"""Repair of live events from the log: the events that NATS has missed, in the order of the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.fanout.content_memory import FORWARDING_SECONDS
from openfactory.engines.fanout.live_asset import LiveAsset
from openfactory.engines.fanout.log_access import LogAccess
from openfactory.engines.kafka_engine.fold import is_deregistration
from openfactory.engines.kafka_engine.log_reader import Partition, key_of
from openfactory.events.event import AssetEvent
from openfactory.exceptions import EngineUnavailableError
from openfactory.logs.outage import Outage

__all__ = ["LogRepair"]

_logger = logging.getLogger("openfactory.engines")

# Time between two readings of the log for assets that NATS does not carry now, in seconds.
_READ_SECONDS = 1.0

# Good times are rounded down to this many seconds, so that one request finds the offsets for many assets.
_ROUNDED_SECONDS = 0.5


class LogRepair:
    """Reads the events of the assets that are not live, on a thread, until NATS carries all of them again.

    Args:
        assets: the assets with subscriptions; the dispatcher's lock guards them.
        dispatcher: delivers events to subscriptions.
        log: the log; its reader is closed with this object.
        deliver_due: delivers the messages of an asset that is live.
        look: called on the thread before each reading, and from time to time between them.
        look_seconds: time between two calls of `look`.
    """

    def __init__(
        self,
        assets: Mapping[str, LiveAsset],
        dispatcher: Dispatcher,
        log: LogAccess,
        deliver_due: Callable[[LiveAsset], None],
        look: Callable[[], None],
        look_seconds: float,
    ) -> None:
        self._assets = assets
        self._dispatcher = dispatcher
        self._log = log
        self._deliver_due = deliver_due
        self._look = look
        self._look_seconds = look_seconds
        self._closed = False
        self._outage = Outage(
            _logger,
            meanwhile="Retrying until it succeeds.",
            over="Events that NATS may have missed can be read from the log again.",
        )
        self._look_outage = Outage(
            _logger, meanwhile="Retrying until it succeeds.", over="The asset forwarders can be watched again."
        )
        self._work = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def trouble(self) -> str:
        """Why events cannot be read from the log, or the forwarders not be watched, or an empty text."""
        return self._outage.reason or self._look_outage.reason

    def start(self) -> None:
        """Start the thread, unless it runs. The caller owns the dispatcher's lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="openfactory-repair", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Read the log now for the assets that are not live."""
        self._work.set()

    def end(self) -> None:
        """Let the thread end, without waiting for it."""
        self._closed = True
        self._work.set()

    def close(self, timeout: float) -> None:
        """End the thread, and close the reader."""
        self.end()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        self._log.reader.close()

    def _run(self) -> None:
        while not self._closed:
            with self._dispatcher.lock:
                repairing = any(not asset.live for asset in self._assets.values())
            self._work.wait(_READ_SECONDS if repairing else self._look_seconds)
            self._work.clear()
            if self._closed:
                return
            self._attempt(self._look, self._look_outage, "The asset forwarders cannot be watched")
            self._attempt(self._repair, self._outage, "Events that NATS may have missed cannot be read from the log")

    def _attempt(self, work: Callable[[], Exception | None], outage: Outage, problem: str) -> None:
        """Do a part of the work. Its outage lasts until the part succeeds; the other part does not depend on it."""
        failure: Exception | None
        try:
            failure = work()
        except Exception as error:
            failure = error
            if not outage.reason and not self._closed:
                _logger.exception("%s.", problem)
        if failure is None:
            outage.end()
        elif not self._closed:
            outage.begin(f"{problem}: {failure}")

    def _repair(self) -> EngineUnavailableError | None:
        """Read each partition once for all assets that are not live, and return the error of a failed partition."""
        with self._dispatcher.lock:
            assets = {asset_uuid: asset for asset_uuid, asset in self._assets.items() if not asset.live}
            on_nats = {asset_uuid for asset_uuid, asset in assets.items() if asset.is_on_nats}
            repairs = {asset_uuid: asset.repairs for asset_uuid, asset in assets.items()}
            for asset in assets.values():
                asset.note_waiting()
        failure = None
        for partition in self._log.partitions() if assets else ():
            try:
                self._read_partition(partition, assets, repairs)
            except EngineUnavailableError as error:
                failure = error  # other partitions may have another leader
        if failure is None:
            with self._dispatcher.lock:
                for asset_uuid, asset in assets.items():
                    if asset.repairs == repairs[asset_uuid]:
                        asset.note_all_read()
                        if asset_uuid in on_nats and asset.is_on_nats:
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
        low, end = self._log.reader.bounds([partition])[partition]
        starts = self._starts_of(assets, partition, low)
        for offset, message in self._log.reader.read(partition, min(starts.values()), end):
            key = key_of(message)
            if key is None or offset < starts.get(key, end):
                continue
            event = self._log.event_of(message, partition, offset)
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
                    cuts[good_at] = self._log.reader.offsets_at([partition], good_at - FORWARDING_SECONDS)[partition]
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
