"""Log lines about an operation that takes long: the step for which it waits."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

__all__ = ["Waiting"]

# Seconds until the first line, and between two lines.
_INTERVAL_SECONDS = 5.0


class Waiting:
    """Context of an operation, which logs a warning every few seconds until the operation ends.

    Args:
        logger: logger of the lines.
        operation: the operation, for the lines, such as "Opening kafka://broker:9092".
        step: the first step.

    Attributes:
        step: the step for which the operation waits now.
    """

    def __init__(self, logger: logging.Logger, operation: str, step: str) -> None:
        self.step = step
        self._logger = logger
        self._operation = operation
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="openfactory-waiting", daemon=True)

    def __enter__(self) -> Waiting:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        waited = 0.0
        while not self._ended.wait(_INTERVAL_SECONDS):
            waited += _INTERVAL_SECONDS
            self._logger.warning("%s takes %.0f s so far. It waits for %s.", self._operation, waited, self.step)
