"""The state keeper as a service: an app around the keeper of the Kafka engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from openfactory.apps import EventAttribute, OpenFactoryApp
from openfactory.apps.identity import OPENFACTORY_LICENSE
from openfactory.apps.operations.server import plain_pages
from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.kafka_engine.state_keeper import StateKeeper
from openfactory.fanout.__about__ import __version__
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from openfactory.apps.operations.health import AppHealth
    from openfactory.apps.operations.pages import View

__all__ = ["StateKeeperApp"]

# Seconds that a stop may take; the changes since the last write are written in this time.
_STOP_SECONDS = 8.0

# Seconds in which the keeper writes them and leaves its group.
_LAST_WRITE_SECONDS = 2.0


class StateKeeperApp(OpenFactoryApp, is_runtime=True):
    """A state keeper of a factory on Kafka, with health and metrics.

    It is not ready while its broker refuses or does not answer. Its metrics have its records and, for each partition
    that it keeps, the records that the state lacks.

    >>> app = StateKeeperApp("kafka://broker:9092")  # doctest: +SKIP
    >>> app.run()  # doctest: +SKIP

    Args:
        url: a `kafka://` URL.
        loglevel: level of the app's logger, a name or a number.
        app_uuid: UUID of the app, by default APP_UUID.
        operations_port: port with health and metrics, OPERATIONS_PORT by default; 0 selects a free port.

    Raises:
        ConfigurationError: the URL or an environment variable is not valid.
        EngineUnavailableError: no broker answers.
    """

    application_version = EventAttribute(value=__version__, tag="Application.Version")
    application_license = EventAttribute(value=OPENFACTORY_LICENSE, tag="Application.License")

    def __init__(
        self,
        url: str,
        *,
        loglevel: str | int = "INFO",
        app_uuid: str | None = None,
        operations_port: int | None = None,
    ) -> None:
        self._keeper = StateKeeper(url)
        super().__init__(
            KSQLDBClient(url),
            loglevel=loglevel,
            app_uuid=app_uuid,
            operations_port=operations_port,
            stop_timeout=_STOP_SECONDS,
        )

    def main_loop(self) -> None:
        """Keep the state until a signal arrives, and write the changes that are read by then."""
        # On a thread, so that the signal does not interrupt a transaction.
        running = call_on_thread("openfactory-state-keeper", self._keeper.run)
        try:
            running.result()
        finally:
            self._keeper.stop()
            try:
                running.exception(_LAST_WRITE_SECONDS)
            except TimeoutError:
                self.logger.warning("The last changes are not written yet. The next keeper reads them from the log.")

    def _operations_pages(self) -> Mapping[str, View]:
        registry = CollectorRegistry()
        registry.register(_KeeperCollector(self._keeper))
        return plain_pages(self._health, self.logger, registry)

    def _health(self) -> AppHealth:
        problem = self._keeper.problem
        return replace(super()._health(), problems=[problem] if problem else [])


class _KeeperCollector:
    """Collector of the numbers of a keeper, which are read at each request for the metrics."""

    def __init__(self, keeper: StateKeeper) -> None:
        self._keeper = keeper

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("openfactory_keeper_working", "Whether the keeper works.", not self._keeper.problem)
        records = CounterMetricFamily("openfactory_keeper_records", "Records of the keeper.", labels=("outcome",))
        for outcome, count in dict(self._keeper.counters).items():
            records.add_metric((outcome,), count)
        yield records
        lag = GaugeMetricFamily(
            "openfactory_keeper_lag_records", "Records of the log that the state lacks.", labels=("partition",)
        )
        for partition, count in dict(self._keeper.lag()).items():
            lag.add_metric((str(partition),), count)
        yield lag
