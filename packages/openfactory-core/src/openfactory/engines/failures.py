"""Failed deliveries: logged, passed to callbacks, and kept until a flush has raised them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from openfactory.concurrency.strand import Strand, current_strand
from openfactory.engines.base import OnDeliveryError
from openfactory.events.event import AssetEvent
from openfactory.events.receipt import Receipt
from openfactory.exceptions import DeliveryError

__all__ = ["DeliveryFailures", "UntoldFailures", "names_of"]

_logger = logging.getLogger("openfactory.engines")

# Maximum number of failed writes of a strand that are kept for its next flush; more are counted.
_KEPT_WRITES = 1_000

# Number of strands from which the failures of those that have ended are put together.
_KEPT_STRANDS = 64

# Number of attributes that an error names.
_NAMED = 3

# Failures come by the thousands: each log line reports all since the line before.
_SECONDS_BETWEEN_LINES = 1.0


def names_of(writes: Sequence[Receipt]) -> str:
    """Return the attributes of some writes, for an error text."""
    names = list(dict.fromkeys(_name_of(write.event) for write in writes))
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _name_of(event: AssetEvent | None) -> str:
    return "a registration" if event is None else f"{event.asset_uuid}.{event.id}"


class _Failed:
    """The failed writes of one strand.

    Attributes:
        writes: the writes, up to a maximum.
        beyond: number of further failures.
        heard: number of `writes` that another strand has been told of.
    """

    __slots__ = ("beyond", "heard", "writes")

    def __init__(self) -> None:
        self.writes: list[Receipt] = []
        self.beyond = 0
        self.heard = 0

    def add(self, write: Receipt) -> None:
        if len(self.writes) < _KEPT_WRITES:
            self.writes.append(write)
        else:
            self.beyond += 1


class UntoldFailures:
    """Failed writes, until the strand that wrote them has been told.

    A strand is told of its own failures, and of the failures of strands that have ended. It may be told of those of
    other strands as well, once; these are told nevertheless.
    """

    __slots__ = ("_by_strand", "_lock")  # each watched asset has one

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_strand: dict[Strand | None, _Failed] = {}

    def add(self, writes: Sequence[Receipt]) -> None:
        """Keep failed writes until their strands are told."""
        with self._lock:
            for write in writes:
                self._keep(write)

    def _keep(self, write: Receipt) -> None:
        if write.strand not in self._by_strand:
            if len(self._by_strand) >= _KEPT_STRANDS:
                self._merge_ended()
            self._by_strand.setdefault(write.strand, _Failed())
        self._by_strand[write.strand].add(write)

    def _merge_ended(self) -> None:
        """Put the failures of the threads that have ended together, and drop those of requests that are over.

        Each request may have a thread, and all may fail.
        """
        merged = _Failed()
        for strand in [strand for strand in self._by_strand if strand is None or strand.is_past]:
            failed = self._by_strand.pop(strand)
            if strand is not None and strand.over:
                continue
            for write in failed.writes[failed.heard :]:
                merged.add(write)
            merged.beyond += failed.beyond
        self._by_strand[None] = merged

    def raise_if_any(self, *, of_others: bool) -> None:
        """Raise an error if writes have failed that the calling strand is to be told of.

        Args:
            of_others: tell it of the failures of other strands, too.

        Raises:
            DeliveryError: writes have failed; the error lists their events.
        """
        caller = current_strand()
        told: list[Receipt] = []
        beyond = 0
        with self._lock:
            for strand, failed in list(self._by_strand.items()):
                heard = 0 if strand is caller else failed.heard
                new = [write for write in failed.writes[heard:] if not getattr(write.error, "told", False)]
                if strand is None or strand is caller or strand.ended:
                    del self._by_strand[strand]
                    beyond += failed.beyond if new else 0
                    for write in new:
                        if isinstance(write.error, DeliveryError):
                            write.error.told = True  # the engine's failures and those of an asset are the same
                elif of_others:
                    failed.heard = len(failed.writes)
                else:
                    continue
                told += new
        if not told:
            return
        told.sort(key=lambda write: write.number)
        error = told[-1].error
        assert error is not None
        raise DeliveryError(
            f"{len(told) + beyond} events were not written ({names_of(told)}): {error.__cause__ or error}",
            events=[write.event for write in told if write.event is not None],
        ) from error.__cause__ or error


class DeliveryFailures(UntoldFailures):
    """The failed deliveries of one engine."""

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: tuple[OnDeliveryError, ...] = ()
        self._logged_at = -_SECONDS_BETWEEN_LINES
        self._not_logged = 0

    def on_delivery_error(self, callback: OnDeliveryError) -> None:
        """Register a callback for each event that fails from now on."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

    def settle(self, writes: Sequence[Receipt], reason: Exception) -> None:
        """Log that writes have failed, keep them, and give each receipt an error of its own.

        The caller passes the writes to `call_hooks` after it has released every lock that a hook may need.
        """
        with self._lock:  # a flush that sees an error here finds it among the kept ones
            for write in writes:
                failed = [] if write.event is None else [write.event]
                write.error = error = DeliveryError(f"An event was not written: {reason}", events=failed)
                error.__cause__ = reason
                self._keep(write)
            self._not_logged += len(writes)
            if time.monotonic() >= self._logged_at + _SECONDS_BETWEEN_LINES:
                _logger.error("%d events were not written, now %s: %s", self._not_logged, names_of(writes), reason)
                self._not_logged, self._logged_at = 0, time.monotonic()

    def call_hooks(self, writes: Sequence[Receipt]) -> None:
        """Call each hook with each failed event. An exception of a hook is logged."""
        for callback in self._callbacks:
            for write in writes:
                if write.event is None or write.error is None:
                    continue
                try:
                    callback(write.event, write.error)
                except Exception:
                    _logger.exception(
                        "%r, a hook for failed deliveries, raised an exception. The other hooks are still called.",
                        callback,
                    )
