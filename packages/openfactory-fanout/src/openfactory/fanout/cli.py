"""`ofa fanout`: the services of a factory of many machines."""

from __future__ import annotations

import click

from openfactory.fanout.settings import kafka_url, log_url, service_uuid
from openfactory.kafka import KSQLDBClient
from openfactory.settings import environment, setting

__all__ = ["fanout"]

# Port of the asset router if PORT is not set, as in the existing system.
_ROUTER_PORT = 8002

# Without a Kafka, the router is an asset of a factory of its own.
_OWN_FACTORY = "memory://asset-router"


@click.group()
def fanout() -> None:
    """Run the services of a factory of many machines.

    They work on the Kafka in KSQLDB_URL, if it is kafka://host:9092, or in KAFKA_BROKER. Each is an app of the factory
    with health and metrics. Its UUID is APP_UUID; if it is not set, each process has one of its own. Its log has the
    level LOG_LEVEL, INFO by default.
    """


@fanout.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Port to serve on; 0 selects a free one.  [default: $PORT, else {_ROUTER_PORT}]",
)
def router(port: int | None) -> None:
    """Run the asset router, which answers where the live events of an asset are.

    GET /asset/UUID returns {"asset_id", "cluster_name", "nats_url", "nats_urls"}. The clusters are those in
    NATS_CLUSTER_<NAME>, the same for all routers and forwarders:

    \b
      NATS_CLUSTER_C1=nats://one:4222,nats://two:4222
      NATS_CLUSTER_C2=nats://three:4222

    Any number of routers may run. Apps find them by ASSET_ROUTER_URL. Health is at /health/ready, metrics at /metrics.
    Without a Kafka, the router runs too, but is not an asset of the factory.
    """
    from openfactory.fanout.router import AssetRouterApp  # Flask is slow to import

    if port is None and environment("PORT") is None:
        port = _ROUTER_PORT
    client = KSQLDBClient(kafka_url() or _OWN_FACTORY)
    AssetRouterApp(client, loglevel=_log_level(), app_uuid=service_uuid("asset-router"), port=port).run()


@fanout.command()
def keeper() -> None:
    """Run a state keeper, which spares the start of an app the whole log.

    It writes the last event of each attribute to the topic ofa_assets_state, which it creates. Any number of keepers
    may run: each partition of the log has one at a time. If a keeper is killed, another one goes on after about 10
    seconds.

    Health and metrics are on OPERATIONS_PORT: the records that the state lacks, by partition.
    """
    from openfactory.fanout.keeper import StateKeeperApp  # the clients of Kafka are slow to import

    url = log_url("state keeper")
    StateKeeperApp(url, loglevel=_log_level(), app_uuid=service_uuid("state-keeper")).run()


@fanout.command()
@click.option("--port", type=click.IntRange(0, 65_535), help="Port of health and metrics; 0 selects a free one.")
def forwarder(port: int | None) -> None:
    """Run an asset forwarder, which publishes the events in Kafka on the NATS cluster of their asset.

    The clusters are those in NATS_CLUSTER_<NAME>, the same for all routers and forwarders. Start more forwarders to
    share the work: each partition of the log has one forwarder at a time. An event may come twice, and none is lost
    while Kafka has it. A cluster that is away holds no other up.

    Health is at /health/ready, metrics at /metrics, on PORT.
    """
    from openfactory.fanout.forwarder import AssetForwarderApp  # Flask is slow to import

    url = log_url("asset forwarder")
    client = KSQLDBClient(url)
    uuid = service_uuid("asset-forwarder")
    AssetForwarderApp(client, kafka=url, loglevel=_log_level(), app_uuid=uuid, port=port).run()


def _log_level() -> str:
    return setting("LOG_LEVEL") or "INFO"
