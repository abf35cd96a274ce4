"""From publish to commit: a queue, and one thread that writes the queued events in one transaction."""

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

from openfactory.concurrency.strand import current_strand
from openfactory.engines.embedded.database import Database
from openfactory.engines.embedded.insertion import Entry, OwnerEvent, Run, Statement, write_batch
from openfactory.engines.embedded.upkeep import Upkeep
from openfactory.engines.failures import DeliveryFailures
from openfactory.engines.room import room_deadline
from openfactory.events.event import AssetEvent
from openfactory.events.ownership import is_by_owner
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError, DeliveryTimeout, EngineClosedError

__all__ = ["Writer"]

_logger = logging.getLogger("openfactory.engines")

# Size of the queue from which publish waits for room.
_QUEUE_BYTES = 64 * 1024 * 1024

# Limits of a transaction, because other processes wait for the lock meanwhile.
_BATCH_EVENTS = 5_000
_BATCH_BYTES = 4 * 1024 * 1024

# Estimated bytes of an event, besides a value that is a text, a list or a map.
_EVENT_BYTES = 200

_encode = msgspec.json.Encoder().encode


class Writer:
    """Thread that writes events in the order in which they were published, all queued events in one commit.

    Args:
        database: database that receives the events.
        upkeep: upkeep of the database, after commits and while nothing is written.
        on_written: called with the runs of each commit, before the subscribers are woken.
    """

    def __init__(self, database: Database, upkeep: Upkeep, on_written: Callable[[list[Run]], object]) -> None:
        self._database = database
        self._on_written = on_written
        self._upkeep = upkeep
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
        """Number of published events that are not written yet."""
        return self._published - self._settled

    def publish(self, event: AssetEvent) -> Receipt:
        """Queue an event. The call waits only while the queue is full."""
        value = event.value
        size = _EVENT_BYTES
        kind = type(value)
        if kind is float or kind is int:
            pass
        elif kind is str:
            size += len(value)
        elif isinstance(value, (list, dict)):
            size += len(_encode(value))
        if event.attributes is not None:
            size += len(_encode(event.attributes))
            if is_by_owner(event):
                return self._put(OwnerEvent(event), event, size)
        return self._put(event, event, size)

    def execute(self, sql: str, *parameters: Any, only_with: AssetEvent | None = None) -> Receipt:
        """Queue a statement that changes another table; with an event of an owner, only if the event counts."""
        return self._put(Statement(sql, parameters, only_with), None, _EVENT_BYTES)

    def flush(self, timeout: float) -> None:
        """Wait until all published events are written or have failed.

        Raises:
            DeliveryError: events have failed that the calling strand has not been told of.
            DeliveryTimeout: some events are not written yet.
        """
        with self._lock:
            if not self._wait_for(self._published, timeout):
                pending = self.queued
                problem = self._database.write_problem() or "Wait longer, or publish fewer events at once."
                raise DeliveryTimeout(
                    f"{pending} published events were not written within {timeout:g} s: {problem}", pending=pending
                )
        self._failures.raise_if_any(of_others=True)

    def close(self, timeout: float) -> None:
        """Write the queued events, then end the thread."""
        with self._lock:
            self._closed = True
            self._progress.notify_all()
        self._queue.put(None)
        self._thread.join(timeout)
        self._abandoned = True
        self.flush(0)

    def _put(self, work: AssetEvent | Statement | OwnerEvent, event: AssetEvent | None, size: int) -> Receipt:
        strand = current_strand()
        with self._lock:
            if self._queued_bytes > _QUEUE_BYTES and not self._closed:
                self._wait_for_room()
            if self._closed:
                raise EngineClosedError("The engine is closed and accepts no more events. Open it again to write.")
            self._queued_bytes += size
            self._published += 1
            receipt = Receipt(self._published, self._await, event, strand)
            self._queue.put(Entry(work, receipt, size))
            return receipt

    def _wait_for_room(self) -> None:
        deadline = room_deadline()
        self._waiting += 1
        try:
            while self._queued_bytes > _QUEUE_BYTES and not self._closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    problem = self._database.write_problem() or (
                        "Publish fewer events at once, or call flush() in between."
                    )
                    raise DeliveryTimeout(
                        f"The queue is full of {self.queued} events that are not written yet: {problem}",
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
        self._upkeep.begin()
        while True:
            batch, ended = self._take()
            if batch:
                self._commit(batch)
            if ended:
                return
            self._upkeep.look()

    def _take(self) -> tuple[list[Entry], bool]:
        """Return the queued entries, up to the limits of a transaction, and whether the queue has ended.

        There are none if the upkeep is due.
        """
        batch: list[Entry] = []
        try:
            entry = self._queue.get(timeout=self._upkeep.seconds_to_look())
        except Empty:
            return batch, False
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
            self._retry_while_locked(lambda: self._write(batch))
        except (sqlite3.OperationalError, OSError, DeliveryError) as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - the receipts have the error
            self._commit_one_by_one(batch, error)
        with self._lock:
            self._settled = batch[-1].receipt.number
            self._queued_bytes -= sum(entry.size for entry in batch)
            if self._waiting:
                self._progress.notify_all()

    def _commit_one_by_one(self, batch: list[Entry], error: Exception) -> None:
        """Write each entry on its own, so that an event that was never checked and is not valid fails alone."""
        if len(batch) == 1:
            self._fail(batch, error)
            return
        for entry in batch:
            try:
                self._retry_while_locked(partial(self._write, [entry]))
            except Exception as single_error:  # noqa: BLE001 - the receipt has the error
                self._fail([entry], single_error)

    def _retry_while_locked(self, write: Callable[[], None]) -> None:
        """Try to write until a foreign tool releases the database, so that no events are lost."""
        while True:
            try:
                return write()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or self._abandoned:
                    raise
                _logger.warning(
                    "Another program keeps the database locked (%s). End it; writing is tried again.", error
                )

    def _write(self, batch: list[Entry]) -> None:
        if problem := self._database.write_problem():
            raise DeliveryError(problem)
        with self._database.writing() as connection:
            runs = write_batch(connection, batch)
            if problem := self._database.file_problem():
                raise DeliveryError(problem)  # the commit is in a file that no other process can open
            for run in runs:
                run.acknowledge()
            self._on_written(runs)
            self._wake()  # before the upkeep, so that subscribers do not wait for it
            self.counters["written"] += len(batch)
            self.counters["commits"] += 1
            self._upkeep.after_commit(connection, runs[-1].last, len(batch))

    def _wake(self) -> None:
        """Wake the subscribers. An error here must not write the committed events again, or report them as failed."""
        try:
            self._database.wake.notify()
        except Exception:
            _logger.exception("Subscribers could not be woken. They read the log at their next poll.")

    def _fail(self, batch: list[Entry], error: Exception) -> None:
        writes = [entry.receipt for entry in batch]
        self._failures.settle(writes, self._database.explained(error))
        self._failures.call_hooks(writes)
        self.counters["failed"] += len(batch)
