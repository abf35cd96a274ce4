"""Reading of the partitions in which events of the wanted assets are possible, but have never been seen.

Other programs may write an asset's events to another partition than OpenFactory. To follow these partitions too would
double what a process reads, so their new records are read once a second, and before each answer that must be complete.
When an event of a wanted asset is found in one, the feed follows it from then on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress

from openfactory.engines.kafka_engine.interest import Interest
from openfactory.engines.kafka_engine.log_feed import LogFeed
from openfactory.engines.kafka_engine.log_reader import LogReader, key_of
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.exceptions import EngineClosedError, EngineUnavailableError

__all__ = ["SideReader"]

_logger = logging.getLogger("openfactory.kafka")

_INTERVAL_SECONDS = 1.0

# Reads of one partition before a caller goes on, while other threads ask for further assets.
_TRIES = 3


class SideReader:
    """Reads the partitions that the feed knows, but does not follow.

    Args:
        reader: reader for the log.
        feed: returns the feed.
        interest: the wanted records.
        delivering: returns a context that owns the dispatcher's lock, in which a thread delivers events.
    """

    def __init__(
        self,
        reader: LogReader,
        feed: Callable[[], LogFeed],
        interest: Interest,
        delivering: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._reader = reader
        self._feed = feed
        self._interest = interest
        self._delivering = delivering
        self._reading = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read now and then, on a thread. The caller owns the dispatcher's lock."""
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="openfactory-log-side", daemon=True)
            self._thread.start()

    def close(self, timeout: float) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def is_aside(self, partition: Partition) -> bool:
        """Return whether a partition is read here."""
        return partition in self._feed().positions and partition not in self._interest.expected

    def read(self, ends: Mapping[Partition, int]) -> None:
        """Read the new records of those partitions among some that are read here.

        Args:
            ends: the present ends, by partition; one that is read up to there has no new records.

        Raises:
            EngineUnavailableError: the broker does not send the records.
        """
        with self._reading:
            for partition, end in ends.items():
                for _ in range(_TRIES):
                    if not self.is_aside(partition) or self._read(partition, end):
                        break

    def _read(self, partition: Partition, end: int) -> bool:
        """Read the new records of a partition, and return whether they are delivered."""
        feed, interest = self._feed(), self._interest
        with self._delivering():
            start = feed.positions.get(partition)
            if start is None or start == end or feed.is_restarted:
                return True
            changes, keys = interest.changes, interest.keys_in(partition)
        low, high = self._reader.bounds([partition])[partition]
        if start == high:
            return True
        is_whole = low <= start < high
        found = list(self._reader.read_part(partition, start, high, keys)) if is_whole else []
        with self._delivering():
            if feed.positions.get(partition) != start or interest.changes != changes or feed.is_restarted:
                return False
            if not is_whole:
                interest.expect(None, partition)  # the feed tells of lost records
            for offset, message in found:
                feed.positions[partition] = offset
                interest.expect(key_of(message), partition)
                feed.hand_over(partition, offset, message)
                if feed.positions.get(partition) != offset:
                    return True  # nothing of the partition is needed any more
                feed.positions[partition] = offset + 1
                if interest.changes != changes:
                    break  # a callback has asked for an asset, whose records may be next: the feed goes on with them
            else:
                if is_whole:
                    feed.positions[partition] = high
            if partition in interest.expected:
                feed.change()
            return True

    def _run(self) -> None:
        while not self._closed.wait(_INTERVAL_SECONDS):
            with self._delivering():
                aside = [partition for partition in self._feed().positions if self.is_aside(partition)]
            try:
                with suppress(EngineUnavailableError):  # an outage is logged
                    self.read(self._reader.ends(aside))
            except EngineClosedError:
                return
            except Exception:
                _logger.exception("Partitions in which no events are expected could not be read. They are read again.")
