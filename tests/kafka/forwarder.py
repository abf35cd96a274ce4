"""The asset forwarder in small: what stands in the topic is said on NATS, as the real one says it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message
    from nats.aio.client import Client

__all__ = ["Forwarder", "forwarded"]

_START_SECONDS = 30.0
_COMMIT_SECONDS = 0.5
_TIMESTAMP_TYPES = {1: "producer", 2: "broker"}


class Forwarder:
    """Reads a topic from its end on and publishes each message on NATS; a later start goes on where it stopped.

    What cannot be published, because NATS is away, is lost: so it is with the real one.

    Args:
        commits: whether it commits its offsets, as the real one does.

    Attributes:
        counters: how many messages were `consumed`, `published`, `invalid` and `failed`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        nats_url: str,
        topic: str = "ofa_assets",
        *,
        commits: bool = True,
        **properties: Any,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._commits = commits
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._stands = threading.Event()
        self._committed_at = 0.0
        self._properties = {"bootstrap.servers": bootstrap_servers, **properties}
        self._nats_url = nats_url
        self._topic = topic
        self._next_offsets: dict[int, int] = {}
        self._started = threading.Event()
        self._stopped = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None

    @property
    def is_connected(self) -> bool:
        """Whether NATS takes what it publishes."""
        return self._client is not None and bool(self._client.is_connected)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Come back when whatever is written from now on will be forwarded."""
        self._started.clear()
        self._stopped.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="forwarder", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_SECONDS) or self._failure is not None:
            self.stop()
            raise RuntimeError(f"The forwarder did not start: {self._failure!r}") from self._failure

    def stop(self) -> None:
        """Forward nothing more; stopping twice does nothing."""
        self._stopped.set()
        self.thaw()
        if self._thread is not None:
            self._thread.join(_START_SECONDS)
            self._thread = None

    def freeze(self) -> None:
        """Stand still, and return when it does; NATS and the broker do not notice it soon."""
        self._stands.clear()
        self._may_go_on.clear()
        assert self._stands.wait(_START_SECONDS), "the forwarder does not stand still"

    def thaw(self) -> None:
        """Go on."""
        self._may_go_on.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._forward())
        except BaseException as error:  # noqa: BLE001 - it is raised where it was started
            self._failure = error
        finally:
            self._started.set()

    async def _forward(self) -> None:
        import nats

        client = self._client = await nats.connect(
            self._nats_url.split(","),
            error_cb=_unheard,
            reconnect_time_wait=0.1,
            max_reconnect_attempts=-1,
        )
        consumer = self._open_consumer()
        self._started.set()
        try:
            while not self._stopped.is_set():
                for message in await asyncio.to_thread(_some, consumer):
                    await self._publish(client, message)
                if time.monotonic() > self._committed_at + _COMMIT_SECONDS:
                    self._committed_at = time.monotonic()
                    await self._commit(consumer)
                if not self._may_go_on.is_set():
                    self._stands.set()
                    await asyncio.to_thread(self._may_go_on.wait)
        finally:
            consumer.close()
            with contextlib.suppress(Exception):
                await client.close()

    def _open_consumer(self) -> Consumer:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {
                "group.id": "ofa_fan_out_layer_group",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "topic.metadata.refresh.interval.ms": 1000,
                **self._properties,
            }
        )
        deadline = time.monotonic() + _START_SECONDS
        while not (partitions := consumer.list_topics(self._topic, timeout=10).topics[self._topic].partitions):
            if time.monotonic() > deadline:
                consumer.close()
                raise RuntimeError(f"there is no topic {self._topic}")
            time.sleep(0.05)
        for number in partitions:
            if number not in self._next_offsets:
                end = consumer.get_watermark_offsets(TopicPartition(self._topic, number), timeout=10)[1]
                self._next_offsets[number] = end
        consumer.assign([TopicPartition(self._topic, *place) for place in self._next_offsets.items()])
        return consumer

    async def _commit(self, consumer: Consumer) -> None:
        from confluent_kafka import TopicPartition

        if self._commits:
            offsets = [TopicPartition(self._topic, *place) for place in self._next_offsets.items()]
            await asyncio.to_thread(consumer.commit, offsets=offsets, asynchronous=False)

    async def _publish(self, client: Client, message: Message) -> None:
        if message.error():
            return
        self.counters["consumed"] += 1
        self._next_offsets[message.partition() or 0] = (message.offset() or 0) + 1
        said = forwarded(message.key(), message.value(), *message.timestamp())
        if said is None:
            self.counters["invalid"] += 1
        elif not client.is_connected:
            self.counters["failed"] += 1
        else:
            subject, payload = said
            await client.publish(subject, json.dumps(payload).encode())
            self.counters["published"] += 1


def forwarded(key: Any, value: Any, timestamp_type: int, timestamp_ms: int) -> tuple[str, dict[str, Any]] | None:
    """Subject and payload of a message, or None where it cannot be forwarded."""
    try:
        payload = json.loads(value)
        id_key = next(name for name in payload if name.lower() == "id")
        attribute_id = payload.pop(id_key)
        attributes = payload.setdefault("attributes", {})
        attributes["asset_forwarder_timestamp"] = _text(time.time())
    except (AttributeError, StopIteration, TypeError, ValueError):
        return None
    if not key or not attribute_id:
        return None
    if timestamp_type:
        attributes["kafka_timestamp"] = _text(timestamp_ms / 1000)
        attributes["kafka_timestamp_type"] = _TIMESTAMP_TYPES.get(timestamp_type, "unknown")
    return f"{key.decode()}.{attribute_id}", payload


def _some(consumer: Consumer) -> list[Message]:
    """The messages that are there, at the latest when the first one comes or nothing came for a while."""
    first = consumer.poll(0.1)
    return [] if first is None else [first, *consumer.consume(99, 0)]


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _unheard(_error: Exception) -> None:
    """What nats-py reports while it connects again."""
