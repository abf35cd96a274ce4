"""Checks of the fan-out: the asset router, the NATS servers that it names, and the forwarders to them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from itertools import chain

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine
from openfactory.doctor.forwarders import examine_forwarders
from openfactory.doctor.ksqldb import ksqldb_server, prefix_of
from openfactory.engines.fanout.router import AssetRouter, BadAnswerError
from openfactory.events.trial import TEST_ASSET
from openfactory.exceptions import OpenFactoryError
from openfactory.settings import setting
from openfactory.settings.redaction import redacted

__all__ = ["examine_live"]

_ROUTER_SECONDS = 3.0

# The servers of a cluster are checked concurrently.
_NATS_SECONDS = 4.0

# Assets that the router is asked for, to learn of all clusters, and the time for it in seconds.
_SAMPLE = 50
_SAMPLE_SECONDS = 2.0

_REMEDY = "Start the server, or correct the address in the router's NATS_CLUSTER_… variables."


def examine_live(factory: Factory) -> Iterator[Finding]:
    """Check the asset router, the NATS servers that it names, and the forwarders to their clusters."""
    asset_uuid = setting("APP_UUID") or ""
    try:
        router = AssetRouter(factory.asset_router_url or "", _ROUTER_SECONDS)
        try:
            servers = router.servers_of(asset_uuid)
            clusters = _clusters(router, servers)
        finally:
            router.close()
    except OpenFactoryError as error:
        yield failed("asset router", error)
        return
    yield fine("asset router", f"{router.url} answers: {asset_uuid} is at {', '.join(map(redacted, servers))}")
    yield from asyncio.run(_check_servers(factory, tuple(dict.fromkeys(chain(*clusters)))))
    prefix = factory.prefix
    if factory.ksqldb_url is not None:
        with ksqldb_server(factory) as server:
            prefix = prefix_of(factory, server)
    yield from examine_forwarders(factory, prefix, clusters)


def _clusters(router: AssetRouter, first: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the servers of each cluster that the router names, by asking it for a sample of assets.

    Args:
        first: the servers of the first cluster.
    """
    clusters = {frozenset(first): first}
    end = time.monotonic() + _SAMPLE_SECONDS
    for number in range(_SAMPLE):
        if time.monotonic() > end:
            break
        with contextlib.suppress(BadAnswerError):  # of an asset that nobody has
            servers = router.servers_of(f"{TEST_ASSET}-{number}")
            clusters.setdefault(frozenset(servers), servers)
    return list(clusters.values())


async def _check_servers(factory: Factory, servers: tuple[str, ...]) -> list[Finding]:
    return await asyncio.gather(*(_check_server(factory, server) for server in servers))


async def _check_server(factory: Factory, server: str) -> Finding:
    """Connect to a NATS server and wait for its answer. A failed finding quotes the last error of the server."""
    from nats.aio.client import Client

    errors: list[Exception] = []

    async def on_error(error: Exception) -> None:
        errors.append(error)

    client = Client()
    try:
        options = factory.credentials.nats()
        async with asyncio.timeout(_NATS_SECONDS):
            await client.connect(
                [server],
                error_cb=on_error,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                **options,
            )
            await client.flush()
    except OpenFactoryError as error:
        return failed("NATS", error)
    except Exception as error:  # noqa: BLE001 - every error is a finding
        reason = redacted(str(errors[-1] if errors else error)).removeprefix("nats: ") or type(error).__name__
        return failed("NATS", f"{redacted(server)} cannot be used ({reason}). {_remedy(reason)}")
    finally:
        await client.close()
    return fine("NATS", f"{redacted(server)} answers")


def _remedy(reason: str) -> str:
    if "uthoriz" in reason or "uthentic" in reason:
        return "Check the login in the NATS_… variables."
    return "Check NATS_SSL_CA_FILE." if "certificate" in reason else _REMEDY
