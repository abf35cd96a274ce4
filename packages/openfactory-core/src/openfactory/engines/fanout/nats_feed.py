"""Live events from the NATS clusters that the asset router returns; one thread serves all clusters."""

from __future__ import annotations

import contextlib
import threading
import time

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.concurrency.loop_thread import LoopThread
from openfactory.engines.fanout.nats_hub import NatsHub, OnCut, OnLive, OnMessage, OnProgress, Subscribers
from openfactory.engines.fanout.router import AssetRouter
from openfactory.exceptions import EngineClosedError
from openfactory.settings.credentials import Credentials

__all__ = ["NatsFeed", "OnCut", "OnLive", "OnMessage", "OnProgress"]

# Time after which the router is asked for all assets again, to find those that have moved, in seconds.
_ASK_AGAIN_SECONDS = 300.0


class NatsFeed:
    """Feed of the NATS messages of the subscribed assets, with notice of possible losses.

    Failed connections are retried until `close`. Only `close` blocks.

    Args:
        router: the asset router; the feed does not close it.
        on_message: called with the asset UUID, the attribute id, the payload and the headers of each message.
        on_live: called with assets whose messages all arrive from now on: after `subscribe`, and after each cut.
        on_cut: called with assets that were live and whose messages may be lost, and with the time in seconds since
            1970 until which no message was lost.
        on_progress: called with the progress that a forwarder has told on a cluster of the assets.
        credentials: login and certificate authorities of NATS.
        ask_again: time after which the router is asked whether assets have moved, in seconds.
        pending_messages: number of messages that may wait for one asset before it counts as cut.

    Raises:
        ConfigurationError: the credentials are invalid.
    """

    def __init__(
        self,
        router: AssetRouter,
        *,
        on_message: OnMessage,
        on_live: OnLive,
        on_cut: OnCut,
        on_progress: OnProgress = lambda *_: None,
        credentials: Credentials | None = None,
        ask_again: float = _ASK_AGAIN_SECONDS,
        pending_messages: int = 100_000,
    ) -> None:
        self._credentials = credentials or Credentials()
        self._credentials.nats()  # raises if they are invalid
        self._router = router
        self._subscribers = Subscribers(on_message, on_live, on_cut, on_progress)
        self._ask_again = ask_again
        self._pending_messages = pending_messages
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._thread: LoopThread | None = None
        self._hub: NatsHub | None = None
        self._closed = False
        reset_in_forked_child(self)

    def subscribe(self, asset_uuid: str) -> None:
        """Subscribe to the messages of an asset; all of them arrive after `on_live` was called with the asset.

        Raises:
            EngineClosedError: the feed is closed, or this process is a fork of the process that opened it.
        """
        with self._lock:
            if self._closed:
                raise EngineClosedError("The NATS feed is closed. Create a new one.")
            if self._thread is None:
                self._thread = LoopThread("openfactory-loop-nats")
                self._hub = NatsHub(
                    self._router, self._subscribers, self._credentials, self._ask_again, self._pending_messages
                )
                self._thread.loop.call_soon_threadsafe(self._hub.start)
            self._wanted.add(asset_uuid)
            self._on_loop("add", asset_uuid)

    def unsubscribe(self, asset_uuid: str) -> None:
        """Unsubscribe from an asset; a message in transit may still arrive."""
        with self._lock:
            if asset_uuid in self._wanted:
                self._wanted.discard(asset_uuid)
                self._on_loop("remove", asset_uuid)

    def is_live(self, asset_uuid: str) -> bool:
        """Whether all messages of an asset arrive, as of the last proof."""
        hub = self._hub
        return hub is not None and not self._closed and asset_uuid in hub.live

    def cluster_of(self, asset_uuid: str) -> str | None:
        """Return the servers of the cluster of an asset as a text without secrets, or None if it is not known yet."""
        hub = self._hub
        return None if hub is None or self._closed else hub.cluster_of(asset_uuid)

    def clusters(self) -> dict[str, float | None]:
        """Return the clusters with the times of their connections by the monotonic clock, or None without one."""
        hub = self._hub
        return {} if hub is None or self._closed else hub.clusters()

    def trouble(self) -> str:
        """Return why some assets are not live, or an empty text."""
        with self._lock:
            hub, wanted = self._hub, set(self._wanted)
        if hub is None or self._closed or wanted <= hub.live:
            return ""
        return hub.trouble() or "The asset router has not answered yet. Wait a moment."

    def close(self, timeout: float = 5.0) -> None:
        """Close all connections within a time limit in seconds; a second call does nothing."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            hub = self._hub
        if thread is None or hub is None:
            return
        deadline = time.monotonic() + timeout
        with contextlib.suppress(TimeoutError):  # the loop ends anyway
            thread.submit(hub.close()).result(timeout=0.8 * timeout)
        thread.close(max(0.1, deadline - time.monotonic()))

    def reset_after_fork(self) -> None:
        """Close the feed in a forked child, which does not have its thread; the parent's feed continues."""
        self._lock = threading.Lock()
        self._inherited = self._thread  # referenced: the loop's finalizer would close sockets of the parent
        self._thread = None
        self._closed = True

    def _on_loop(self, method: str, asset_uuid: str) -> None:
        if self._thread is not None and self._hub is not None:
            self._thread.loop.call_soon_threadsafe(getattr(self._hub, method), asset_uuid)
