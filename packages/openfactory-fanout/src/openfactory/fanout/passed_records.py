"""The records that cannot be forwarded: counted by reason, and logged with their places."""

from __future__ import annotations

import logging
import time
from collections import Counter

from openfactory.fanout.message import PassedRecordError

__all__ = ["PassedRecords"]

_logger = logging.getLogger("openfactory.fanout")

# Seconds in which one record of each reason is logged.
_LOG_SECONDS = 60.0

# A record without a value is not a fault: it tells that an asset is gone.
_TOMBSTONE = "tombstone"


class PassedRecords:
    """The records of a topic that were read and not forwarded.

    Args:
        topic: the topic, for the log.

    Attributes:
        counts: numbers of records by reason.
    """

    def __init__(self, topic: str) -> None:
        self.counts: Counter[str] = Counter()
        self._topic = topic
        self._due: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    def add(self, error: PassedRecordError, partition: int, offset: int) -> None:
        """Count a record, and log the first one of a minute."""
        reason = error.reason
        self.counts[reason] += 1
        if reason == _TOMBSTONE:
            return
        now = time.monotonic()
        if now < self._due.get(reason, 0.0):
            self._unlogged[reason] += 1
            return
        self._due[reason] = now + _LOG_SECONDS
        more = self._unlogged.pop(reason, 0)
        _logger.warning(
            "The record at offset %d of %s, partition %d, is passed: %s.%s",
            *(offset, self._topic, partition, error),
            f" {more} more of this kind were passed since the last such line." if more else "",
        )
