"""Connection to a NATS cluster that reconnects, and that proves which assets it receives without loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from openfactory.engines.fanout.backoff import Backoff
from openfactory.engines.fanout.nats_cluster import NatsCluster
from openfactory.engines.fanout.nats_session import NatsSession, text_of
from openfactory.engines.fanout.wire import PROGRESS_SUBJECT, Progress
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["ClusterConnection", "Listener"]

_logger = logging.getLogger("openfactory.engines.fanout")

# Time between two round trips, which prove that no message was lost and detect a broken connection, in seconds.
_PROBE_SECONDS = 2.0

# Duration of a connection after which the delay between attempts is reset, in seconds.
_STABLE_SECONDS = 5.0

# Time limit for closing, in seconds.
_CLOSE_SECONDS = 2.0

_decode_progress = msgspec.json.Decoder(Progress).decode


class Listener(Protocol):
    """Callbacks of a connection, called on the loop's thread."""

    def on_message(self, asset_uuid: str, attribute_id: str, payload: bytes, headers: Mapping[str, str] | None) -> None:
        """Handle a message of an asset."""

    def on_live(self, asset_uuids: frozenset[str]) -> None:
        """Handle assets whose messages all arrive from now on."""

    def on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        """Handle assets whose messages may be lost since a time, in seconds since 1970; earlier ones have arrived."""

    def on_progress(self, cluster: str, partition: int, progress: Progress) -> None:
        """Handle the progress that a forwarder has told on a cluster."""

    def recheck(self, asset_uuids: Iterable[str]) -> None:
        """Ask the router again for assets that may have moved to another cluster."""


class _Interest:
    """A wanted asset, with the spellings of its subjects and the state of its subscriptions."""

    __slots__ = ("asset_uuid", "live", "refusal", "spellings", "subscriptions")

    def __init__(self, asset_uuid: str) -> None:
        self.asset_uuid = asset_uuid
        self.spellings = list(dict.fromkeys((asset_uuid, asset_uuid.upper())))
        self.live = False
        self.refusal = ""
        self.subscriptions: list[Subscription] = []


class ClusterConnection:
    """Subscriptions to assets on one cluster; all methods run on the loop that creates it.

    Args:
        servers: the addresses of the cluster.
        listener: receives the messages and the changes of state.
        credentials: login and certificate authorities.
        pending_messages: number of messages that may wait for one asset before it counts as cut.

    Attributes:
        servers: the addresses of the cluster.
        where: the addresses as a text without secrets.
        connected_at: time of the connection by the monotonic clock, or None if there is none.
        good_at: when the last successful round trip began, in seconds since 1970.
    """

    def __init__(
        self, servers: Iterable[str], listener: Listener, credentials: Credentials, pending_messages: int
    ) -> None:
        self.servers = tuple(servers)
        self.good_at = 0.0
        self.connected_at: float | None = None
        self.where = ", ".join(map(redacted, self.servers))
        self._listener = listener
        self._cluster = NatsCluster(self.servers, credentials)
        self._pending_messages = pending_messages
        self._interests: dict[str, _Interest] = {}
        self._by_subscription: dict[Subscription, _Interest] = {}
        self._leaving: list[Subscription] = []
        self._changed = asyncio.Event()
        self._outage = Outage(_logger, meanwhile="Retrying until it is back.", over=f"NATS at {self.where} is back.")
        self._backoff = Backoff()
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def assets(self) -> list[str]:
        """The assets of this connection, live or not."""
        return list(self._interests)

    def add(self, asset_uuid: str) -> None:
        """Subscribe to an asset; `on_live` is called when the subscription is proven."""
        self._interests[asset_uuid] = _Interest(asset_uuid)
        self._changed.set()

    def remove(self, asset_uuid: str) -> bool:
        """Unsubscribe from an asset.

        Returns:
            Whether the asset was live.
        """
        return self._retire(self._interests.pop(asset_uuid))

    def trouble(self) -> str:
        """Return why some assets are not live, or an empty text."""
        interests = list(self._interests.values())
        if self._outage.reason or all(interest.live for interest in interests):
            return self._outage.reason
        refusals = (interest.refusal for interest in interests if interest.refusal)
        return next(refusals, f"NATS at {self.where} is not connected yet. Wait a moment.")

    async def close(self) -> None:
        """Close the connection within 2 seconds."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    # Connecting

    async def _run(self) -> None:
        while True:
            try:
                session = await self._cluster.connect(self._on_error)
                try:
                    await self._serve_until_lost(session)
                finally:
                    await session.close()
            except Exception as error:  # noqa: BLE001 - each error is retried
                self._cut(text_of(error))
            # One asset is enough to find out that the cluster has moved; all assets would load the router each time.
            self._listener.recheck(random.sample(self.assets, min(1, len(self._interests))))
            await asyncio.sleep(self._backoff.next_delay())

    async def _serve_until_lost(self, session: NatsSession) -> None:
        connected_at = time.monotonic()
        try:
            await session.run(self._serve(session))
        finally:
            if time.monotonic() - connected_at > _STABLE_SECONDS:
                self._backoff.reset()

    async def _serve(self, session: NatsSession) -> None:
        """Add and remove subscriptions when the assets change, and prove them regularly."""
        await session.subscribe(f"{PROGRESS_SUBJECT}.*", self._receive_progress, self._pending_messages)
        self.connected_at = time.monotonic()
        while True:
            self._changed.clear()
            await self._update_subscriptions(session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._changed.wait()

    async def _update_subscriptions(self, session: NatsSession) -> None:
        leaving, self._leaving = self._leaving, []
        for subscription in leaving:
            await subscription.unsubscribe()
        waiting = [interest for interest in self._interests.values() if not (interest.live or interest.refusal)]
        for interest in waiting:
            await self._subscribe(session, interest)
        if waiting:
            await session.prove()  # nats-py may write this ping before the subscriptions, but not the next one
        began = time.time()
        await session.prove()
        self.good_at = began
        self._confirm(waiting)

    def _confirm(self, waiting: list[_Interest]) -> None:
        if self._outage.reason:
            self._outage.end()
            self._listener.recheck(self.assets)
        proven = [
            interest
            for interest in waiting
            if self._interests.get(interest.asset_uuid) is interest and not interest.refusal
        ]
        for interest in proven:
            interest.live = True
        if proven:
            self._listener.on_live(frozenset(interest.asset_uuid for interest in proven))

    def _cut(self, reason: str) -> None:
        """Report that all messages since the last proof may be lost."""
        cut = frozenset(interest.asset_uuid for interest in self._interests.values() if interest.live)
        self.connected_at = None
        self._by_subscription.clear()
        self._leaving.clear()
        self._interests = {asset_uuid: _Interest(asset_uuid) for asset_uuid in self._interests}
        self._outage.begin(
            f"NATS at {self.where} is away, and the events of {len(self._interests)} assets are missing: {reason}."
        )
        if cut:
            self._listener.on_cut(cut, self.good_at)

    # Subscriptions

    async def _subscribe(self, session: NatsSession, interest: _Interest) -> None:
        from nats.errors import BadSubjectError

        for spelling in interest.spellings:
            try:
                if not {"*", ">"}.isdisjoint(spelling.split(".")):
                    raise BadSubjectError
                receive = self._receiver(interest, len(spelling) + 1)
                subscription = await session.subscribe(f"{spelling}.>", receive, self._pending_messages)
            except BadSubjectError:
                self._refuse(interest, "its UUID cannot be part of a NATS subject. Rename the asset")
                return
            interest.subscriptions.append(subscription)
            self._by_subscription[subscription] = interest

    def _receiver(self, interest: _Interest, prefix_length: int) -> Callable[[Msg], Coroutine[Any, Any, None]]:
        async def receive(message: Msg) -> None:
            if self._interests.get(interest.asset_uuid) is interest:
                attribute_id = message.subject[prefix_length:]
                self._listener.on_message(interest.asset_uuid, attribute_id, message.data, message.headers)

        return receive

    async def _receive_progress(self, message: Msg) -> None:
        try:
            partition, progress = int(message.subject.rpartition(".")[2]), _decode_progress(message.data)
        except (ValueError, msgspec.DecodeError):
            return  # another program uses the subject
        self._listener.on_progress(self.where, partition, progress)

    def _retire(self, interest: _Interest) -> bool:
        for subscription in interest.subscriptions:
            self._by_subscription.pop(subscription, None)
        self._leaving += interest.subscriptions
        self._changed.set()
        return interest.live

    def _refuse(self, interest: _Interest, reason: str) -> None:
        interest.refusal = f"{interest.asset_uuid!r} cannot be received over NATS: {reason}."
        _logger.warning("%s", interest.refusal)

    def _on_error(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError

        text = str(error)
        if isinstance(error, SlowConsumerError):
            self._on_dropped(self._by_subscription.get(error.sub))
        elif "permissions violation for subscription" in text:
            self._on_refused(text.partition('"')[2].partition('"')[0].removesuffix(".>"), text_of(error))

    def _on_dropped(self, interest: _Interest | None) -> None:
        """Subscribe again after messages were dropped; the messages that still wait are discarded."""
        if interest is None:
            return
        self._interests[interest.asset_uuid] = _Interest(interest.asset_uuid)
        if self._retire(interest):
            _logger.warning(
                "Messages of %s were dropped, because they arrive faster than they are processed. Subscribing again.",
                interest.asset_uuid,
            )
            self._listener.on_cut(frozenset((interest.asset_uuid,)), self.good_at)

    def _on_refused(self, lowered: str, reason: str) -> None:
        """Handle a missing permission for a subject; nats-py reports it in lower case, so its spelling is unknown."""
        for interest in list(self._interests.values()):
            if interest.asset_uuid.lower() != lowered or interest.refusal:
                continue
            if len(interest.spellings) == 1:
                self._refuse(interest, f"{reason}. Allow the NATS user to subscribe to it")
                continue
            self._retire(interest)
            exact = self._interests[interest.asset_uuid] = _Interest(interest.asset_uuid)
            exact.spellings = [interest.asset_uuid]
