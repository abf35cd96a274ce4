"""From publish to commit: a queue, and one thread that takes all that waits in it into one transaction."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.insertion import Entry, Statement, write_batch
from openfactory.engines.embedded.retention import Retention
from openfactory.engines.failures import DeliveryFailures
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError, DeliveryTimeout, EngineClosedError

__all__ = ["Writer"]

_logger = logging.getLogger("openfactory.engines")

# What may wait to be written before publish makes its caller wait, and for how long it does, in seconds.
_QUEUE_BYTES = 64 * 1024 * 1024
_QUEUE_SECONDS = 3.0

# The largest transaction: others wait for the lock meanwhile.
_BATCH_EVENTS = 5_000
_BATCH_BYTES = 4 * 1024 * 1024

# What an event takes beside a long value.
_EVENT_BYTES = 200

_encode = msgspec.json.Encoder().encode


class Writer:
    """Writes events in the order in which they were published, as many as wait in one commit.

    Args:
        database: where to.
        retention: what is done to keep the log within its bounds.
    """

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database = database
        self._retention = retention
        self._await = self._await_settled
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        self._waiting = 0
        self._closed = False
        self._abandoned = False
        self._queued_bytes = 0
        self._published = 0
        self._settled = 0
        self._failures = DeliveryFailures()
        self.on_delivery_error = self._failures.on_delivery_error
        self.counters = {"written": 0, "failed": 0, "commits": 0}
        self._thread = threading.Thread(target=self._run, name="openfactory-writer", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """How many published events wait."""
        return self._published - self._settled

    def publish(self, event: AssetEvent) -> Receipt:
        """Queue an event; waits only while the queue is full."""
        value = event.value
        size = _EVENT_BYTES
        kind = type(value)
        if kind is float or kind is int:
            pass
        elif kind is str:
            size += len(value)
        elif isinstance(value, (list, dict)):
            size += len(_encode(value))
        return self._put(event, size)

    def execute(self, sql: str, *parameters: Any) -> Receipt:
        """Queue a change of another table."""
        return self._put(Statement(sql, parameters), _EVENT_BYTES)

    def flush(self, timeout: float) -> None:
        """Wait until all that was published is settled, and raise what failed since the last flush."""
        with self._lock:
            if not self._wait_for(self._published, timeout):
                pending = self.queued
                trouble = self._database.trouble() or "Wait longer, or publish less at once."
                raise DeliveryTimeout(
                    f"{pending} published events were not written within {timeout:g} s: {trouble}", pending=pending
                )
        self._failures.raise_if_any()

    def close(self, timeout: float) -> None:
        """Write what waits, then end the thread."""
        with self._lock:
            self._closed = True
            self._progress.notify_all()
        self._queue.put(None)
        self._thread.join(timeout)
        self._abandoned = True
        self.flush(0)

    def _put(self, work: AssetEvent | Statement, size: int) -> Receipt:
        with self._lock:
            if self._queued_bytes > _QUEUE_BYTES and not self._closed:
                self._wait_for_room()
            if self._closed:
                raise EngineClosedError("The engine is closed and takes no more events. Open it again to write.")
            self._queued_bytes += size
            self._published += 1
            receipt = Receipt(self._published, self._await)
            self._queue.put(Entry(work, receipt, size))
            return receipt

    def _wait_for_room(self) -> None:
        deadline = time.monotonic() + _QUEUE_SECONDS
        self._waiting += 1
        try:
            while self._queued_bytes > _QUEUE_BYTES and not self._closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    trouble = self._database.trouble() or "Publish less at once, or call flush() in between."
                    raise DeliveryTimeout(
                        f"{self.queued} events wait to be written and there is no room for more: {trouble}",
                        pending=self.queued,
                    )
                self._progress.wait(remaining)
        finally:
            self._waiting -= 1

    def _await_settled(self, receipt: Receipt, timeout: float) -> bool:
        with self._lock:
            return self._wait_for(receipt.number, timeout)

    def _wait_for(self, number: int, timeout: float) -> bool:
        self._waiting += 1
        try:
            return self._progress.wait_for(lambda: self._settled >= number, timeout)
        finally:
            self._waiting -= 1

    def _run(self) -> None:
        while True:
            batch, ended = self._take()
            if batch:
                self._commit(batch)
            if ended:
                return

    def _take(self) -> tuple[list[Entry], bool]:
        """All that waits, up to the bounds of a transaction; and whether the end was among it."""
        entry = self._queue.get()
        batch: list[Entry] = []
        size = 0
        while entry is not None:
            batch.append(entry)
            size += entry.size
            if len(batch) >= _BATCH_EVENTS or size >= _BATCH_BYTES:
                return batch, False
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[Entry]) -> None:
        try:
            self._until_not_busy(lambda: self._write(batch))
        except (sqlite3.OperationalError, OSError, DeliveryError) as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - every receipt tells it
            self._commit_one_by_one(batch, error)
        with self._lock:
            self._settled = batch[-1].receipt.number
            self._queued_bytes -= sum(entry.size for entry in batch)
            if self._waiting:
                self._progress.notify_all()

    def _commit_one_by_one(self, batch: list[Entry], error: Exception) -> None:
        """One event that cannot be written, made by hand and never checked, takes no other with it."""
        if len(batch) == 1:
            self._fail(batch, error)
            return
        for entry in batch:
            try:
                self._until_not_busy(partial(self._write, [entry]))
            except Exception as single_error:  # noqa: BLE001 - its receipt tells it
                self._fail([entry], single_error)

    def _until_not_busy(self, write: Callable[[], None]) -> None:
        """Try again while a foreign tool keeps the database locked: what was published is not given up for that."""
        while True:
            try:
                return write()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._abandoned:
                    raise
                _logger.warning(
                    "Another program keeps the database locked (%s); writing is tried again. End it.", error
                )

    def _write(self, batch: list[Entry]) -> None:
        if trouble := self._database.trouble():
            raise DeliveryError(trouble)
        with self._database.writing() as connection:
            runs = write_batch(connection, batch)
            for run in runs:
                run.acknowledge()
            self._wake()  # subscribers read while we tidy up
            self.counters["written"] += len(batch)
            self.counters["commits"] += 1
            self._retention.after_commit(connection, runs[-1].last, len(batch))

    def _wake(self) -> None:
        """What is committed stands: an error here must not have it written again, or called failed."""
        try:
            self._database.wake.notify()
        except Exception:
            _logger.exception("Subscribers could not be woken; they look by themselves.")

    def _fail(self, batch: list[Entry], error: Exception) -> None:
        events = [entry.work for entry in batch if isinstance(entry.work, AssetEvent)]
        failure = self._failures.add(events, len(batch), error)
        self._failures.call_hooks(events, failure)
        for entry in batch:
            entry.receipt.error = failure
        self.counters["failed"] += len(batch)
