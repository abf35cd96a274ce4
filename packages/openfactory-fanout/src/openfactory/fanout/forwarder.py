"""The asset forwarder: the service that publishes the events in Kafka on the NATS cluster of their asset."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Unpack

from openfactory.apps import EventAttribute
from openfactory.apps.identity import OPENFACTORY_LICENSE
from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.base import Servers
from openfactory.fanout.__about__ import __version__
from openfactory.fanout.cluster import ClusterPublisher
from openfactory.fanout.forwarder_metrics import ForwarderCollector
from openfactory.fanout.forwarding import Forwarding, ForwardingOptions
from openfactory.fanout.log_source import LogSource
from openfactory.fanout.settings import begins_at_begin, clusters_from_environment, log_url, ring_of, session_seconds
from openfactory.flaskapp import OpenFactoryFlaskApp
from openfactory.settings import setting
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from openfactory.apps.operations.health import AppHealth
    from openfactory.apps.web.app import WebAppOptions
    from openfactory.kafka import KSQLDBClient

__all__ = ["AssetForwarderApp"]

# Seconds between two looks at whether the threads still run, and that they may take to end.
_CHECK_SECONDS = 0.5
_END_SECONDS = 3.0


class AssetForwarderApp(OpenFactoryFlaskApp):
    """The asset forwarder of a factory: it publishes each record of the log on the NATS cluster of its asset.

    Each cluster has a consumer group and threads of its own, so a cluster that is away or slow holds no other up. A
    group skips the records of other clusters by their keys. It commits an offset after NATS has proven that it has all
    messages before it. So a forwarder may be killed at any time: no event is lost, and some come twice. Start several
    forwarders to share the partitions.

    Health and metrics are on PORT. The forwarder is not ready while a cluster or Kafka is away, with the reason.

    Args:
        ksqlClient: client whose URL selects the engine on which the forwarder is an asset.
        clusters: servers of each NATS cluster, by its name; those in `NATS_CLUSTER_<NAME>` by default.
        kafka: `kafka://` URL of the log, by default that of the environment.
        loglevel: level of the app's logger, a name or a number.
        test_mode: keep the attributes of the forwarder in a private memory; the log and NATS are used nevertheless.
        options: arguments of `OpenFactoryFlaskApp`; requests are not logged by default.

    Raises:
        ConfigurationError: no NATS cluster or no Kafka is configured, or an argument or an environment variable is not
            valid.
    """

    application_version = EventAttribute(value=__version__, tag="Application.Version")
    application_license = EventAttribute(value=OPENFACTORY_LICENSE, tag="Application.License")

    def __init__(
        self,
        ksqlClient: KSQLDBClient | None,  # noqa: N803 - the name that apps have
        *,
        clusters: Mapping[str, Sequence[str]] | None = None,
        kafka: str | None = None,
        loglevel: str | int = "INFO",
        test_mode: bool = False,
        **options: Unpack[WebAppOptions],
    ) -> None:
        self.clusters = clusters_from_environment() if clusters is None else clusters
        self.forwardings: list[Forwarding] = []
        self._kafka = log_url("asset forwarder") if kafka is None else kafka
        self._ring = ring_of(self.clusters)
        self._begins_at_begin, self._session_seconds = begins_at_begin(), session_seconds()
        options.setdefault("log_http_requests", False)
        super().__init__(ksqlClient, loglevel=loglevel, test_mode=test_mode, **options)
        self.metrics_registry.register(ForwarderCollector(self.asset_uuid, self.forwardings))
        for name, servers in self.clusters.items():
            self.logger.info("NATS cluster %s: %s", name, ", ".join(map(redacted, servers)))

    def app_health(self) -> AppHealth:
        health = super().app_health()
        problems = dict.fromkeys(one.trouble for one in self.forwardings if one.trouble)
        return dataclasses.replace(health, problems=tuple(problems))

    async def async_main_loop(self) -> None:
        """Forward until the stop, or until a thread fails."""
        servers = Servers()
        credentials = servers.resolve(self._kafka).credentials
        options = ForwardingOptions(
            self.asset_uuid, setting("KAFKA_GROUP") or "", self._begins_at_begin, self._session_seconds
        )
        source = LogSource(self._kafka, servers)
        publishers = {name: ClusterPublisher(name, urls, credentials) for name, urls in self.clusters.items()}
        self.forwardings += [
            Forwarding(name, publisher, source, self._ring, options) for name, publisher in publishers.items()
        ]
        threads = [call_on_thread(f"openfactory-forwarding-{one.cluster}", one.run) for one in self.forwardings]
        try:
            while not any(thread.done() for thread in threads):
                await asyncio.sleep(_CHECK_SECONDS)
            for thread in threads:
                if thread.done():
                    thread.result()
        finally:
            await asyncio.shield(asyncio.to_thread(self._end, threads, publishers.values(), source))

    def _end(self, threads: list[Future[None]], publishers: Iterable[ClusterPublisher], source: LogSource) -> None:
        """Stop the threads, which commit their positions, and close the connections."""
        for one in self.forwardings:
            one.stop()
        wait(threads, _END_SECONDS)
        for publisher in publishers:
            publisher.close()
        source.close()
