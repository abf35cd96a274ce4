"""The lag of the state keeper, as an engine reports it in its health."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.kafka_engine.kept_state import KeptState
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.exceptions import OpenFactoryError

__all__ = ["KeeperLag"]

# Seconds between two questions, and that a caller waits for the answer before it gets the last one.
_INTERVAL_SECONDS = 5.0
_WAIT_SECONDS = 0.2


class KeeperLag:
    """The number of records of the log that the state topic lacks, asked in the background.

    Args:
        kept: reader for the state topic.
        partitions: returns the partitions of the log.
    """

    def __init__(self, kept: KeptState, partitions: Callable[[], Collection[Partition]]) -> None:
        self._kept = kept
        self._partitions = partitions
        self._lock = threading.Lock()
        self._asked: Future[int] | None = None
        self._due = 0.0
        self._last: int | None = None

    def records(self) -> int | None:
        """Return the number of records that a start reads of the log, or None if there is no state topic."""
        if not self._kept.exists:
            return None
        with self._lock:
            if self._asked is not None:
                self._take_answer(self._asked, 0.0)
            elif time.monotonic() >= self._due:
                self._due = time.monotonic() + _INTERVAL_SECONDS
                self._asked = call_on_thread("openfactory-keeper-lag", self._kept.lag, self._partitions())
                self._take_answer(self._asked, _WAIT_SECONDS)
            return self._last

    def _take_answer(self, asked: Future[int], seconds: float) -> None:
        """Take an answer that arrives in time; the last answer counts until then, also if no broker answers."""
        try:
            self._last = asked.result(seconds)
        except TimeoutError:
            return
        except OpenFactoryError:
            pass
        self._asked = None
