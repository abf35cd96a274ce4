"""From the log to subscribers: one thread reads what is new and hands it on, however many assets are watched."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time

import msgspec

from openfactory.engines.base import OnEvent, OnGap, Subscription
from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.queries import read_batch
from openfactory.exceptions import EngineClosedError

__all__ = ["Tail"]

_logger = logging.getLogger("openfactory.engines")

# A wake-up that gets lost costs this much, in seconds.
_POLL_SECONDS = 0.25

# How often it is looked whether the file is still there, in seconds.
_LOOK_SECONDS = 1.0

# Read so many positions at once: readers are short, else the WAL cannot be checkpointed.
_BATCH_POSITIONS = 2_000

# With more watched assets than this, all events are read and sorted out here.
_ASSETS_TO_SELECT = 48


class Tail:
    """Follows the log and calls subscribers, in the order of the log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dispatcher = Dispatcher()
        self._position = 0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._in_trouble = False
        self._next_look = 0.0
        self._gone = ""
        self.counters = self._dispatcher.counters

    def subscribe(
        self, asset_uuid: str | None, on_event: OnEvent, on_gap: OnGap | None, from_position: int | None
    ) -> Subscription:
        """Hand on the events after a position, or from now on; those that the thread has passed come at once."""
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
            self._look_for_file()
            try:
                while self._deliver_some():
                    pass
                self._in_trouble = False
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                if not (self._in_trouble or self._closed):
                    _logger.error("The log cannot be read (%s). It is tried again until it can.", error)
                self._in_trouble = True

    def _look_for_file(self) -> None:
        """Say it once when the file is gone: whoever only watches would hear nothing more, and not know why."""
        if self._gone or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._gone = self._database.gone()
        if self._gone and not self._closed:
            _logger.error("%s", self._gone)

    def _deliver_some(self) -> bool:
        """Read and hand on one batch; returns whether there may be more."""
        with self._dispatcher.lock:
            if self._closed:
                return False
            assets = self._dispatcher.assets()
            if assets is not None and len(assets) > _ASSETS_TO_SELECT:
                assets = None
            up_to = self._position + _BATCH_POSITIONS
            with self._database.tailing() as connection:
                batch = read_batch(connection, self._position, up_to, assets)
            if batch.trimmed > self._position:
                self._announce_gap(batch.trimmed)
                return True
            self._position = min(up_to, batch.newest)
            for event in batch.events:
                self._dispatcher.deliver(event)
            return self._position < batch.newest

    def _catch_up(self, subscription: Subscription) -> None:
        """Hand on what stands between a subscription's start and the thread's position; the lock is held."""
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

    def _announce_gap(self, trimmed: int) -> None:
        """Go on behind what the log no longer has, and tell everybody to read again."""
        _logger.warning(
            "This process lags: the log is trimmed up to %d and was read up to %d. "
            "Subscribers get the latest values; keep more of the log with keep_events in the URL.",
            trimmed,
            self._position,
        )
        self._position = trimmed
        for subscription in self._dispatcher.subscriptions():
            self._dispatcher.notify_gap(subscription)
