"""A subscriber to all subjects of a NATS server, by nats-py alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from openfactory.concurrency import LoopThread

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["Heard", "NatsListener", "numbers"]


class Heard(NamedTuple):
    """A message, with its headers as numbers."""

    subject: str
    payload: Any
    headers: dict[str, int]


class NatsListener:
    """Everything that a server has sent since the listener is there; it connects again by itself.

    Attributes:
        heard: the messages of assets.
        progress: the messages of forwarders.
        reconnects: how often it was subscribed again, after the server was away.
    """

    def __init__(self, url: str) -> None:
        self.reconnects = 0
        self.heard: list[Heard] = []
        self.progress: list[Heard] = []
        self._url = url
        self._loop = LoopThread("listener")
        self._client: Any = None

    def __enter__(self) -> Self:
        self._loop.submit(self._connect()).result(30)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.submit(self._client.close()).result(30)
        self._loop.close()

    def of(self, begin: str) -> list[Heard]:
        """The messages of assets whose UUIDs begin so."""
        return [one for one in self.heard if one.subject.startswith(begin)]

    async def _connect(self) -> None:
        import nats

        self._client = await nats.connect(
            self._url,
            reconnect_time_wait=0.1,
            max_reconnect_attempts=-1,
            error_cb=_unheard,
            reconnected_cb=self._count_reconnect,
        )
        await self._client.subscribe(">", cb=self._hear, pending_msgs_limit=0, pending_bytes_limit=0)
        await self._client.flush()

    async def _count_reconnect(self) -> None:
        self.reconnects += 1  # nats-py has flushed the subscriptions before

    async def _hear(self, message: Msg) -> None:
        headers = {name: int(value) for name, value in (message.headers or {}).items()}
        one = Heard(message.subject, json.loads(message.data), headers)
        (self.progress if message.subject.startswith("_OFA.") else self.heard).append(one)


async def _unheard(_error: Exception) -> None:
    """What nats-py reports while it connects again."""


def numbers(heard: list[Heard]) -> dict[str, list[Any]]:
    """By subject, the values in the order of their first arrival."""
    found: dict[str, dict[Any, None]] = {}
    for one in heard:
        found.setdefault(one.subject, {})[one.payload["VALUE"]] = None
    return {subject: list(values) for subject, values in found.items()}
