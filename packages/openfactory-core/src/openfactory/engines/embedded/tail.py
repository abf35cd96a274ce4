"""From the log to subscribers: one thread reads new events and delivers them, for any number of assets."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

import msgspec

from openfactory.engines.base import OnEvent, OnGap, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.insertion import Run
from openfactory.engines.embedded.own_writes import OwnWrites
from openfactory.engines.embedded.queries import read_batch
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import AVAILABILITY_ID, ends_same_ownership
from openfactory.exceptions import EngineClosedError
from openfactory.logs.outage import Outage

__all__ = ["Tail"]

_logger = logging.getLogger("openfactory.engines")

# Seconds until the log is read without a wake-up, because a wake-up may get lost.
_POLL_SECONDS = 0.25

# Seconds between two checks that the file still exists.
_FILE_CHECK_SECONDS = 1.0

# Number of positions to read at once. Long reads would keep the WAL from being checkpointed.
_BATCH_POSITIONS = 2_000

# With more subscribed assets than this, the thread reads all events and selects those with subscribers.
_ASSETS_TO_SELECT = 48


class Tail:
    """Thread that follows the log and delivers its events in order."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dispatcher = Dispatcher()
        self._own_writes = OwnWrites()
        self._position = 0
        self._announced: dict[str, tuple[AssetEvent, set[Subscription]]] = {}  # by asset, with those that received it
        self._thread: threading.Thread | None = None
        self._closed = False
        self._outage = Outage(
            _logger, meanwhile="Reading is tried again until it succeeds.", over="The log can be read again."
        )
        self._next_file_check = 0.0
        self._file_problem = ""
        self.counters = self._dispatcher.counters

    def subscribe(
        self, asset_uuid: str | None, on_event: OnEvent, on_gap: OnGap | None, from_position: int | None
    ) -> Subscription:
        """Subscribe to the events after a position, or from now on.

        Events that the thread has already passed are delivered before the call returns.
        """
        with self._dispatcher.lock:
            if self._closed:
                raise EngineClosedError("The engine is closed. Open it again to subscribe.")
            if self._thread is None:
                self._start()
            start = self._newest() if from_position is None else from_position
            subscription = self._dispatcher.add(asset_uuid, on_event, on_gap, start)
            if start < self._position:
                self._catch_up(subscription)
            return subscription

    def note_written(self, runs: list[Run]) -> None:
        """Note the events that this process has written, so that they are not read back where they are known."""
        if self._thread is not None:
            self._own_writes.note(runs)

    def announce(self, end: AssetEvent) -> None:
        """Deliver the end of an owner, which cannot be written now, to each subscription that has not received it."""
        with self._dispatcher.lock:
            known, received = self._announced.get(end.asset_uuid, (end, set[Subscription]()))
            if not ends_same_ownership(known, end):
                received = set()
            self._deliver_to_others(end, received)
            if received:
                self._announced[end.asset_uuid] = end, received

    def close(self, timeout: float) -> None:
        """End the thread."""
        with self._dispatcher.lock:
            self._closed = True
            self._dispatcher.clear()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._database.wake.notify()
            self._thread.join(timeout)

    def _start(self) -> None:
        self._database.listen()
        self._position = self._newest()
        self._thread = threading.Thread(target=self._run, name="openfactory-tail", daemon=True)
        self._thread.start()

    def _newest(self) -> int:
        with self._database.tailing() as connection:
            return read_batch(connection, 0, 0).newest

    def _run(self) -> None:
        while not self._closed:
            self._database.wake.wait(_POLL_SECONDS)
            self._check_file()
            try:
                while self._deliver_batch():
                    pass
                self._outage.end()
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                if not self._closed:
                    self._outage.begin(f"The log cannot be read ({error}).")

    def _check_file(self) -> None:
        """Log once that the file was removed: a process that only subscribes would not notice otherwise."""
        if self._file_problem or time.monotonic() < self._next_file_check:
            return
        self._next_file_check = time.monotonic() + _FILE_CHECK_SECONDS
        self._file_problem = self._database.file_problem()
        if self._file_problem and not self._closed:
            _logger.error("%s", self._file_problem)

    def _deliver_batch(self) -> bool:
        """Read and deliver one batch. Return whether the log may have more events."""
        with self._dispatcher.lock:
            if self._closed:
                return False
            if not self._announced and (passed := self._own_writes.passed(self._position, self._dispatcher)):
                self._position += passed
                return True
            assets = self._dispatcher.assets()
            if assets is not None and len(assets) > _ASSETS_TO_SELECT:
                assets = None
            up_to = self._position + _BATCH_POSITIONS
            with self._database.tailing() as connection:
                batch = read_batch(connection, self._position, up_to, assets)
            if batch.trimmed > self._position:
                self._skip_trimmed(batch.trimmed)
                return True
            self._position = min(up_to, batch.newest)
            for event in batch.events:
                if self._announced:
                    self._deliver_unless_announced(event)
                else:
                    self._dispatcher.deliver(event)
            return self._position < batch.newest

    def _deliver_unless_announced(self, event: AssetEvent) -> None:
        """Deliver an event of the log, but the end of an owner only to those that have not received it before."""
        # After the next availability, the end that was announced is written, or another claim came first.
        announced = self._announced.pop(event.asset_uuid, None) if event.id == AVAILABILITY_ID else None
        if announced is not None and ends_same_ownership(announced[0], event):
            self._deliver_to_others(event, announced[1])
        else:
            self._dispatcher.deliver(event)

    def _deliver_to_others(self, event: AssetEvent, received: set[Subscription]) -> None:
        """Deliver an event to the subscriptions that have not received it, and add them. The caller holds the lock."""
        for subscription in self._dispatcher.subscriptions():
            if subscription.asset_uuid in (None, event.asset_uuid) and subscription not in received:
                received.add(subscription)
                self._dispatcher.call(subscription, event)

    def _catch_up(self, subscription: Subscription) -> None:
        """Deliver the events between a subscription's position and the thread's. The caller holds the lock."""
        assets = None if subscription.asset_uuid is None else [subscription.asset_uuid]
        position = subscription.position
        while position < self._position:
            up_to = min(position + _BATCH_POSITIONS, self._position)
            with self._database.tailing() as connection:
                batch = read_batch(connection, position, up_to, assets)
            if batch.trimmed > position:
                self._dispatcher.notify_gap(subscription)
                position = max(subscription.position, batch.trimmed)
                continue
            for event in batch.events:
                self._dispatcher.call(subscription, event)
            position = up_to

    def _skip_trimmed(self, trimmed: int) -> None:
        """Continue after the trimmed events, and notify all subscriptions of the gap."""
        _logger.warning(
            "This process lags behind: the log is trimmed up to %d and was read up to %d. "
            "Subscriptions receive the latest values. Keep more of the log with keep_events in the URL.",
            trimmed,
            self._position,
        )
        self._position = trimmed
        self._announced.clear()  # those who lag read the state again, and hear the end again
        for subscription in self._dispatcher.subscriptions():
            self._dispatcher.notify_gap(subscription)
