"""Subscriptions and references of objects that were not closed: they end when the object is garbage."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Protocol

from openfactory.exceptions import OpenFactoryError

__all__ = ["close_abandoned", "close_with"]

_logger = logging.getLogger("openfactory.assets")


class _Closable(Protocol):
    def close(self) -> None: ...


# The garbage collector interrupts any code, so it must take no lock. Putting into this queue takes none.
_abandoned: SimpleQueue[_Closable] = SimpleQueue()


def close_with(owner: object, closable: _Closable) -> Callable[[], object]:
    """Close an object when its owner is garbage, at the next call of `close_abandoned`.

    Returns:
        a function that forgets the object, because it was closed.
    """
    end = weakref.finalize(owner, _abandoned.put, closable)
    end.atexit = False
    return end.detach


def close_abandoned() -> None:
    """Close the objects whose owner is garbage. Call it before each new subscription."""
    while True:
        try:
            _abandoned.get_nowait().close()
        except Empty:
            return
        except OpenFactoryError as error:
            _logger.error("An asset that was not closed could not be ended: %s", error)
