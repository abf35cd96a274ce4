"""Assets whose forwarder does not carry their events to NATS in time: their events come from the log meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from openfactory.engines.fanout.forwarder_watch import ForwarderWatch, Late, Line
from openfactory.engines.fanout.live_asset import LiveAsset
from openfactory.engines.fanout.log_access import LogAccess
from openfactory.engines.fanout.log_sample import LogSample
from openfactory.engines.fanout.nats_feed import NatsFeed
from openfactory.engines.fanout.wire import Progress
from openfactory.exceptions import EngineUnavailableError
from openfactory.logs.outage import Outage
from openfactory.settings import setting

__all__ = ["LOOK_SECONDS", "LateAssets"]

_logger = logging.getLogger("openfactory.engines.fanout")

#: Time between two looks at the forwarders, in seconds.
LOOK_SECONDS = 2.0

# Time after the acknowledgement of an own write in which its message arrives, in seconds.
_ECHO_SECONDS = 5.0

# Time between two looks at the log for events that have not arrived, in seconds; they have twice as long to do so.
_SAMPLE_SECONDS = 4.0


class LateAssets:
    """Keeps the assets of late forwarders late, and logs each forwarder that stands still once.

    Args:
        assets: the assets with subscriptions.
        lock: returns the dispatcher's lock, which guards the assets.
        feed: the feed of the assets.
        log: the log.
    """

    def __init__(
        self,
        assets: Mapping[str, LiveAsset],
        lock: Callable[[], threading.RLock],
        feed: NatsFeed,
        log: LogAccess,
    ) -> None:
        group = setting("KAFKA_GROUP") or ""
        self._assets = assets
        self._lock = lock
        self._feed = feed
        self._log = log
        self._watch = ForwarderWatch(self._ends, lambda: log.committed(group), group)
        self._sample = LogSample(log, lock)
        self._sampled_at = 0.0
        self._writing: dict[LiveAsset, None] = {}
        self._lacking: dict[Line, tuple[LiveAsset, float]] = {}
        self._applied: Mapping[Line, Late] = {}
        self._taken_over: dict[str, float | None] = {}
        self._concerned: set[Line] = set()  # the late lines that have assets
        self._outages: dict[str, Outage] = {}
        self._looked_at = 0.0

    def trouble(self) -> str:
        """Return why the events of some assets are late, or an empty text."""
        reasons = (outage.reason for outage in list(self._outages.values()) if outage.reason)
        return next(reasons, "") if self._assets else ""

    def note_progress(self, cluster: str, partition: int, progress: Progress) -> None:
        """Note the progress of a forwarder, unless it is that of another factory on the same cluster."""
        if progress.topic == self._log.topic:
            self._watch.note_progress(cluster, partition, progress)

    def note_writing(self, asset: LiveAsset) -> None:
        """Note that echoes of own writes to an asset are expected."""
        self._writing[asset] = None

    def look(self) -> None:
        """Look at the forwarders, at most every two seconds, while there are assets."""
        if time.monotonic() < self._looked_at + LOOK_SECONDS / 2:
            return
        with self._lock():
            if not self._assets:
                # What was found then says nothing of the time when there are assets again.
                self._watch.late, self._applied = {}, {}
                self._concerned.clear()
                self._outages.clear()
                return
        self._looked_at = time.monotonic()
        try:
            self._take_sample()
            with self._lock():
                overdue = self._overdue()
            self._watch.look(self._feed.clusters(), LOOK_SECONDS, overdue)
        except EngineUnavailableError:
            return  # an outage is logged elsewhere
        self._find_takeovers()
        changed = self._watch.late.keys() != self._applied.keys()
        with self._lock():
            self._applied = self._watch.late
            if changed:
                self._concerned.clear()
                for asset in self._assets.values():
                    self.judge(asset)
        self._report({line: late for line, late in self._applied.items() if line in self._concerned})

    def judge(self, asset: LiveAsset) -> None:
        """Make an asset late if its forwarder is, or end that. The caller owns the dispatcher's lock."""
        found = self._late_lines(asset) if self._applied else []
        self._concerned.update(found)
        if found and not asset.late:
            asset.begin_late(min(self._applied[line].good_at for line in found))
        elif not found:
            asset.late = False

    def _find_takeovers(self) -> None:
        """Begin repairs where a forwarder whose messages have places has just replaced another one."""
        clusters = self._feed.clusters()
        began = {cluster: self._watch.taken_over_at(cluster, since) for cluster, since in clusters.items()}
        if began == self._taken_over:
            return
        self._taken_over = began
        with self._lock():
            for asset in self._assets.values():
                at = began.get(self._feed.cluster_of(asset.asset_uuid) or "")
                if at is not None and asset.live and asset.live_at < at and not asset.placed:
                    asset.begin_takeover()

    def is_taken_over(self, asset: LiveAsset) -> bool:
        """Return whether another forwarder has served a live asset whose first message with a place arrives now."""
        cluster, now = self._feed.cluster_of(asset.asset_uuid) or "", time.monotonic()
        at = self._watch.taken_over_at(cluster, self._feed.clusters().get(cluster), now)
        return at is not None and asset.live_at < at

    def begin_log(self) -> None:
        """Forget the positions in the former log."""
        self._watch.begin_log()

    def _late_lines(self, asset: LiveAsset) -> list[Line]:
        cluster = self._feed.cluster_of(asset.asset_uuid)
        if cluster is None:
            return []
        lines = (Line(cluster, place.number) for place in self._log.places_of(asset.asset_uuid))
        return [line for line in lines if line in self._applied]

    def _take_sample(self) -> None:
        """Look for events that have not arrived on the clusters of whose forwarders nothing is known."""
        now = time.monotonic()
        if not self._watch.unknown or now < self._sampled_at + _SAMPLE_SECONDS:
            return
        self._sampled_at = now
        with self._lock():
            clusters = {uuid: self._feed.cluster_of(uuid) for uuid, asset in self._assets.items() if asset.live}
            assets = [self._assets[uuid] for uuid, cluster in clusters.items() if cluster in self._watch.unknown]
        for asset, partition, recorded_at in self._sample.look(assets, now):
            line = Line(clusters[asset.asset_uuid] or "", partition.number)
            self._lacking.setdefault(line, (asset, recorded_at))

    def _overdue(self) -> dict[Line, float]:
        """Return the lines on which events do not arrive, until the newest event has arrived."""
        for asset in list(self._writing):
            if not asset.own or asset.placed or self._assets.get(asset.asset_uuid) is not asset:
                self._writing.pop(asset, None)
            elif asset.live and (written_at := asset.own.overdue_since(_ECHO_SECONDS)) is not None:
                cluster = self._feed.cluster_of(asset.asset_uuid)
                if cluster is not None:
                    self._lacking.setdefault(Line(cluster, asset.partition.number), (asset, written_at))
        for line, (asset, _) in list(self._lacking.items()):
            if self._assets.get(asset.asset_uuid) is not asset or (asset.late and asset.has_caught_up):
                del self._lacking[line]
        return {line: written_at for line, (_, written_at) in self._lacking.items()}

    def _report(self, late: Mapping[Line, Late]) -> None:
        """Begin and end the outage of each cluster.

        Args:
            late: the late lines of the assets of this process.
        """
        reasons: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for line, (reason, _) in late.items():
            reasons[line.cluster][line.partition] = reason
        for cluster, by_partition in reasons.items():
            outage = self._outages.get(cluster)
            if outage is None:
                outage = self._outages[cluster] = Outage(
                    _logger,
                    meanwhile="Until it keeps up, the events come from the log.",
                    over=f"The asset forwarder to NATS at {cluster} keeps up again.",
                )
            numbers = ", ".join(map(str, sorted(by_partition)))
            outage.begin(
                f"The asset forwarder to NATS at {cluster} stands still (partition {numbers}): "
                f"{next(iter(by_partition.values()))}. Read its log, or restart it."
            )
        for cluster, outage in self._outages.items():
            if cluster not in reasons:
                outage.end()

    def _ends(self) -> dict[int, int]:
        base = self._log.base()
        ends = self._log.reader.ends(self._log.partitions())
        return {partition.number: end - base for partition, end in ends.items()}
