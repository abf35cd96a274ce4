"""Metrics of an app for Prometheus: its requests, commands and engine, and those that its author adds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from openfactory.apps.operations.health import AppHealth
from openfactory.apps.operations.pages import Page
from openfactory.apps.operations.request_counts import RequestCounts

__all__ = ["Metrics"]


class Metrics:
    """Metrics of an app: counters of its requests, the counters of the app and its engine, and the author's metrics.

    A request is counted when its response begins, so that a stream of events does not count as a slow request. The
    route of a request is the rule that it matches, such as `/parts/<int:number>`, not its path, so that the number of
    metrics stays small.

    Args:
        registry: registry of the app, to which the author may add metrics.
        health: function that returns the health of the app.
        logger: logger for metrics that cannot be shown.
    """

    def __init__(self, registry: CollectorRegistry, health: Callable[[], AppHealth], logger: logging.Logger) -> None:
        self._registry = registry
        self._logger = logger
        self._warned: set[str] = set()  # names of metrics and registries
        self._requests = RequestCounts()
        registry.register(self._requests)
        registry.register(_AppCollector(health))

    def count(self, method: str, route: str, status: str, seconds: float | None) -> None:
        """Count a request whose response begins.

        Args:
            method: method of the request.
            route: rule of the route, or empty if the request matches no route.
            status: status of the response, such as `200`.
            seconds: time until the response begins; None if nobody knows it.
        """
        self._requests.add(method, route, status, seconds)

    def page(self, accept: str, foreign: CollectorRegistry = REGISTRY) -> Page:
        """Return all metrics in the format that the client accepts.

        Args:
            accept: value of the header `Accept`.
            foreign: registry of the metrics beside those of the app.
        """
        encode, content_type = choose_encoder(accept)
        metrics = self._all_metrics(foreign)
        try:
            content = encode(metrics)
        except Exception:  # noqa: BLE001 - a value that is neither a number nor text, of a metric that is not ours
            content = encode(self._encodable(metrics, encode))
        return Page(HTTPStatus.OK, content_type, content)

    def _all_metrics(self, foreign: CollectorRegistry) -> CollectorRegistry:
        """Return the metrics of the app's registry, then those of another registry whose names are not taken."""
        metrics = CollectorRegistry(auto_describe=True)
        for registry in dict.fromkeys((self._registry, foreign)):
            for metric in self._read(registry):
                try:
                    metrics.register(_Collected(metric))
                except ValueError:
                    text = f"The metric {metric.name!r} is not shown: another metric already has its name. Rename it."
                    self._warn_once(metric.name, text)
        return metrics

    def _read(self, registry: CollectorRegistry) -> Iterator[Metric]:
        """Yield the metrics of a registry to which the author and any library may have added some."""
        try:
            yield from registry.collect()
        except Exception as error:  # noqa: BLE001 - foreign code, which must not hide the app's metrics
            names = {REGISTRY: "The default metrics registry", self._registry: "The metrics registry of the app"}
            name = names.get(registry, "A metrics registry")
            remedy = "Metrics that were registered after the one that fails are not shown. Repair that one."
            self._warn_once(name, f"{name} cannot be read to its end: {error!r}. {remedy}")

    def _encodable(self, metrics: CollectorRegistry, encode: Callable[[CollectorRegistry], bytes]) -> CollectorRegistry:
        """Return the metrics whose values can be encoded."""
        encodable = CollectorRegistry(auto_describe=True)
        for metric in metrics.collect():
            alone = CollectorRegistry(auto_describe=True)
            alone.register(_Collected(metric))
            try:
                encode(alone)
            except Exception as error:  # noqa: BLE001 - as in `page`
                text = f"The metric {metric.name!r} is not shown: its values cannot be encoded: {error!r}. Repair it."
                self._warn_once(metric.name, text)
            else:
                encodable.register(_Collected(metric))
        return encodable

    def _warn_once(self, subject: str, text: str) -> None:
        if subject not in self._warned:
            self._warned.add(subject)
            self._logger.warning("%s", text)


@dataclass(frozen=True, eq=False)
class _Collected:
    """Collector of a metric whose values are already read."""

    metric: Metric

    def collect(self) -> list[Metric]:
        return [self.metric]


class _AppCollector:
    """Collector of the counters of the app and its engine, which are read at each request for the metrics."""

    def __init__(self, health: Callable[[], AppHealth]) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        app = self._health()
        engine = app.engine
        available = float(app.availability == "AVAILABLE")
        yield InfoMetricFamily("openfactory_app", "UUID of the app.", {"asset_uuid": app.asset_uuid})
        yield GaugeMetricFamily("openfactory_app_available", "Whether the app is AVAILABLE.", available)
        yield GaugeMetricFamily("openfactory_http_connections", "Open HTTP connections.", app.connections)
        yield GaugeMetricFamily("openfactory_event_streams", "Open streams of server-sent events.", app.streams)
        yield _counters("openfactory_commands", "Commands answered.", "status", app.commands)
        yield GaugeMetricFamily("openfactory_commands_waiting", "Commands without a reply.", app.waiting_commands)
        yield GaugeMetricFamily("openfactory_engine_connected", "Whether the engine works.", engine.connected)
        yield GaugeMetricFamily("openfactory_engine_queued_events", "Events that wait to be written.", engine.queued)
        counters = dict(engine.counters)
        if (followed := counters.pop("partitions_followed", None)) is not None:
            yield GaugeMetricFamily("openfactory_engine_partitions_followed", "Partitions that are followed.", followed)
        if engine.keeper_lag is not None:
            text = "Records of the log that the state topic lacks."
            yield GaugeMetricFamily("openfactory_engine_keeper_lag_records", text, engine.keeper_lag)
        yield _counters("openfactory_engine_events", "Events of the engine, by outcome.", "outcome", counters)


def _counters(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
