"""The asset router and the asset forwarder of openfactory.fanout: on threads of the tests, and in processes."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from app_processes import AppProcess
from openfactory.concurrency import LoopThread
from openfactory.fanout.forwarder import AssetForwarderApp
from openfactory.fanout.router import AssetRouterApp
from running_services import FANOUT

if TYPE_CHECKING:
    from openfactory.flaskapp import OpenFactoryFlaskApp

__all__ = ["ForwarderProcess", "OwnForwarder", "OwnRouter", "RouterProcess"]

_SECONDS = 30.0
_CLUSTER = "C1"


class _Service:
    """An app that runs on a thread, each time as a new object."""

    def __init__(self) -> None:
        self.app: OpenFactoryFlaskApp | None = None
        self.port = 0
        self._loop: LoopThread | None = None
        self._running: asyncio.Task[None]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the service, again too, on the same port, and return when it serves."""
        app = self.app = self._new_app()
        self._loop = LoopThread("service-of-tests")
        self._running = self._loop.submit(_begin(app)).result(_SECONDS)
        deadline = time.monotonic() + _SECONDS
        while not self._serves():
            if self._running.done() or time.monotonic() > deadline:
                failure = self.stop()
                raise RuntimeError(f"The service did not start: {failure!r}") from failure
            time.sleep(0.005)

    def stop(self) -> BaseException | None:
        """Stop the service, and return the error that has ended it; a second call does nothing."""
        if self._loop is None:
            return None
        failure = self._loop.submit(_end(self._running)).result(_SECONDS)
        self._loop.close()
        self._loop = None
        return failure

    def _new_app(self) -> OpenFactoryFlaskApp:
        raise NotImplementedError

    def _serves(self) -> bool:
        if self.app is None or self.app._server is None:
            return False
        self.port = self.app._server.port
        return True


async def _begin(app: OpenFactoryFlaskApp) -> asyncio.Task[None]:
    return asyncio.create_task(app.async_run())


async def _end(running: asyncio.Task[None]) -> BaseException | None:
    running.cancel()
    [failure] = await asyncio.gather(running, return_exceptions=True)
    return failure


class OwnRouter(_Service):
    """The asset router of OpenFactory, with one cluster.

    Args:
        nats_url: the server of the cluster.
    """

    def __init__(self, nats_url: str) -> None:
        super().__init__()
        self._clusters = {_CLUSTER: (nats_url,)}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def nats_url(self) -> str:
        """The server that it names, which may be another address than that of the forwarder."""
        return self._clusters[_CLUSTER][0]

    @nats_url.setter
    def nats_url(self, url: str) -> None:
        self._clusters[_CLUSTER] = (url,)

    def _new_app(self) -> AssetRouterApp:
        return AssetRouterApp(
            None, clusters=self._clusters, test_mode=True, app_uuid="ROUTER", host="127.0.0.1", port=self.port
        )


class OwnForwarder(_Service):
    """The asset forwarder of OpenFactory, to one cluster.

    Args:
        kafka_url: `kafka://` URL of the log.
        nats_url: the server of the cluster.
        partitions: number of the partitions of the log.
    """

    app: AssetForwarderApp | None

    def __init__(self, kafka_url: str, nats_url: str, partitions: int) -> None:
        super().__init__()
        self._kafka_url = kafka_url
        self._nats_url = nats_url
        self._partitions = partitions

    def _new_app(self) -> AssetForwarderApp:
        return AssetForwarderApp(
            None,
            clusters={_CLUSTER: (self._nats_url,)},
            kafka=self._kafka_url,
            test_mode=True,
            app_uuid="FORWARDER",
            host="127.0.0.1",
            port=0,
        )

    def _serves(self) -> bool:
        """Return whether all that is written from now on is forwarded."""
        if not super()._serves() or self.app is None or not self.app.forwardings:
            return False
        [forwarding] = self.app.forwardings
        return len(forwarding.progress) == self._partitions and not forwarding.trouble


class _ServiceProcess(AppProcess):
    """A service as its users run it: `ofa fanout …` in a process of its own.

    Args:
        folder: folder of its log.
        service: name of the service.
        clusters: the servers of each NATS cluster, by its name.
        environment: more environment variables.
    """

    def __init__(self, folder: Path, service: str, clusters: dict[str, str], **environment: str) -> None:
        command = [sys.executable, "-W", "error", *FANOUT, service, "--port", "0"]
        settings = {f"NATS_CLUSTER_{name}": servers for name, servers in clusters.items()}
        super().__init__(folder, command, {"OPENFACTORY_HOST": "127.0.0.1"} | settings | environment)


class RouterProcess(_ServiceProcess):
    """A router of OpenFactory in a process of its own."""

    def __init__(self, folder: Path, clusters: dict[str, str], **environment: str) -> None:
        super().__init__(folder, "router", clusters, **environment)

    @property
    def url(self) -> str:
        """Its address, as soon as it serves."""
        self.until("Serving on ")
        return self.said.partition("Serving on ")[2].split()[0]


class ForwarderProcess(_ServiceProcess):
    """A forwarder of OpenFactory in a process of its own, from the log at a `kafka://` URL."""

    def __init__(self, folder: Path, kafka_url: str, clusters: dict[str, str], **environment: str) -> None:
        super().__init__(folder, "forwarder", clusters, KSQLDB_URL=kafka_url, **environment)
