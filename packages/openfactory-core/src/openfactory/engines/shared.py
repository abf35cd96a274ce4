"""The part that all engines of this distribution share: forking, closing, and the arguments of a history."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from openfactory.concurrency import forked_child
from openfactory.engines.base import Engine, EngineHealth
from openfactory.events.event import COMMAND_TAG, REPLY_TAG, AssetEvent
from openfactory.events.period import Bound, Period
from openfactory.exceptions import EngineClosedError
from openfactory.settings.redaction import redacted

__all__ = ["HistoryQuery", "SharedEngine"]

# The time that reading has to end, in seconds, even if the queue has used up the timeout.
_SHORTEST_END = 0.5


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """The arguments of `Engine.history`.

    Attributes:
        asset_uuid: UUID of the asset.
        attribute_id: the attribute, or None for all attributes.
        tag: the tag, or None for all tags.
        period: the time of the events, by their timestamps.
        limit: maximum number of events, above 0.
    """

    asset_uuid: str
    attribute_id: str | None
    tag: str | None
    period: Period
    limit: int

    @property
    def is_of_all_commands(self) -> bool:
        """Whether an app asks for its last commands or replies, which it does when it starts."""
        return self.tag in (COMMAND_TAG, REPLY_TAG) and self.attribute_id is None and not self.period.is_bounded

    def matches(self, event: AssetEvent) -> bool:
        """Return whether an event of the asset belongs to the history."""
        return (
            (self.attribute_id is None or event.id == self.attribute_id)
            and (self.tag is None or event.tag == self.tag)
            and self.period.contains(event.timestamp)
        )

    def newest(self, events: Iterable[AssetEvent]) -> list[AssetEvent]:
        """Return the newest of the matching events, up to the limit."""
        return list(deque(filter(self.matches, events), self.limit))


class SharedEngine(Engine):
    """Base class of an engine that is closed once and is not used in a forked child.

    A subclass ends writing and reading separately, and checks each call by `_check_open` before it takes a lock.

    Args:
        url: the URL that opens the engine.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._closed = False
        self._pid = forked_child.pid

    def history(
        self,
        asset_uuid: str,
        attribute_id: str | None = None,
        *,
        tag: str | None = None,
        since: Bound | None = None,
        until: Bound | None = None,
        limit: int = 1000,
    ) -> list[AssetEvent]:
        self._check_open()
        query = HistoryQuery(asset_uuid, attribute_id, tag, Period.of(since, until), limit)
        return self._history(query) if limit > 0 else []

    @abstractmethod
    def _history(self, query: HistoryQuery) -> list[AssetEvent]:
        """Return the events of a query that are still in the log, oldest first."""

    def health(self) -> EngineHealth:
        if self._closed or self._pid != forked_child.pid:
            return EngineHealth(False, "The engine is closed.")
        return self._health()

    @abstractmethod
    def _health(self) -> EngineHealth:
        """Return the connection state and queue of the open engine."""

    def close(self, timeout: float = 5.0) -> None:
        if self._closed or self._pid != forked_child.pid:
            return
        self._closed = True
        deadline = time.monotonic() + timeout
        try:
            self._end_writing(timeout)
        finally:
            self._end_reading(max(deadline - time.monotonic(), _SHORTEST_END))

    @abstractmethod
    def _end_writing(self, timeout: float) -> None:
        """Write the published events, and end the thread that writes.

        Raises:
            DeliveryError, DeliveryTimeout: events were not written.
        """

    @abstractmethod
    def _end_reading(self, timeout: float) -> None:
        """End the threads that follow the log, and release all resources."""

    def check_open(self) -> None:
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError(f"{redacted(self.url)} is closed. Open it again with a new client or asset.")
        if self._pid != forked_child.pid:
            raise EngineClosedError(
                f"{redacted(self.url)} was opened before this process was forked, and an engine does not survive a "
                "fork. Start processes with spawn (multiprocessing.set_start_method('spawn')), or open the URL only in "
                "the child."
            )
