"""Subscriptions and references of objects that were not closed: they end when the object is garbage."""

from __future__ import annotations

import logging
from queue import Empty, SimpleQueue
from typing import Protocol

from openfactory.exceptions import OpenFactoryError

__all__ = ["abandon", "close_abandoned"]

_logger = logging.getLogger("openfactory.assets")


class _Closable(Protocol):
    def close(self) -> None: ...


# The garbage collector interrupts any code, so it must take no lock. Putting into this queue takes none.
_abandoned: SimpleQueue[_Closable] = SimpleQueue()


def abandon(closable: _Closable) -> None:
    """Close an object at the next call of `close_abandoned`, because its owner is garbage."""
    _abandoned.put(closable)


def close_abandoned() -> None:
    """Close the objects whose owner is garbage. Call it before each new subscription."""
    while not _abandoned.empty():
        try:
            _abandoned.get_nowait().close()
        except Empty:  # another thread was faster
            return
        except OpenFactoryError as error:
            _logger.error("An asset that was not closed could not be ended: %s", error)
