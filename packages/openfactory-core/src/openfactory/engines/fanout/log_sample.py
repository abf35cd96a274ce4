"""Sample of the log that shows whether NATS lacks events, where nothing else tells of the forwarder."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from openfactory.engines.fanout.live_asset import LiveAsset
from openfactory.engines.fanout.log_access import LogAccess
from openfactory.engines.kafka_engine.log_reader import Partition, key_of

__all__ = ["LogSample", "Missed"]

# Records of a partition that are read at once: the newest of those that are a look old.
_MAX_RECORDS = 200


class Missed(NamedTuple):
    """An event in the log that has not arrived on NATS, and the time of its record in seconds since 1970."""

    asset: LiveAsset
    partition: Partition
    recorded_at: float


class LogSample:
    """Looks at the ends of the partitions, and reads some records of those that move while nothing of them arrives.

    Args:
        log: the log.
        lock: returns the dispatcher's lock, which guards the assets.
    """

    def __init__(self, log: LogAccess, lock: Callable[[], threading.RLock]) -> None:
        self._log = log
        self._lock = lock
        self._ends: Mapping[Partition, int] = {}  # at the last look
        self._former_ends: Mapping[Partition, int] = {}  # at the look before it
        self._looked_at = 0.0

    def look(self, assets: Collection[LiveAsset], now: float) -> Iterator[Missed]:
        """Yield the events that have not arrived since the last look.

        Args:
            assets: the assets that count as live.
            now: time by the monotonic clock.

        Raises:
            EngineUnavailableError: the broker does not answer.
        """
        starts, ends = self._former_ends, self._ends
        looked_at, self._looked_at = self._looked_at, now
        self._former_ends, self._ends = ends, self._log.reader.ends(self._log.partitions())
        quiet: defaultdict[Partition, dict[str, LiveAsset]] = defaultdict(dict)
        busy: set[Partition] = set()
        for asset in assets:
            for place in self._log.places_of(asset.asset_uuid):
                quiet[place][asset.asset_uuid] = asset
                if asset.heard_at > looked_at:
                    busy.add(place)
        for partition, by_uuid in quiet.items():
            start, end = starts.get(partition, 0), ends.get(partition, 0)
            if partition not in busy and partition in starts and start < end:
                yield from self._missed(partition, max(start, end - _MAX_RECORDS), end, by_uuid)

    def _missed(self, partition: Partition, start: int, end: int, assets: Mapping[str, LiveAsset]) -> Iterator[Missed]:
        keys = {asset_uuid.encode() for asset_uuid in assets}
        for offset, message in self._log.reader.read(partition, start, end, keys):
            event = self._log.event_of(message, partition, offset)
            asset = assets.get(key_of(message) or "")
            if event is not None and asset is not None:
                with self._lock():
                    is_missed = asset.live and asset.lacks(event, partition, offset + 1)
                if is_missed:
                    yield Missed(asset, partition, message.timestamp()[1] / 1_000)
                    return
