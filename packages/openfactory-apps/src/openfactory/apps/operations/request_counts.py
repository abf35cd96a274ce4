"""Counts of the requests of an app, by method, route and status."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

__all__ = ["RequestCounts"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Upper bounds of the histogram, in seconds; the last bucket has none
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BUCKETS = (*map(str, _BOUNDS), "+Inf")


class RequestCounts:
    """Collector that counts requests, and the time until their responses begin.

    The counters of prometheus_client are not used: if PROMETHEUS_MULTIPROC_DIR is set, they write to files, and a
    request would fail with them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._durations: dict[tuple[str, str], _Durations] = {}

    def add(self, method: str, route: str, status: str, seconds: float | None) -> None:
        """Count a request. See `Metrics.count`."""
        method = method if method in _METHODS else "other"
        status = status if status.isdecimal() and status.isascii() else "other"
        with self._lock:
            self._requests[method, route, status] += 1
            if seconds is None:
                return
            durations = self._durations.get((method, route))
            if durations is None:
                durations = self._durations[method, route] = _Durations()
            durations.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the counts."""
        requests = CounterMetricFamily(
            "openfactory_http_requests", "Requests answered.", labels=("method", "route", "status")
        )
        durations = HistogramMetricFamily(
            "openfactory_http_request_seconds", "Time until the response begins.", labels=("method", "route")
        )
        with self._lock:
            for labels, count in self._requests.items():
                requests.add_metric(_encodable(labels), count)
            for route, times in self._durations.items():
                durations.add_metric(_encodable(route), times.buckets(), times.seconds)
        yield requests
        yield durations


class _Durations:
    """Histogram of durations.

    Attributes:
        seconds: sum of the durations.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._counts = [0] * len(_BUCKETS)

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self._counts[bisect_left(_BOUNDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Return the number of durations up to each bound."""
        return list(zip(_BUCKETS, accumulate(self._counts), strict=True))


def _encodable(labels: tuple[str, ...]) -> list[str]:
    return [label.encode("utf-8", "backslashreplace").decode() for label in labels]
