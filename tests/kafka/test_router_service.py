"""`ofa fanout router` beside a Kafka: an asset of the factory, which needs neither its ksqlDB nor a router."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from app_processes import AppProcess
from openfactory.assets import Factory
from openfactory.engines.fanout import AssetRouter
from servers import KafkaBroker


def test_routers_are_assets_of_the_factory(
    kafka_broker: KafkaBroker, kafka_url: str, topic_prefix: str, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    settings = {
        "KSQLDB_URL": f"http://127.0.0.1:9?prefix={topic_prefix}",  # nobody is there
        "KAFKA_BROKER": kafka_broker.bootstrap_servers,
        "ASSET_ROUTER_URL": "http://127.0.0.1:9",
        "NATS_CLUSTER_C1": "nats://127.0.0.1:9",
        "OPENFACTORY_HOST": "127.0.0.1",
    }
    command = [sys.executable, "-W", "error", "-m", "openfactory.apps.cli", "fanout", "router", "--port", "0"]
    routers = [AppProcess(tmp_path, command, settings) for _ in range(2)]
    try:
        for router in routers:
            router.until("Serving on ")
            found = re.search(r"Serving on (http://127\.0\.0\.1:\d+)", router.said)
            assert found
            client = AssetRouter(found[1], timeout=30)
            assert client.servers_of("MILL") == ("nats://127.0.0.1:9",)
            client.close()
        with Factory(kafka_url) as factory:
            assert len([asset for asset in factory.assets() if asset.startswith("asset-router-")]) == 2
            assert [router.stop() for router in routers] == [0, 0]
            eventually(lambda: not list(factory.assets()), timeout=60)
    finally:
        for router in routers:
            router.kill()
