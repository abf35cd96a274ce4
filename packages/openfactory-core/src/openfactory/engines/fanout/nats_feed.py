"""Live events from NATS: each asset on the cluster that the router names, all clusters on one thread."""

from __future__ import annotations

import contextlib
import threading
import time

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.concurrency.loop_thread import LoopThread
from openfactory.engines.fanout.nats_hub import NatsHub, OnCut, OnLive, OnMessage, Subscribers
from openfactory.engines.fanout.router import AssetRouter
from openfactory.exceptions import EngineClosedError
from openfactory.settings.credentials import Credentials

__all__ = ["NatsFeed", "OnCut", "OnLive", "OnMessage"]

# What the router is asked for in any case, so that an asset that moved is found again, in seconds.
_ASK_AGAIN_SECONDS = 300.0


class NatsFeed:
    """Delivers what NATS carries about the assets that are subscribed to, and says when it cannot.

    Whatever is away is tried again for ever; nothing but `close` waits.

    Args:
        ask_again: how often the router is asked whether assets have moved, in seconds.
        pending_messages: how many messages may wait for one asset before it counts as cut.
    """

    def __init__(
        self,
        router: AssetRouter,
        *,
        on_message: OnMessage,
        on_live: OnLive,
        on_cut: OnCut,
        credentials: Credentials | None = None,
        ask_again: float = _ASK_AGAIN_SECONDS,
        pending_messages: int = 100_000,
    ) -> None:
        self._credentials = credentials or Credentials()
        self._credentials.nats()  # what is wrong with them is said now
        self._router = router
        self._subscribers = Subscribers(on_message, on_live, on_cut)
        self._ask_again = ask_again
        self._pending_messages = pending_messages
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._thread: LoopThread | None = None
        self._hub: NatsHub | None = None
        self._closed = False
        reset_in_forked_child(self)

    def subscribe(self, asset_uuid: str) -> None:
        """Hear the messages about an asset from when `on_live` names it.

        Raises:
            EngineClosedError: the feed is closed, or was opened by the process that this one was forked from.
        """
        with self._lock:
            if self._closed:
                raise EngineClosedError("The NATS feed is closed. Make another.")
            if self._thread is None:
                self._thread = LoopThread("openfactory-loop-nats")
                self._hub = NatsHub(
                    self._router, self._subscribers, self._credentials, self._ask_again, self._pending_messages
                )
                self._thread.loop.call_soon_threadsafe(self._hub.start)
            self._wanted.add(asset_uuid)
            self._on_loop("want", asset_uuid)

    def unsubscribe(self, asset_uuid: str) -> None:
        """Hear no more about an asset; a message that is under way may still come."""
        with self._lock:
            if asset_uuid in self._wanted:
                self._wanted.discard(asset_uuid)
                self._on_loop("leave", asset_uuid)

    def is_live(self, asset_uuid: str) -> bool:
        """Whether nothing about an asset is missed at this moment, as far as that was proven."""
        hub = self._hub
        return hub is not None and not self._closed and asset_uuid in hub.live

    def trouble(self) -> str:
        """Why not all assets are live; empty if they are."""
        with self._lock:
            hub, wanted = self._hub, set(self._wanted)
        if hub is None or self._closed or wanted <= hub.live:
            return ""
        return hub.trouble() or "The asset router is being asked."

    def close(self, timeout: float = 5.0) -> None:
        """Hear nothing any more, within a bound in seconds; closing twice does nothing."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            hub = self._hub
        if thread is None or hub is None:
            return
        deadline = time.monotonic() + timeout
        with contextlib.suppress(TimeoutError):  # the loop ends all the same
            thread.submit(hub.close()).result(timeout=0.8 * timeout)
        thread.close(max(0.1, deadline - time.monotonic()))

    def reset_after_fork(self) -> None:
        """In a forked child there is no thread: the feed is closed there, and the parent's goes on."""
        self._lock = threading.Lock()
        self._inherited = self._thread  # kept: its end would end the loop that the parent runs
        self._thread = None
        self._closed = True

    def _on_loop(self, verb: str, asset_uuid: str) -> None:
        if self._thread is not None and self._hub is not None:
            self._thread.loop.call_soon_threadsafe(getattr(self._hub, verb), asset_uuid)
