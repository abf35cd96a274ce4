"""What the app counts, for Prometheus: requests, commands, and what its engine does."""

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
    """Counts the requests of one app, and tells them with what the app and its engine have counted.

    A request is counted when its answer begins, so that a stream of events is no slow request. Its route is the rule
    that it matched, as `/parts/<int:number>`, and never the address, of which there is no end.
    """

    def __init__(self, ofa_app: OpenFactoryFlaskApp) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "openfactory_http_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "openfactory_http_request_seconds",
            "Time until the answer begins.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._counted: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._registry.register(_AppCollector(ofa_app))
        ProcessCollector(registry=self._registry)

    def count_requests(self, app: Flask) -> None:
        """Count each request that reaches a Flask app."""
        answer_request = app.wsgi_app

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            started = time.perf_counter()
            is_counted = False

            def count(status: str) -> None:
                nonlocal is_counted
                if not is_counted:
                    is_counted = True
                    route = _route_of(environ)  # which Flask forgets when it is done
                    self._count(environ["REQUEST_METHOD"], route, status, time.perf_counter() - started)

            def start(status_line: str, *rest: object) -> Callable[[bytes], object]:
                count(status_line[:3])  # here, because middleware may begin its answer only when that is read
                return start_response(status_line, *rest)  # type: ignore[arg-type]

            try:
                return answer_request(environ, start)
            except BaseException:
                count("500")
                raise

        app.wsgi_app = answer  # type: ignore[method-assign]

    def page(self, environ: WSGIEnvironment) -> Page:
        """All of it, in the format that is asked for."""
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        return Page("200 OK", content_type, encode(self._registry))

    def _count(self, method: str, route: str, status: str, seconds: float) -> None:
        kind = (method if method in _METHODS else "other", route, status)
        counted = self._counted.get(kind)
        if counted is None:  # kept, because looking them up takes longer than counting
            counted = self._requests.labels(*kind), self._seconds.labels(*kind[:2])
            self._counted[kind] = counted
        requests, durations = counted
        requests.inc()
        durations.observe(seconds)


class _AppCollector:
    """Reads what the app and its engine count themselves, when somebody asks."""

    def __init__(self, ofa_app: OpenFactoryFlaskApp) -> None:
        self._app = ofa_app

    def collect(self) -> Iterator[Metric]:
        app = self._app
        yield InfoMetricFamily("openfactory_app", "Which app this is.", {"asset_uuid": app.asset_uuid})
        available = float(app.avail.value == "AVAILABLE")
        yield GaugeMetricFamily("openfactory_app_available", "Whether it says that it is available.", available)
        connections = app._server.connections if app._server is not None else 0
        yield GaugeMetricFamily("openfactory_http_connections", "Connections that are open.", connections)
        yield GaugeMetricFamily("openfactory_event_streams", "Server-sent event streams.", len(app._streams))
        yield _counters("openfactory_commands", "Commands answered.", "status", app._commands.counters)
        yield GaugeMetricFamily("openfactory_commands_waiting", "Commands without answer.", app._commands.waiting)
        health = app._engine.health()
        yield GaugeMetricFamily("openfactory_engine_connected", "Whether it can write and read.", health.connected)
        yield GaugeMetricFamily("openfactory_engine_queued_events", "Events to be written.", health.queued)
        yield _counters("openfactory_engine_events", "What its engine did with events.", "outcome", health.counters)


def _route_of(environ: WSGIEnvironment) -> str:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return "" if rule is None else str(rule.rule)


def _counters(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for of, count in counts.items():
        family.add_metric((of,), count)
    return family
