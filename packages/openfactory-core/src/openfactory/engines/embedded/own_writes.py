"""The own writes of a process, whose echoes it need not read back from the file."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.embedded.insertion import Run

__all__ = ["OwnWrites"]

# Number of runs to keep until the log is read up to them. The events of older ones are read back like all others.
_MAX_RUNS = 64

# Fewer writes than this are read back, which is quicker: the log is read after them anyway.
_MIN_ENTRIES = 16


class OwnWrites:
    """The runs of events that this process has written and that its subscriptions have not passed yet."""

    def __init__(self) -> None:
        self._runs: deque[Run] = deque(maxlen=_MAX_RUNS)

    def note(self, runs: Iterable[Run]) -> None:
        """Note runs that are committed. The thread that writes calls it, before it wakes the subscribers."""
        self._runs.extend(run for run in runs if len(run.entries) >= _MIN_ENTRIES)

    def passed(self, position: int, dispatcher: Dispatcher) -> int:
        """Let the subscriptions pass the own writes after a position that they know already.

        The caller holds the dispatcher's lock.

        Returns:
            the number of these writes; 0 if the next event of the log must be read.
        """
        runs = self._runs
        while runs and runs[0].last <= position:
            runs.popleft()
        if not runs:
            return 0
        run = runs[0]
        index = position - (run.last - len(run.entries))
        if index < 0 or len(run.entries) - index < _MIN_ENTRIES:
            return 0  # events of other processes come first, or reading is quicker
        return dispatcher.pass_known(entry.receipt for entry in islice(run.entries, index, None))
