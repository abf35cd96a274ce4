"""A factory on a Kafka with several partitions: one stream of the events of all assets."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from openfactory.assets import AssetAttribute, Factory
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from servers.kafka_broker import KafkaBroker

PATIENCE = 60.0


def test_all_assets_are_read_without_loss_or_repetition(kafka_broker: KafkaBroker, topic_prefix: str) -> None:
    create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS, prefix=topic_prefix, partitions=3)
    ended = threading.Event()
    with Factory(f"kafka://{kafka_broker.bootstrap_servers}?prefix={topic_prefix}") as factory, ExitStack() as stack:
        assets = [stack.enter_context(factory.asset(f"MILL-{number}")) for number in range(8)]
        for asset in assets:
            asset.add_attribute(AssetAttribute("n", 0, "Events", "Test"))

        def write() -> None:
            n = 0
            while not ended.is_set():
                n += 1
                for asset in assets:
                    asset.n = n
                if n % 20 == 0:
                    assets[0].flush(PATIENCE)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                read: dict[str, list[int]] = {asset.asset_uuid: [] for asset in assets}
                with factory.watch(attributes=["n"], current_values=True, max_queued=1_000_000) as events:
                    while min(map(len, read.values())) < 40:
                        event = events.get(PATIENCE)
                        assert event is not None
                        read[event.asset_uuid].append(event.value)
                for values in read.values():
                    assert values == list(range(values[0], values[0] + len(values)))
        finally:
            ended.set()
            writer.join()
