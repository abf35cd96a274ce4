"""The threads that wait until a feed has delivered the records which they need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from openfactory.engines.kafka_engine.log_reader import Partition

__all__ = ["FeedWaits"]

# Seconds to wait for records that an open transaction seems to hold back.
_PATIENCE_SECONDS = 1.0


class FeedWaits:
    """The waits for records that a feed has to deliver.

    Args:
        positions: returns the positions of the feed by partition, or None while another log takes the place of the
            present one.
        is_closed: returns whether the feed is closed.

    Attributes:
        count: number of threads that wait.
    """

    def __init__(self, positions: Callable[[], Mapping[Partition, int] | None], is_closed: Callable[[], bool]) -> None:
        self.count = 0
        self._positions = positions
        self._is_closed = is_closed
        self._moved = threading.Condition()
        self._held: dict[Partition, int] = {}  # positions at which a wait was given up because of an open transaction

    def has_passed(self, offsets: Mapping[Partition, int]) -> bool:
        """Return whether the records before some offsets are delivered."""
        positions = self._positions()
        if positions is None:
            return False
        return all(positions.get(partition, 0) >= offset for partition, offset in offsets.items())

    def wait_for(
        self, offsets: Mapping[Partition, int], readable: Mapping[Partition, int], stall_seconds: float
    ) -> bool:
        """Wait until the records before some offsets are delivered; see `LogFeed.wait_for`."""
        with self._moved:
            self.count += 1
            try:
                while not self.has_passed(offsets):
                    before = self._sum()
                    begin = time.monotonic()
                    while self._sum() == before and not self.has_passed(offsets):
                        waited = time.monotonic() - begin
                        if self._is_closed() or waited >= stall_seconds or self._gives_up(offsets, readable, waited):
                            return self.has_passed(offsets)
                        self._moved.wait(stall_seconds - waited)
                return True
            finally:
                self.count -= 1

    def is_held_back(self) -> bool:
        """Return whether the last wait ended because a partition had no more readable records."""
        positions = self._positions() or {}
        return any(positions.get(partition) == position for partition, position in self._held.items())

    def begin_log(self) -> None:
        """Forget the waits that were given up on a former log."""
        self._held.clear()

    def wake(self) -> None:
        """Have the threads look at the positions."""
        with self._moved:
            self._moved.notify_all()

    def _sum(self) -> int:
        return sum((self._positions() or {}).values())

    def _gives_up(self, offsets: Mapping[Partition, int], readable: Mapping[Partition, int], waited: float) -> bool:
        """Return whether a wait is of no use, because all records are read that the broker permits to read."""
        positions = self._positions()
        if positions is None:
            return False
        awaited = [partition for partition, offset in offsets.items() if positions.get(partition, 0) < offset]
        if any(self._held.get(partition) != positions.get(partition) for partition in awaited):
            if waited < _PATIENCE_SECONDS or any(positions.get(one, 0) < readable.get(one, 0) for one in awaited):
                return False
            self._held.update((partition, positions.get(partition, 0)) for partition in awaited)
        return True
