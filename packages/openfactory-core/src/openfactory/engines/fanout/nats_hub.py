"""The side of the NATS feed that lives on its loop: where each asset is, and which questions are open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from openfactory.engines.fanout.nats_connection import ClusterConnection
from openfactory.engines.fanout.outage import Outage
from openfactory.engines.fanout.router import AssetRouter, BadAnswerError
from openfactory.exceptions import EngineUnavailableError, OpenFactoryError
from openfactory.settings.credentials import Credentials, redacted

__all__ = ["NatsHub", "OnCut", "OnLive", "OnMessage", "Subscribers"]

_logger = logging.getLogger("openfactory.engines.fanout")

#: Called with asset UUID, attribute id and payload, on the feed's thread: it must return soon.
OnMessage = Callable[[str, str, bytes], None]

#: Called with assets of which nothing is missed from now on: the first time, and after each cut.
OnLive = Callable[[frozenset[str]], None]

#: Called with assets that were live and may miss messages, and the time until which they did not.
OnCut = Callable[[frozenset[str], float], None]

# How many assets the router is asked for in one go, by how many threads at most, each with so many at least.
_BATCH = 200
_THREADS = 4
_LEAST = 10


class Subscribers(NamedTuple):
    """Who is told what."""

    on_message: OnMessage
    on_live: OnLive
    on_cut: OnCut


class NatsHub:
    """Puts each asset on the connection of its cluster, and moves it when the router says so.

    Attributes:
        live: the assets of which nothing is missed; other threads may look.
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
        self._places: dict[str, ClusterConnection | None] = {}
        self._confirmed_at: dict[str, float] = {}
        self._connections: dict[frozenset[str], ClusterConnection] = {}
        self._open_questions: dict[str, None] = {}
        self._asked = asyncio.Event()
        self._outage = Outage()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to ask the router."""
        self._spawn(self._ask_for_ever())

    def want(self, asset_uuid: str) -> None:
        """Listen to an asset as soon as it is known where."""
        if asset_uuid not in self._places:
            self._places[asset_uuid] = None
            self.on_suspect((asset_uuid,))

    def leave(self, asset_uuid: str) -> None:
        """Listen no more to an asset."""
        if asset_uuid in self._places:
            self._open_questions.pop(asset_uuid, None)
            self._confirmed_at.pop(asset_uuid, None)
            self._take_off(asset_uuid, self._places.pop(asset_uuid))

    def trouble(self) -> str:
        """Why some assets are not live, as far as it is known."""
        if self._outage.reason and None in list(self._places.values()):
            return self._outage.reason
        return next(filter(None, (one.trouble() for one in list(self._connections.values()))), "")

    async def close(self) -> None:
        """End all connections."""
        closing = [one.close() for one in self._connections.values()]
        self._connections.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*closing, *self._tasks, return_exceptions=True)

    # What a connection tells.

    def on_message(self, asset_uuid: str, attribute_id: str, payload: bytes) -> None:
        """A message about an asset."""
        try:
            self._subscribers.on_message(asset_uuid, attribute_id, payload)
        except Exception:
            _logger.exception("A message about %s.%s was not taken; the next ones are.", asset_uuid, attribute_id)

    def on_live(self, asset_uuids: frozenset[str]) -> None:
        """From now on nothing about these assets is missed."""
        self.live |= asset_uuids
        try:
            self._subscribers.on_live(asset_uuids)
        except Exception:
            _logger.exception("What is called when assets are live again ended with an error; the feed goes on.")

    def on_cut(self, asset_uuids: frozenset[str], good_at: float) -> None:
        """Nothing about these assets was missed before that time."""
        self.live -= asset_uuids
        try:
            self._subscribers.on_cut(asset_uuids, good_at)
        except Exception:
            _logger.exception("What is called when assets are cut off ended with an error; the feed goes on.")

    def on_suspect(self, asset_uuids: Iterable[str]) -> None:
        """Ask the router where these assets are."""
        self._open_questions.update(dict.fromkeys(asset_uuids))
        self._asked.set()

    # What the router answers.

    async def _ask_for_ever(self) -> None:
        while True:
            await self._until_asked()
            batch = list(self._open_questions)[:_BATCH]
            asked_at = time.time()
            answers, failure = await _answers_of(self._router, batch)
            for asset_uuid in batch:
                if asset_uuid in self._open_questions:  # else nobody wants it any more
                    del self._open_questions[asset_uuid]
                    if asset_uuid in answers:
                        self._place(asset_uuid, answers[asset_uuid], asked_at)
                    else:
                        self._open_questions[asset_uuid] = None  # at the end: another one may be answered
            if failure is not None:
                self._outage.begins(str(failure))
                if not answers:
                    await asyncio.sleep(self._outage.next_wait())
            elif not self._open_questions:
                self._outage.ends(f"The asset router at {self._router.url} answers again.")
                self._outage.start_over()

    async def _until_asked(self) -> None:
        """Wait for a question; now and then, that is where all assets are."""
        while not self._open_questions:
            self._asked.clear()
            try:
                async with asyncio.timeout(self._ask_again):
                    await self._asked.wait()
            except TimeoutError:
                self.on_suspect(self._places)

    def _place(self, asset_uuid: str, servers: tuple[str, ...], asked_at: float) -> None:
        key = frozenset(servers)
        place = self._places[asset_uuid]
        if place is None or frozenset(place.servers) != key:
            self._move(asset_uuid, place, key, servers)
        self._confirmed_at[asset_uuid] = asked_at

    def _move(
        self, asset_uuid: str, old: ClusterConnection | None, key: frozenset[str], servers: tuple[str, ...]
    ) -> None:
        was_live = self._take_off(asset_uuid, old)
        if old is not None:
            _logger.info("%s is on NATS at %s now.", asset_uuid, ", ".join(map(redacted, servers)))
            if was_live:
                # Since when it is there nobody tells: it was where we heard it when the router was asked last.
                self.on_cut(frozenset((asset_uuid,)), min(old.good_at, self._confirmed_at[asset_uuid]))
            self.on_suspect(old.assets)  # where one has moved, others may have
        connection = self._connections.get(key)
        if connection is None:
            connection = ClusterConnection(servers, self, self._credentials, self._pending_messages)
            self._connections[key] = connection
        connection.add(asset_uuid)
        self._places[asset_uuid] = connection

    def _take_off(self, asset_uuid: str, connection: ClusterConnection | None) -> bool:
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


async def _answers_of(router: AssetRouter, asset_uuids: list[str]) -> _Answers:
    """Where these assets are, and what kept the router from telling of all of them."""
    threads = min(_THREADS, max(1, len(asset_uuids) // _LEAST))
    parts = [asset_uuids[number::threads] for number in range(threads)]
    answers: dict[str, tuple[str, ...]] = {}
    failure: OpenFactoryError | None = None
    for some, failed in await asyncio.gather(*(_on_a_thread(_ask, router, part) for part in parts)):
        answers |= some
        failure = failure or failed
    return answers, failure


async def _on_a_thread(ask: Callable[[AssetRouter, list[str]], _Answers], *arguments: Any) -> _Answers:
    """Run on a thread that lives as long as the question: finding the router's address has no time limit."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[_Answers] = loop.create_future()

    def settle(answers: _Answers) -> None:
        if not answered.done():
            answered.set_result(answers)

    def run() -> None:
        answers = ask(*arguments)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, answers)

    threading.Thread(target=run, name="openfactory-router", daemon=True).start()
    return await answered


def _ask(router: AssetRouter, asset_uuids: list[str]) -> _Answers:
    answers: dict[str, tuple[str, ...]] = {}
    failure: OpenFactoryError | None = None
    for asset_uuid in asset_uuids:
        try:
            answers[asset_uuid] = router.servers_of(asset_uuid)
        except BadAnswerError as error:
            failure = error
        except OpenFactoryError as error:
            return answers, error  # nobody is there: asking for the others would take as long
        except Exception as error:  # noqa: BLE001 - what it is stands in the log, and it is asked again
            return answers, EngineUnavailableError(f"The asset router cannot be asked: {error!r}.", address=router.url)
    return answers, failure
