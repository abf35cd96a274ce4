"""Pauses of a process: times at which it did not run, because it was frozen or the machine slept."""

from __future__ import annotations

from openfactory.concurrency.boot_clock import boot_seconds

__all__ = ["Pauses"]

# A thread that ticks several times a second has not run if it was quiet for longer, in seconds.
_SHORTEST_SECONDS = 0.5

# Messages that have arrived during a pause are delivered within this time after it, in seconds.
_CATCH_UP_SECONDS = 10.0


class Pauses:
    """The pauses of this process, seen by a thread that ticks again and again.

    Args:
        shortest: seconds without a tick that are a pause.
    """

    def __init__(self, shortest: float = _SHORTEST_SECONDS) -> None:
        self._shortest = shortest
        self._ticked_at = boot_seconds()
        self._ended_at = -_CATCH_UP_SECONDS
        self._seconds = 0.0
        self._count = 0

    def tick(self) -> None:
        """Note that the process runs."""
        now = boot_seconds()
        if (seconds := now - self._ticked_at) > self._shortest:
            self._seconds, self._ended_at = seconds, now
            self._count += 1
        self._ticked_at = now  # last: a thread that reads this time finds the pause counted

    @property
    def count(self) -> int:
        """Number of pauses, with one after which the thread has not ticked yet; a pause is never missed."""
        if boot_seconds() - self._ticked_at > self._shortest:
            self.tick()
        return self._count

    @property
    def last(self) -> float:
        """Seconds of the pause during which a message may have arrived that is delivered now; 0 without a pause."""
        now = boot_seconds()
        if (seconds := now - self._ticked_at) > self._shortest:
            return seconds  # and the thread has not ticked yet
        return self._seconds if now - self._ended_at < _CATCH_UP_SECONDS else 0.0
