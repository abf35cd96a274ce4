"""The part of the NATS feed that runs on its loop: the connection of each asset, and the requests to the router."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple

from openfactory.concurrency.bounded import call_on_thread
from openfactory.engines.fanout.backoff import Backoff
from openfactory.engines.fanout.nats_connection import ClusterConnection
from openfactory.engines.fanout.router import AssetRouter, BadAnswerError
from openfactory.engines.fanout.wire import Progress
from openfactory.exceptions import ConfigurationError, EngineUnavailableError, OpenFactoryError
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

__all__ = ["Headers", "NatsHub", "OnCut", "OnLive", "OnMessage", "OnProgress", "Subscribers"]

_logger = logging.getLogger("openfactory.engines.fanout")

#: The headers of a message, or None.
Headers = Mapping[str, str] | None

#: Called with the asset UUID, the attribute id, the payload and the headers of a message, on the feed's thread; it must
#: not block.
OnMessage = Callable[[str, str, bytes, Headers], None]

#: Called with assets whose messages all arrive from now on: the first time, and after each cut.
OnLive = Callable[[frozenset[str]], None]

#: Called with assets that were live and whose messages may be lost, and the time until which no message was lost.
OnCut = Callable[[frozenset[str], float], None]

#: Called with a cluster, the number of a partition and the progress of its forwarder, on the feed's thread.
OnProgress = Callable[[str, int, Progress], None]

# Assets that the router is asked for at once, and the threads for it: at most 4, with at least 10 assets each.
_BATCH = 200
_MAX_THREADS = 4
_MIN_ASSETS_PER_THREAD = 10


class Subscribers(NamedTuple):
    """The callbacks of a feed."""

    on_message: OnMessage
    on_live: OnLive
    on_cut: OnCut
    on_progress: OnProgress


class NatsHub:
    """The assets of a feed, each on the connection to the cluster that the router returns for it.

    Attributes:
        live: the assets whose messages all arrive; other threads may read it.
    """

    def __init__(
        self,
        router: AssetRouter,
        subscribers: Subscribers,
        credentials: Credentials,
        ask_again: float,
        pending_messages: int,
    ) -> None:
        self.live: set[str] = set()
        self._router = router
        self._subscribers = subscribers
        self._credentials = credentials
        self._ask_again = ask_again
        self._pending_messages = pending_messages
        self._assigned: dict[str, ClusterConnection | None] = {}
        self._confirmed_at: dict[str, float] = {}
        self._connections: dict[frozenset[str], ClusterConnection] = {}
        self._queue: dict[str, None] = {}
        self._queued = asyncio.Event()
        self._outage = Outage(
            _logger, meanwhile="Retrying until it is back.", over=f"The asset router at {router.url} answers again."
        )
        self._backoff = Backoff()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the requests to the router."""
        self._spawn(self._ask_router())

    def add(self, asset_uuid: str) -> None:
        """Subscribe to an asset as soon as the router has returned its cluster."""
        if asset_uuid not in self._assigned:
            self._assigned[asset_uuid] = None
            self.recheck((asset_uuid,))

    def remove(self, asset_uuid: str) -> None:
        """Unsubscribe from an asset."""
        if asset_uuid in self._assigned:
            self._queue.pop(asset_uuid, None)
            self._confirmed_at.pop(asset_uuid, None)
            self._unassign(asset_uuid, self._assigned.pop(asset_uuid))

    def cluster_of(self, asset_uuid: str) -> str | None:
        """Return the servers of the cluster of an asset as a text without secrets, or None if it is not known yet."""
        connection = self._assigned.get(asset_uuid)
        return None if connection is None else connection.where

    def clusters(self) -> dict[str, float | None]:
        """Return the clusters with the times of their connections by the monotonic clock, or None without one."""
        return {connection.where: connection.connected_at for connection in list(self._connections.values())}

    def trouble(self) -> str:
        """Return why some assets are not live, or an empty text if no reason is known."""
        if self._outage.reason and None in list(self._assigned.values()):
            return self._outage.reason
        return next(filter(None, (connection.trouble() for connection in list(self._connections.values()))), "")

    async def close(self) -> None:
        """Close all connections."""
        closing = [connection.close() for connection in self._connections.values()]
        self._connections.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*closing, *self._tasks, return_exceptions=True)

    # Callbacks of the connections

    def on_message(self, asset_uuid: str, attribute_id: str, payload: bytes, headers: Headers) -> None:
        """Deliver a message of an asset."""
        try:
            self._subscribers.on_message(asset_uuid, attribute_id, payload, headers)
        except Exception:
            _logger.exception("on_message failed for %s.%s. The next messages are delivered.", asset_uuid, attribute_id)

    def on_live(self, asset_uuids: frozenset[str]) -> None:
        """Report assets whose messages all arrive from now on."""
        self.live |= asset_uuids
        try:
            self._subscribers.on_live(asset_uuids)
        except Exception:
            _logger.exception("on_live failed. The feed continues.")

    def on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        """Report assets whose messages may be lost since a time."""
        self.live -= asset_uuids
        try:
            self._subscribers.on_cut(asset_uuids, good_at)
        except Exception:
            _logger.exception("on_cut failed. The feed continues.")

    def on_progress(self, cluster: str, partition: int, progress: Progress) -> None:
        """Report the progress of a forwarder."""
        self._subscribers.on_progress(cluster, partition, progress)

    def recheck(self, asset_uuids: Iterable[str]) -> None:
        """Queue assets for a request to the router."""
        self._queue.update(dict.fromkeys(asset_uuids))
        self._queued.set()

    # Requests to the router

    async def _ask_router(self) -> None:
        while True:
            await self._wait_for_queue()
            batch = list(self._queue)[:_BATCH]
            asked_at = time.time()
            answers, failure = await _ask_on_threads(self._router, batch)
            for asset_uuid in batch:
                if asset_uuid in self._queue:  # otherwise the asset was removed meanwhile
                    del self._queue[asset_uuid]
                    if asset_uuid in answers:
                        self._assign(asset_uuid, answers[asset_uuid], asked_at)
                    else:
                        self._queue[asset_uuid] = None  # at the end, because other assets may get an answer
            if failure is not None:
                self._outage.begin(str(failure))
                if not answers:
                    await asyncio.sleep(self._backoff.next_delay())
            elif not self._queue:
                self._outage.end()
                self._backoff.reset()

    async def _wait_for_queue(self) -> None:
        """Wait until the queue has an asset; after `ask_again` seconds, queue all assets."""
        while not self._queue:
            self._queued.clear()
            try:
                async with asyncio.timeout(self._ask_again):
                    await self._queued.wait()
            except TimeoutError:
                self.recheck(self._assigned)

    def _assign(self, asset_uuid: str, servers: tuple[str, ...], asked_at: float) -> None:
        key = frozenset(servers)
        connection = self._assigned[asset_uuid]
        if connection is None or frozenset(connection.servers) != key:
            self._move(asset_uuid, connection, key, servers)
        self._confirmed_at[asset_uuid] = asked_at

    def _move(
        self, asset_uuid: str, old: ClusterConnection | None, key: frozenset[str], servers: tuple[str, ...]
    ) -> None:
        was_live = self._unassign(asset_uuid, old)
        if old is not None:
            _logger.info("%s has moved to NATS at %s.", asset_uuid, ", ".join(map(redacted, servers)))
            if was_live:
                # The time of the move is unknown; at the router's last answer the asset was on the old cluster.
                self.on_cut(frozenset((asset_uuid,)), min(old.good_at, self._confirmed_at[asset_uuid]))
            self.recheck(old.assets)  # other assets of that cluster may have moved, too
        connection = self._connections.get(key)
        if connection is None:
            connection = ClusterConnection(servers, self, self._credentials, self._pending_messages)
            self._connections[key] = connection
        connection.add(asset_uuid)
        self._assigned[asset_uuid] = connection

    def _unassign(self, asset_uuid: str, connection: ClusterConnection | None) -> bool:
        self.live.discard(asset_uuid)
        if connection is None:
            return False
        was_live = connection.remove(asset_uuid)
        if not connection.assets:
            del self._connections[frozenset(connection.servers)]
            self._spawn(connection.close())
        return was_live

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_Answers = tuple[dict[str, tuple[str, ...]], OpenFactoryError | None]


async def _ask_on_threads(router: AssetRouter, asset_uuids: list[str]) -> _Answers:
    """Return the servers of each asset, and an error if the router did not answer for all of them.

    Threads ask, because the lookup of the router's host name has no time limit.
    """
    threads = min(_MAX_THREADS, max(1, len(asset_uuids) // _MIN_ASSETS_PER_THREAD))
    parts = [asset_uuids[number::threads] for number in range(threads)]
    answers: dict[str, tuple[str, ...]] = {}
    failure: OpenFactoryError | None = None
    asking = [asyncio.wrap_future(call_on_thread("openfactory-router", _ask, router, part)) for part in parts]
    for partial_answers, partial_failure in await asyncio.gather(*asking):
        answers |= partial_answers
        failure = failure or partial_failure
    return answers, failure


def _ask(router: AssetRouter, asset_uuids: list[str]) -> _Answers:
    answers: dict[str, tuple[str, ...]] = {}
    failure: OpenFactoryError | None = None
    for asset_uuid in asset_uuids:
        try:
            answers[asset_uuid] = router.servers_of(asset_uuid)
        except (BadAnswerError, ConfigurationError) as error:  # of this asset, or of the variable of its cluster
            failure = error
        except OpenFactoryError as error:
            return answers, error  # the router does not answer, and each further request would take as long
        except Exception as error:  # noqa: BLE001 - logged and retried like an outage
            reason = redacted(repr(error))
            text = f"The request to the asset router at {router.url} failed: {reason}. Check ASSET_ROUTER_URL."
            return answers, EngineUnavailableError(text, address=router.url)
    return answers, failure
