"""A histogram of the times that batches of messages take, cheap enough for each of them."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

__all__ = ["Latencies"]

# Upper bounds of the buckets, in seconds.
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Latencies:
    """Number of messages by the seconds that they took.

    >>> latencies = Latencies()
    >>> latencies.add(0.002, 300)
    >>> latencies.buckets()[:3], latencies.seconds
    ([('0.001', 0.0), ('0.0025', 300.0), ('0.005', 300.0)], 0.6)

    Attributes:
        seconds: sum over all messages.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._counts = [0] * (len(_BOUNDS) + 1)

    def add(self, seconds: float, count: int) -> None:
        """Count messages that took so many seconds each."""
        self._counts[bisect_left(_BOUNDS, seconds)] += count
        self.seconds += seconds * count

    def buckets(self) -> list[tuple[str, float]]:
        """Return the number of messages up to each bound, as Prometheus wants it."""
        bounds = [*map(str, _BOUNDS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
