"""The progress of a forwarder in its partitions: its positions in the log, and its lag."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["PartitionProgress"]

# Seconds for which a group says that it is new. Progress is told every second.
_NEW_SECONDS = 5.0


@dataclass
class PartitionProgress:
    """The progress in one partition.

    Attributes:
        position: the offset up to which NATS has all records of the cluster.
        end: the end of the partition, as far as it is known.
        committed: the position that was committed last.
    """

    position: int
    end: int
    committed: int = field(init=False)
    _new_until: float = 0.0
    _log_time: float = 0.0
    _complete_at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.committed = self.position

    def begin_new(self) -> None:
        """Note that the group is new, and begins here without the records before."""
        self._new_until = time.monotonic() + _NEW_SECONDS

    @property
    def is_new(self) -> bool:
        """Whether the group has just begun here: watchers that are connected must hear it."""
        return time.monotonic() < self._new_until

    def advance(self, position: int, log_time: float) -> None:
        """Note that NATS has the records before an offset.

        Args:
            position: the offset.
            log_time: the time of the last of these records, in seconds since 1970.
        """
        self.position = position
        self.end = max(self.end, position)
        self._log_time = max(self._log_time, log_time)

    def note_end(self, end: int) -> None:
        """Note the end of the partition, unless it is negative, which means that it is not known."""
        if end < 0:
            return
        self.end = max(end, self.position)
        if self.lag_events == 0:
            self._complete_at = time.time()

    @property
    def lag_events(self) -> int:
        """Number of records before the end that NATS may lack; some may belong to other clusters."""
        return self.end - self.position

    @property
    def lag_seconds(self) -> float:
        """Greatest possible age of the oldest record that NATS lacks, in seconds; 0 if it has all of them."""
        if self.lag_events == 0:
            return 0.0
        return max(time.time() - max(self._complete_at, self._log_time), 0.0)
