"""Metrics of an app for Prometheus: its requests, commands and engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from flask import Flask
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from openfactory.flaskapp.endpoints import Page

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from openfactory.flaskapp.app import OpenFactoryFlaskApp

__all__ = ["Metrics"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Metrics of an app: counters of its requests, and the counters of the app and its engine.

    A request is counted when its response begins, so that a stream of events does not count as a slow request. The
    route of a request is the rule that it matches, such as `/parts/<int:number>`, not its path, so that the number of
    metrics stays small.
    """

    def __init__(self, ofa_app: OpenFactoryFlaskApp) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "openfactory_http_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "openfactory_http_request_seconds",
            "Time until the response begins.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._cache: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._registry.register(_AppCollector(ofa_app))
        ProcessCollector(registry=self._registry)

    def count_requests(self, app: Flask) -> None:
        """Count the requests of a Flask app."""
        flask_wsgi_app = app.wsgi_app

        def counted_wsgi_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            started = time.perf_counter()
            is_counted = False

            def count(status: str) -> None:
                nonlocal is_counted
                if not is_counted:
                    is_counted = True
                    route = _route_of(environ)  # read here, as Flask discards it at the end of the request
                    self._count(environ["REQUEST_METHOD"], route, status, time.perf_counter() - started)

            def start(status_line: str, *rest: object) -> Callable[[bytes], object]:
                count(status_line[:3])  # here, as middleware may start its response only when it is read
                return start_response(status_line, *rest)  # type: ignore[arg-type]

            try:
                return flask_wsgi_app(environ, start)
            except BaseException:
                count("500")
                raise

        app.wsgi_app = counted_wsgi_app  # type: ignore[method-assign]

    def page(self, environ: WSGIEnvironment) -> Page:
        """Return all metrics in the format that the client accepts."""
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        return Page("200 OK", content_type, encode(self._registry))

    def _count(self, method: str, route: str, status: str, seconds: float) -> None:
        labels = (method if method in _METHODS else "other", route, status)
        metrics = self._cache.get(labels)
        if metrics is None:  # cached, because the lookup takes longer than counting
            metrics = self._requests.labels(*labels), self._seconds.labels(*labels[:2])
            self._cache[labels] = metrics
        requests, durations = metrics
        requests.inc()
        durations.observe(seconds)


class _AppCollector:
    """Collector of the counters of the app and its engine, which are read at each request for the metrics."""

    def __init__(self, ofa_app: OpenFactoryFlaskApp) -> None:
        self._app = ofa_app

    def collect(self) -> Iterator[Metric]:
        app = self._app
        yield InfoMetricFamily("openfactory_app", "UUID of the app.", {"asset_uuid": app.asset_uuid})
        available = float(app.avail.value == "AVAILABLE")
        yield GaugeMetricFamily("openfactory_app_available", "Whether the app is AVAILABLE.", available)
        connections = app._server.connections if app._server is not None else 0
        yield GaugeMetricFamily("openfactory_http_connections", "Open HTTP connections.", connections)
        yield GaugeMetricFamily("openfactory_event_streams", "Open streams of server-sent events.", len(app._streams))
        yield _counters("openfactory_commands", "Commands answered.", "status", app._commands.counters)
        yield GaugeMetricFamily("openfactory_commands_waiting", "Commands without a reply.", app._commands.waiting)
        health = app._engine.health()
        yield GaugeMetricFamily("openfactory_engine_connected", "Whether the engine works.", health.connected)
        yield GaugeMetricFamily("openfactory_engine_queued_events", "Events that wait to be written.", health.queued)
        yield _counters("openfactory_engine_events", "Events of the engine, by outcome.", "outcome", health.counters)


def _route_of(environ: WSGIEnvironment) -> str:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return "" if rule is None else str(rule.rule)


def _counters(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
