"""The connection to a NATS cluster: it comes back by itself, and what it says of its assets is proven."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from openfactory.engines.fanout.nats_session import NatsSession, text_of
from openfactory.engines.fanout.outage import Outage
from openfactory.settings.credentials import Credentials, redacted

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

__all__ = ["ClusterConnection", "Listener"]

_logger = logging.getLogger("openfactory.engines.fanout")

# How often a round trip proves that nothing was lost; a cut that nobody reports is found by it, in seconds.
_PROBE_SECONDS = 2.0

# A connection that was good for so long starts over with short waits, in seconds.
_GOOD_FOR_LONG = 5.0

# How long to wait for the end when closing, in seconds.
_CLOSE_SECONDS = 2.0


class Listener(Protocol):
    """Who hears a connection, on the loop's thread."""

    def on_message(self, asset_uuid: str, attribute_id: str, payload: bytes) -> None:
        """A message about an asset."""

    def on_live(self, asset_uuids: frozenset[str]) -> None:
        """From now on nothing about these assets is missed."""

    def on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        """Nothing was missed before that time, and no promise is made from then on."""

    def on_suspect(self, asset_uuids: Iterable[str]) -> None:
        """These assets may have moved to another cluster."""


class _Interest:
    """An asset that is listened to, under the spellings that its subjects may have, and how far that got."""

    __slots__ = ("asset_uuid", "live", "refusal", "spellings", "subscriptions")

    def __init__(self, asset_uuid: str) -> None:
        self.asset_uuid = asset_uuid
        self.spellings = list(dict.fromkeys((asset_uuid, asset_uuid.upper())))
        self.live = False
        self.refusal = ""
        self.subscriptions: list[Subscription] = []


class ClusterConnection:
    """Listens to assets on one cluster; everything happens on the loop that it was made on.

    Attributes:
        servers: the addresses of the cluster.
        good_at: when the last proven round trip began.
    """

    def __init__(
        self, servers: Iterable[str], listener: Listener, credentials: Credentials, pending_messages: int
    ) -> None:
        self.servers = tuple(servers)
        self.good_at = 0.0
        self._where = ", ".join(map(redacted, self.servers))
        self._listener = listener
        self._credentials = credentials
        self._pending_messages = pending_messages
        self._interests: dict[str, _Interest] = {}
        self._by_sid: dict[int, _Interest] = {}
        self._leaving: list[Subscription] = []
        self._told_of: dict[str, str | None] = {}
        self._changed = asyncio.Event()
        self._outage = Outage()
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def assets(self) -> list[str]:
        """The assets that are listened to."""
        return list(self._interests)

    def add(self, asset_uuid: str) -> None:
        """Listen to an asset; the listener is told when that is proven."""
        self._interests[asset_uuid] = _Interest(asset_uuid)
        self._changed.set()

    def remove(self, asset_uuid: str) -> bool:
        """Listen no more to an asset.

        Returns:
            whether it was live.
        """
        return self._retire(self._interests.pop(asset_uuid))

    def trouble(self) -> str:
        """Why some assets are not live, empty if all are."""
        interests = list(self._interests.values())
        if self._outage.reason or all(one.live for one in interests):
            return self._outage.reason
        refusals = (one.refusal for one in interests if one.refusal)
        return next(refusals, f"NATS at {self._where} is being connected to.")

    async def close(self) -> None:
        """End it, within a bound."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=_CLOSE_SECONDS)

    # From one connection to the next.

    async def _run(self) -> None:
        while True:
            try:
                session = await self._connect()
                try:
                    await self._serve_until_lost(session)
                finally:
                    await session.close()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                self._cut(text_of(error))
            # While a cluster is away, one asset is asked for: the router need not hear of all of them every time.
            self._listener.on_suspect(random.sample(self.assets, min(1, len(self._interests))))
            await asyncio.sleep(self._outage.next_wait())

    async def _connect(self) -> NatsSession:
        """Connect to any server of the cluster: those that were named first, then those that another one told of."""
        failures = []
        named = random.sample(self.servers, len(self.servers))
        for server in (*named, *(one for one in self._told_of if one not in named)):
            session = NatsSession(server, self._on_error)
            try:
                await session.connect(self._credentials, self._told_of.get(server))
            except ConnectionError as error:
                failures.append(str(error))
                await session.close()
            except BaseException:
                await session.close()
                raise
            else:
                self._told_of = session.other_servers()
                return session
        raise ConnectionError("; ".join(failures))

    async def _serve_until_lost(self, session: NatsSession) -> None:
        connected_at = time.monotonic()
        serving = asyncio.get_running_loop().create_task(self._serve(session))
        try:
            await asyncio.wait({serving, session.lost}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            raise session.why_lost()
        finally:
            serving.cancel()
            await asyncio.wait({serving})
            if time.monotonic() - connected_at > _GOOD_FOR_LONG:
                self._outage.start_over()

    async def _serve(self, session: NatsSession) -> None:
        """Keep the subscriptions as they should be, and prove every now and then that they are good."""
        while True:
            self._changed.clear()
            await self._settle(session)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._changed.wait()

    async def _settle(self, session: NatsSession) -> None:
        leaving, self._leaving = self._leaving, []
        for subscription in leaving:
            await subscription.unsubscribe()
        waiting = [one for one in self._interests.values() if not (one.live or one.refusal)]
        for interest in waiting:
            await self._subscribe(session, interest)
        if waiting:
            await session.prove()  # only the next one stands behind the subscriptions
        began = time.time()
        await session.prove()
        self.good_at = began
        self._confirm(waiting)

    def _confirm(self, waiting: list[_Interest]) -> None:
        if self._outage.reason:
            self._outage.ends(f"NATS at {self._where} is back.")
            self._listener.on_suspect(self.assets)
        proven = [one for one in waiting if self._interests.get(one.asset_uuid) is one and not one.refusal]
        for interest in proven:
            interest.live = True
        if proven:
            self._listener.on_live(frozenset(one.asset_uuid for one in proven))

    def _cut(self, reason: str) -> None:
        """Take it that everything since the last proof may be lost."""
        cut = frozenset(one.asset_uuid for one in self._interests.values() if one.live)
        self._by_sid.clear()
        self._leaving.clear()
        self._interests = {asset_uuid: _Interest(asset_uuid) for asset_uuid in self._interests}
        self._outage.begins(
            f"NATS at {self._where} is away, and what it carries of {len(self._interests)} assets is missed: {reason}."
        )
        if cut:
            self._listener.on_cut(cut, self.good_at)

    # From one subscription to the next.

    async def _subscribe(self, session: NatsSession, interest: _Interest) -> None:
        from nats.errors import BadSubjectError

        for spelling in interest.spellings:
            try:
                if not {"*", ">"}.isdisjoint(spelling.split(".")):
                    raise BadSubjectError
                receive = self._receiver(interest, len(spelling) + 1)
                subscription = await session.subscribe(f"{spelling}.>", receive, self._pending_messages)
            except BadSubjectError:
                self._refuse(interest, "this cannot be part of a NATS subject. Rename the asset")
                return
            interest.subscriptions.append(subscription)
            self._by_sid[subscription._id] = interest

    def _receiver(self, interest: _Interest, prefix_length: int) -> Callable[[Msg], Coroutine[Any, Any, None]]:
        async def receive(message: Msg) -> None:
            if self._interests.get(interest.asset_uuid) is interest:
                self._listener.on_message(interest.asset_uuid, message.subject[prefix_length:], message.data)

        return receive

    def _retire(self, interest: _Interest) -> bool:
        for subscription in interest.subscriptions:
            self._by_sid.pop(subscription._id, None)
        self._leaving += interest.subscriptions
        self._changed.set()
        return interest.live

    def _refuse(self, interest: _Interest, reason: str) -> None:
        interest.refusal = f"{interest.asset_uuid!r} is not heard on NATS: {reason}."
        _logger.warning("%s", interest.refusal)

    def _on_error(self, error: Exception) -> None:
        from nats.errors import SlowConsumerError

        text = str(error)
        if isinstance(error, SlowConsumerError):
            self._on_dropped(self._by_sid.get(error.sid))
        elif "permissions violation for subscription" in text:
            self._on_refused(text.partition('"')[2].partition('"')[0].removesuffix(".>"), text_of(error))

    def _on_dropped(self, interest: _Interest | None) -> None:
        """Messages were dropped because too many waited: those that wait are old now, so start over."""
        if interest is None:
            return
        self._interests[interest.asset_uuid] = _Interest(interest.asset_uuid)
        if self._retire(interest):
            _logger.warning(
                "%s says more than is taken in the same time, and messages were dropped. It is read again.",
                interest.asset_uuid,
            )
            self._listener.on_cut(frozenset((interest.asset_uuid,)), self.good_at)

    def _on_refused(self, lowered: str, reason: str) -> None:
        """A subject that we may not subscribe to: nats-py tells it in lower case, so which spelling is not known."""
        suspects = [one for one in self._interests.values() if one.asset_uuid.lower() == lowered and not one.refusal]
        for interest in suspects:
            if len(interest.spellings) == 1:
                self._refuse(interest, f"{reason}. Let the user that we log in as subscribe to it")
                continue
            self._retire(interest)
            again = self._interests[interest.asset_uuid] = _Interest(interest.asset_uuid)
            again.spellings = [interest.asset_uuid]
