"""The writes of one object, so that its flush tells of them and not of the writes of others."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from openfactory.concurrency.strand import Strand, current_strand
from openfactory.engines.base import Engine
from openfactory.engines.failures import UntoldFailures, names_of
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt, unsettled_at
from openfactory.events.registration import Registration
from openfactory.exceptions import DeliveryTimeout

__all__ = ["Writes"]

# Number of writes from which those that are settled are sorted out.
_UNSORTED_WRITES = 100

# Number of strands from which those that have ended are forgotten.
_MANY_WRITERS = 1_000


class Writes:
    """Writes through an engine, and keeps each write until its outcome is known.

    Args:
        engine: engine that writes.
    """

    __slots__ = ("_engine", "_failures", "_lock", "_sort_at", "_writers", "_writes")  # each watched asset has one

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._writes: list[Receipt] = []
        self._sort_at = _UNSORTED_WRITES
        self._writers: set[Strand | None] = set()  # strands that have written, until they flush
        self._failures = UntoldFailures()

    def publish(self, event: AssetEvent) -> Receipt:
        """Write an event."""
        receipt = self._engine.publish(event)
        if receipt.event is None:  # from an engine of another distribution
            receipt.event = event
        self._add(receipt)
        return receipt

    def produce(self, topic: str, key: str | bytes, value: str | bytes | None) -> Receipt:
        """Write a message in its wire format."""
        receipt = self._engine.produce(topic, key, value)
        self._add(receipt)
        return receipt

    def register(self, registration: Registration) -> Sequence[Receipt]:
        """Register an asset."""
        return self._add_all(self._engine.register(registration))

    def deregister(self, asset_uuid: str, epoch: int | None = None) -> Sequence[Receipt]:
        """Remove an asset from the register, as the owner with the epoch of its claim."""
        if epoch is None:  # an engine of another distribution may have no epochs
            return self._add_all(self._engine.deregister(asset_uuid))
        return self._add_all(self._engine.deregister(asset_uuid, epoch))

    def forget(self, receipt: Receipt) -> None:
        """Drop a write whose writer has waited until it was acknowledged."""
        with self._lock:
            index = next((i for i in range(len(self._writes) - 1, -1, -1) if self._writes[i] is receipt), None)
            if index is not None:
                del self._writes[index]

    def flush(self, timeout: float) -> None:
        """Wait until all writes of the object are acknowledged, at most `timeout` seconds.

        Raises:
            DeliveryError: writes of the calling strand have failed; or writes of others, if it has written nothing
                since its last flush, or they have ended.
            DeliveryTimeout: writes are not acknowledged yet.
        """
        self._engine.check_open()
        deadline = time.monotonic() + timeout
        with self._lock:
            writes = self._writes.copy()
        if late := unsettled_at(deadline, writes):
            reason = self._engine.health().reason or "they are not acknowledged yet. Wait longer, or write less."
            raise DeliveryTimeout(
                f"{len(late)} published events were not written within {timeout:g} s ({names_of(late)}): {reason}",
                pending=len(late),
            )
        caller = current_strand()
        with self._lock:
            self._sort_out()
            has_written = caller in self._writers
            self._writers.discard(caller)
        self._failures.raise_if_any(of_others=not has_written)

    def _add_all(self, receipts: Sequence[Receipt] | None) -> Sequence[Receipt]:
        receipts = receipts or ()  # an engine of another distribution may return None
        for receipt in receipts:
            self._add(receipt)
        return receipts

    def _add(self, write: Receipt) -> None:
        if write.strand is None:  # from an engine of another distribution
            write.strand = current_strand()
        self._writes.append(write)  # without the lock: only the lock's owner removes writes, and not the last ones
        if len(self._writes) >= self._sort_at:
            with self._lock:
                self._sort_out()

    def _sort_out(self) -> None:
        """Drop the writes that are settled, and keep their failures and the strands that write."""
        writes = self._writes.copy()
        self._writers.update({write.strand for write in writes})
        left = []
        for write in [write for write in writes if write.position is None]:  # few of many
            if write.error is None:
                left.append(write)
            else:
                self._failures.add([write])
        self._writes[: len(writes)] = left
        self._sort_at = len(left) * 2 + _UNSORTED_WRITES
        if len(self._writers) > _MANY_WRITERS:
            self._writers = {strand for strand in self._writers if strand is not None and not strand.is_past}
