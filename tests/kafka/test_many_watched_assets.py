"""One process that watches 10,000 assets over NATS: its connections and its threads. It takes about three minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fanout_services import ForwarderProcess, RouterProcess
from ksqldb_factory import KsqlDBFactory
from openfactory.events.event import new_event
from openfactory.fanout.ring import HashRing
from openfactory.testing import eventually
from servers import KafkaBroker, NatsServer

ASSETS = 10_000
CLUSTERS = ("C1", "C2")

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]


class Watcher:
    """A program that watches `MILL-0`, `MILL-1` and so on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def watch(self, count: int) -> list[str]:
        """Watch so many assets, and return the names of its threads."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        answer = self.next_line()
        assert isinstance(answer, list)
        return answer

    def next_line(self) -> object:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture
def clusters() -> Iterator[dict[str, NatsServer]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(NatsServer()) for name in CLUSTERS}


def test_ten_thousand_watched_assets_take_a_connection_for_each_cluster_and_no_more_threads(
    kafka_broker: KafkaBroker, clusters: dict[str, NatsServer], tmp_path: Path
) -> None:
    urls = {name: server.url for name, server in clusters.items()}
    with ExitStack() as stack:
        factory = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers, partitions=2))
        router = RouterProcess(tmp_path, urls)
        stack.callback(router.kill)
        forwarder = ForwarderProcess(tmp_path, factory.tables.url, urls)
        stack.callback(forwarder.kill)
        router_url = router.url
        eventually(lambda: all(server.connections() == 1 for server in clusters.values()), 60)  # of the forwarder
        command = [sys.executable, str(Path(__file__).parent / "workers" / "watch_many.py")]
        process = stack.enter_context(
            subprocess.Popen(
                [*command, factory.url, kafka_broker.bootstrap_servers, router_url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(process.kill)
        watcher = Watcher(process)

        def subscribed() -> int:
            return sum(server.subscriptions() for server in clusters.values())

        before = subscribed()
        ring = HashRing(CLUSTERS)
        few = next(count for count in range(2, 100) if len({ring.node_of(f"MILL-{n}") for n in range(count)}) == 2)
        watcher.watch(few)
        eventually(lambda: subscribed() >= before + few, 60)
        with_few = watcher.watch(few)
        watcher.watch(ASSETS)
        eventually(lambda: subscribed() >= before + ASSETS, 240)
        eventually(lambda: watcher.watch(few) == with_few, 60)  # those that ask the router end when they are idle
        assert [server.connections() for server in clusters.values()] == [2, 2]
        heard = {f"MILL-{number}" for number in range(0, ASSETS, ASSETS // 20)}
        for asset_uuid in heard:
            factory.tables.publish(new_event(asset_uuid, "count", "1", "Events", "Count"))
        arrived = {watcher.next_line() for _ in heard}
        assert arrived == heard
