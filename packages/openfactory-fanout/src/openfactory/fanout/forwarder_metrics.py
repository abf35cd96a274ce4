"""The metrics of an asset forwarder, read from its counters at each request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from openfactory.fanout.__about__ import __version__
from openfactory.fanout.forwarding import Forwarding

__all__ = ["ForwarderCollector"]

Family = TypeVar("Family", CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)


class ForwarderCollector:
    """Collector of the metrics; the names are those of the existing asset forwarder, as far as it has them.

    Args:
        forwarder: UUID of the forwarder.
        forwardings: the forwarding to each cluster.
    """

    def __init__(self, forwarder: str, forwardings: Sequence[Forwarding]) -> None:
        self._forwarder = forwarder
        self._forwardings = forwardings

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "fan_out_layer_forwarder_build", "Version of the asset forwarder.", {"version": __version__}
        )
        yield self._counter("kafka_messages_consumed", "Records read, of the own cluster.", "consumed")
        yield self._counter("kafka_messages_skipped", "Records read and skipped, of other clusters.", "skipped")
        yield self._counter("kafka_consume_calls", "Calls that read records.", "calls")
        yield self._counter("kafka_errors", "Errors of Kafka.", "errors")
        invalid = CounterMetricFamily(
            "asset_forwarder_invalid_messages",
            "Records that cannot be forwarded.",
            labels=("forwarder", "cluster", "reason"),
        )
        published = _family(CounterMetricFamily, "nats_messages_published", "Messages that NATS has.", "cluster")
        failures = _family(
            CounterMetricFamily, "nats_publish_failures", "Messages that a lost connection may have lost.", "cluster"
        )
        connected = _family(GaugeMetricFamily, "nats_connected", "Whether the cluster is connected.", "cluster")
        events = _family(GaugeMetricFamily, "lag_events", "Records that NATS may lack.", "cluster", "partition")
        age = _family(GaugeMetricFamily, "lag_seconds", "Age of the oldest of them.", "cluster", "partition")
        latency = _family(
            HistogramMetricFamily,
            "message_processing_latency_seconds",
            "Time from the reading of a record until NATS has its message.",
            "cluster",
        )
        for one in self._forwardings:
            latency.add_metric((one.cluster,), one.latencies.buckets(), one.latencies.seconds)
            for reason, count in one.records.passed.counts.copy().items():
                invalid.add_metric((self._forwarder, one.cluster, reason), count)
            published.add_metric((one.cluster,), one.publisher.published)
            failures.add_metric((one.cluster,), one.publisher.failures)
            connected.add_metric((one.cluster,), not one.publisher.trouble)
            for number, progress in sorted(one.progress.copy().items()):
                events.add_metric((one.cluster, str(number)), progress.lag_events)
                age.add_metric((one.cluster, str(number)), progress.lag_seconds)
        yield from (invalid, published, failures, connected, events, age, latency)

    def _counter(self, name: str, text: str, key: str) -> CounterMetricFamily:
        family = _family(CounterMetricFamily, name, text, "forwarder", "cluster")
        for one in self._forwardings:
            family.add_metric((self._forwarder, one.cluster), {**one.counters, **one.records.counters}[key])
        return family


def _family(kind: type[Family], name: str, text: str, *labels: str) -> Family:
    return kind(f"asset_forwarder_{name}", text, labels=labels)
