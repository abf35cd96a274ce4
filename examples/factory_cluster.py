"""The services of a factory of many machines, as processes on this machine: they bring the events of Kafka to NATS.

hatch run demo --cluster

They are two NATS clusters of one server each, an asset router, two asset forwarders and a state keeper.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import msgspec
from factory_view import Event

from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.exceptions import EngineUnavailableError
from servers import NatsServer, Server, free_port

CLUSTERS = ("C1", "C2")
FORWARDERS = 2
PARTITIONS = 4  # of the log, which the forwarders share
LIVE_SECONDS = 30.0  # in which the clusters must answer

OFA = [sys.executable, "-m", "openfactory.apps.cli"]

_decode = msgspec.json.Decoder().decode


class Service(Server):
    """A service of `ofa fanout`, from its start until it is ready by its own health page.

    Args:
        kind: the command, such as `router`.
        folder: folder of its log.
        settings: its environment variables.
        port_variable: the variable with the port of its health page.
    """

    def __init__(self, kind: str, folder: Path, settings: Mapping[str, str], port_variable: str = "PORT") -> None:
        super().__init__(folder)
        self.name = f"ofa fanout {kind}"
        self.port = free_port()
        self._kind = kind
        self._settings = {**settings, "OPENFACTORY_HOST": "127.0.0.1", port_variable: str(self.port)}

    def _prepare(self) -> None:
        """Write nothing: its settings are variables."""

    def _command(self) -> list[str]:
        return [*OFA, "fanout", self._kind]

    def _environment(self) -> Mapping[str, str]:
        return self._settings

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:  # not listening, or not ready
            return False


class Cluster:
    """The services, which run.

    Attributes:
        router_url: the address of the asset router, the value of ASSET_ROUTER_URL.
        counts: the number of messages of each asset, by the NATS cluster that carried them.

    Args:
        router_url: see above.
        names: the names of the NATS clusters, by the URL of their server.
    """

    def __init__(self, router_url: str, names: Mapping[str, str]) -> None:
        self.router_url = router_url
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in names.values()}
        self._names = names

    @contextmanager
    def watch(self, assets: Collection[str], on_event: Callable[[Event], None]) -> Generator[None]:
        """Hand on the events of assets that come over NATS, from the clusters that the router returns.

        Raises:
            EngineUnavailableError: a cluster does not answer.
        """
        missing, live = set(assets), threading.Event()

        def on_message(asset: str, attribute_id: str, payload: bytes, _headers: object) -> None:
            message = _decode(payload)
            if name := self._names.get(feed.cluster_of(asset) or ""):
                self.counts[name][asset] += 1
            timestamp = message["attributes"]["timestamp"]
            on_event(Event(asset, attribute_id, message["VALUE"], message["TYPE"], message["TAG"], timestamp))

        def on_live(found: frozenset[str]) -> None:
            missing.difference_update(found)
            if not missing:
                live.set()

        with (
            closing(AssetRouter(self.router_url)) as router,
            closing(NatsFeed(router, on_message=on_message, on_live=on_live, on_cut=lambda *_: None)) as feed,
        ):
            for asset in assets:
                feed.subscribe(asset)
            if not live.wait(LIVE_SECONDS):
                raise EngineUnavailableError(feed.trouble(), address=self.router_url)
            yield

    def report(self) -> str:
        """Return how many messages of which assets came over which cluster."""
        parts = []
        for name, counts in sorted(self.counts.items()):
            assets = ", ".join(f"{asset} {count}" for asset, count in sorted(counts.items()))
            parts.append(f"{name}: {assets or 'none'}")
        return f"Messages over NATS by cluster. {'; '.join(parts)}."


@contextmanager
def running_cluster(folder: Path, url: str) -> Generator[Cluster]:
    """Run the services on a Kafka, and end them.

    Args:
        folder: folder of their logs.
        url: the `kafka://` URL of the factory.

    Raises:
        RuntimeError: a program is missing, or a service does not start; with the last lines of its log.
    """
    set_up(url)
    with ExitStack() as stack:
        nats = {name: stack.enter_context(NatsServer(folder / f"nats-{name}")) for name in CLUSTERS}
        clusters = {f"NATS_CLUSTER_{name}": server.url for name, server in nats.items()}
        # Else a forwarder begins at the end of the log, which may come after the first events.
        settings = {**clusters, "KSQLDB_URL": url, "KAFKA_AUTO_OFFSET_RESET": "earliest"}

        def start(name: str, kind: str, port_variable: str = "PORT") -> Service:
            named = {**settings, "APP_UUID": name}
            return stack.enter_context(Service(kind, folder / name, named, port_variable))

        router = start("asset-router", "router")
        for number in range(1, FORWARDERS + 1):
            start(f"asset-forwarder-{number}", "forwarder")
        start("state-keeper", "keeper", "OPERATIONS_PORT")
        yield Cluster(f"http://127.0.0.1:{router.port}", {server.url: name for name, server in nats.items()})


def set_up(url: str) -> None:
    """Create the topics, with several partitions.

    Raises:
        RuntimeError: `ofa setup-kafka` failed.
    """
    broker = url.removeprefix("kafka://")
    command = [*OFA, "setup-kafka", "--broker", broker, "--partitions", str(PARTITIONS), "--state"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    if done.returncode:
        raise RuntimeError(f"The topics could not be created. {done.stderr.strip() or done.stdout.strip()}")
