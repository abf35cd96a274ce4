"""`ofa fanout router` beside a Kafka: an asset of the factory, which needs neither its ksqlDB nor a router."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fanout_services import RouterProcess
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
    }
    routers = [RouterProcess(tmp_path, {"C1": "nats://127.0.0.1:9"}, **settings) for _ in range(2)]
    try:
        for router in routers:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", router.url)
            client = AssetRouter(router.url, timeout=30)
            assert client.servers_of("MILL") == ("nats://127.0.0.1:9",)
            client.close()
        with Factory(kafka_url) as factory:
            assert len([asset for asset in factory.assets() if asset.startswith("asset-router-")]) == 2
            assert [router.stop() for router in routers] == [0, 0]
            eventually(lambda: not list(factory.assets()), timeout=60)
    finally:
        for router in routers:
            router.kill()
