"""The ends of the partitions of a forwarder, asked in the background."""

from __future__ import annotations

import time
from concurrent.futures import Future

from openfactory.concurrency.bounded import call_on_thread
from openfactory.exceptions import OpenFactoryError
from openfactory.fanout.log_source import LogSource

__all__ = ["PartitionEnds"]

# Seconds between two requests while records are not read.
_INTERVAL_SECONDS = 5.0


class PartitionEnds:
    """The ends of partitions that are not read, which librdkafka does not learn by itself.

    The requests are made on a thread: one broker of several that is away does not hold up the partitions of the others.

    Args:
        source: the log.
    """

    def __init__(self, source: LogSource) -> None:
        self._source = source
        self._asked: Future[dict[int, int]] | None = None
        self._due = 0.0

    def answer(self, numbers: list[int], *, is_needed: bool) -> dict[int, int]:
        """Return the ends if they have arrived, and ask for them if they are needed or the broker may be away.

        Args:
            numbers: numbers of the partitions.
            is_needed: whether the ends are not known by reading.
        """
        asked, found = self._asked, {}
        if asked is not None and asked.done():
            self._asked = None
            if (error := asked.exception()) is None:
                found = asked.result()
            elif not isinstance(error, OpenFactoryError):  # the connection logs an outage
                raise error
        now = time.monotonic()
        if self._asked is None and (self._source.is_in_doubt or (is_needed and now >= self._due)):
            self._due = now + _INTERVAL_SECONDS
            self._asked = call_on_thread("openfactory-ends", self._source.ends, numbers)
        return found
