"""Receipts of published events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from openfactory.events.event import AssetEvent
from openfactory.exceptions import DeliveryTimeout, OpenFactoryError

__all__ = ["Receipt", "unsettled_at"]

_Await = Callable[["Receipt", float], bool]


class Receipt(msgspec.Struct, eq=False, gc=False):
    """The outcome of one write: a position or an error, once it is known.

    Attributes:
        number: sequence number of the event among all events that this process publishes to the engine.
        event: the event; None for a record that is not an event, such as a place in the namespace.
        strand: the strand that wrote; None if it is not known.
        shown_by: mark of the state of an asset that shows the event already; None if there is none.
        position: position of the event, once it is acknowledged; else None.
        error: reason why the event could not be written; else None.
    """

    number: int
    _await: _Await
    event: AssetEvent | None = None
    strand: Any = None
    position: int | None = None
    error: OpenFactoryError | None = None
    shown_by: Any = None

    @property
    def settled(self) -> bool:
        """Whether the outcome is known."""
        return self.position is not None or self.error is not None

    def settles(self, timeout: float) -> bool:
        """Wait until the outcome is known, at most `timeout` seconds, and return whether it is."""
        return self.settled or self._await(self, timeout)

    def wait(self, timeout: float = 10.0) -> int:
        """Wait until the event is acknowledged, and return its position.

        Args:
            timeout: seconds to wait for the acknowledgement.

        Raises:
            DeliveryError: the event could not be written.
            DeliveryTimeout: the acknowledgement did not arrive in time; the event may still be written.
        """
        if not self.settles(timeout):
            raise DeliveryTimeout(
                f"A published event was not acknowledged within {timeout:g} s. "
                "Wait longer, or see the engine's health() for the cause.",
                pending=1,
            )
        if self.error is not None:
            raise self.error
        assert self.position is not None
        return self.position


AnyReceipt = TypeVar("AnyReceipt", bound=Receipt)


def unsettled_at(deadline: float, receipts: Sequence[AnyReceipt]) -> list[AnyReceipt]:
    """Wait until the outcomes of receipts are known, and return the receipts whose outcome is not known in time.

    Args:
        deadline: end of the wait, as `time.monotonic()` has it.
        receipts: the receipts, in the order of their publication, in which an engine mostly settles them.
    """
    left = list(receipts)
    while left and left[-1].settles(max(deadline - time.monotonic(), 0)):
        left = _unsettled(left)
    return _unsettled(left)


def _unsettled(receipts: list[AnyReceipt]) -> list[AnyReceipt]:
    # Quicker than a call of `settled` for each: there are tens of thousands after a burst.
    return [receipt for receipt in receipts if receipt.position is None and receipt.error is None]
