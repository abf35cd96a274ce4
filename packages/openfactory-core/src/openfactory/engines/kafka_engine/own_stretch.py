"""A stretch of the log that only this process writes, and that need not be read."""

from __future__ import annotations

import time

from openfactory.engines.kafka_engine.positions import Partition

__all__ = ["OwnStretch"]

# Number of own records in a row after which reading stops, at first and at most.
_RECORDS = 256
_MOST_RECORDS = 8_192

# Seconds between two looks at the delivery reports, and without one after which the partition is read again. The record
# of another process, such as a command, is found by the next report, whose offset is not the expected one.
_LOOK_SECONDS = 0.005
_SILENT_SECONDS = 0.05

# After so many looks in a row that find other reports than the next one, the next record is that of another process.
# Threads that take reports at the same time may note them out of order for a moment.
_OBSTACLES = 3

# A stretch that has ended sooner, in seconds, was not worth the change: the next one begins after more records.
_SHORT_SECONDS = 0.1


class OwnStretch:
    """The partition that is not read while its records are those of delivery reports, one after the other.

    To read own records back costs a process that writes as fast as it can a third of its speed.

    Attributes:
        partition: the partition that is not read, or None.
    """

    def __init__(self) -> None:
        self.partition: Partition | None = None
        self._own = 0
        self._needed = _RECORDS
        self._obstacles = 0
        self._begun_at = self._passed_at = 0.0

    def note(self, records: int, own: int) -> None:
        """Note some records in a row, and how many of them were own ones that need not be delivered."""
        self._own = self._own + own if own == records else 0

    @property
    def is_due(self) -> bool:
        """Whether the records are probably own ones for a while."""
        return self._own >= self._needed

    def begin(self, partition: Partition) -> None:
        """Note that a partition is not read any more."""
        self.partition = partition
        self._obstacles = 0
        self._begun_at = self._passed_at = time.monotonic()

    def wait(self) -> None:
        """Wait until the next look at the delivery reports."""
        time.sleep(_LOOK_SECONDS)

    def goes_on(self, passed: int | None, *, are_expected: bool) -> bool:
        """Return whether the stretch goes on after a look at the delivery reports.

        Args:
            passed: number of records that were passed, or None if the next one may have to be read.
            are_expected: whether further reports are expected.
        """
        now = time.monotonic()
        if passed:
            self._passed_at = now
        self._obstacles = self._obstacles + 1 if passed is None else 0
        return are_expected and self._obstacles < _OBSTACLES and now < self._passed_at + _SILENT_SECONDS

    def end(self) -> None:
        """Note that the partition is read again."""
        if self.partition is not None:
            is_short = time.monotonic() < self._begun_at + _SHORT_SECONDS
            self._needed = min(2 * self._needed, _MOST_RECORDS) if is_short else _RECORDS
        self.partition = None
        self._own = 0
