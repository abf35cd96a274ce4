"""Checks of the fan-out: the asset router, and the NATS servers that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine
from openfactory.engines.fanout.router import AssetRouter
from openfactory.exceptions import OpenFactoryError
from openfactory.settings import setting
from openfactory.settings.redaction import redacted

__all__ = ["examine_live"]

_ROUTER_SECONDS = 3.0

# The servers of a cluster are checked concurrently.
_NATS_SECONDS = 4.0

_REMEDY = "Start the server, or correct the address in the router's NATS_CLUSTER_… variables."


def examine_live(factory: Factory) -> Iterator[Finding]:
    """Check the asset router, and the NATS servers that it names for the asset `APP_UUID`."""
    asset_uuid = setting("APP_UUID") or ""
    try:
        router = AssetRouter(factory.asset_router_url or "", _ROUTER_SECONDS)
        try:
            servers = router.servers_of(asset_uuid)
        finally:
            router.close()
    except OpenFactoryError as error:
        yield failed("asset router", error)
        return
    yield fine("asset router", f"{router.url} answers: {asset_uuid} is at {', '.join(map(redacted, servers))}")
    yield from asyncio.run(_check_servers(factory, servers))


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
