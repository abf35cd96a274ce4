"""The processes of the fan-out benchmark, ours and the bare ones: started by `kafka_processes`, never by hand."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import nats
from confluent_kafka import Consumer, TopicPartition
from kafka_programs import Ages, answer_each, say

if TYPE_CHECKING:
    from confluent_kafka import Message
    from nats.aio.msg import Msg

    from openfactory.fanout.forwarding import Forwarding

_BATCH = 1_000


def forward_all(url: str, nats_url: str, count: str) -> None:
    """Forward all records of a log to one NATS cluster, in events a second; NATS has the last one then."""

    def forward() -> float:
        with _forwarding(url, nats_url, from_begin=True) as one:
            while not one.records.counters["consumed"]:
                time.sleep(0.001)
            started, before = time.perf_counter(), one.records.counters["consumed"]
            while one.publisher.published < int(count):
                time.sleep(0.001)
            return (int(count) - before) / (time.perf_counter() - started)

    answer_each(forward)


def forward_all_bare(bootstrap_servers: str, topic: str, nats_url: str, count: str) -> None:
    """Do the same with nothing but confluent-kafka, msgspec and nats-py."""

    async def forward() -> float:
        client = await nats.connect(nats_url)
        consumer = _bare_consumer(bootstrap_servers, topic, 0)
        try:
            records = await asyncio.to_thread(_some, consumer)
            started, published = time.perf_counter(), 0
            rest = int(count) - len(records)
            while True:
                published += await _publish_bare(client, records)
                if published >= int(count):
                    break
                records = await asyncio.to_thread(_some, consumer)
            await client.flush()
            return rest / (time.perf_counter() - started)
        finally:
            await asyncio.to_thread(consumer.close)
            await client.close()

    answer_each(lambda: asyncio.run(forward()))


def forward_on(url: str, nats_url: str) -> None:
    """Forward from the end of a log, until the input ends."""
    with _forwarding(url, nats_url, from_begin=False) as one:
        while not one.progress or one.publisher.trouble or not one.publisher.has_room:
            time.sleep(0.01)
        say("ready")
        sys.stdin.read()


def forward_on_bare(bootstrap_servers: str, topic: str, nats_url: str) -> None:
    """Do the same with nothing but confluent-kafka, msgspec and nats-py."""

    async def forward() -> None:
        client = await nats.connect(nats_url)
        consumer = _bare_consumer(bootstrap_servers, topic, None)
        say("ready")
        while True:
            await _publish_bare(client, await asyncio.to_thread(_some, consumer))

    threading.Thread(target=lambda: asyncio.run(forward()), daemon=True).start()
    sys.stdin.read()


def hear(nats_url: str, asset: str, count: str) -> None:
    """Hear the messages of an asset by nats-py, and say their ages after every so many."""
    ages = Ages(int(count))
    decode = msgspec.json.Decoder().decode

    async def listen() -> None:
        client = await nats.connect(nats_url)

        async def receive(message: Msg) -> None:
            ages.add(time.perf_counter_ns() - decode(message.data)["VALUE"])

        await client.subscribe(f"{asset}.*", cb=receive)
        await client.flush()
        say("ready")
        await asyncio.Event().wait()

    threading.Thread(target=lambda: asyncio.run(listen()), daemon=True).start()
    sys.stdin.read()


@contextmanager
def _forwarding(url: str, nats_url: str, *, from_begin: bool) -> Generator[Forwarding]:
    """Forward in threads of this process, as the service does."""
    from openfactory.engines.base import Servers
    from openfactory.fanout.cluster import ClusterPublisher
    from openfactory.fanout.forwarding import Forwarding, ForwardingOptions
    from openfactory.fanout.log_source import LogSource
    from openfactory.fanout.ring import HashRing

    source = LogSource(url)
    publisher = ClusterPublisher("C1", [nats_url], Servers().resolve(url).credentials)
    options = ForwardingOptions("BENCH", uuid4().hex, from_begin, 6.0)
    one = Forwarding("C1", publisher, source, HashRing(["C1"]), options)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield one
    finally:
        one.stop()
        thread.join()
        publisher.close()
        source.close()


def _bare_consumer(bootstrap_servers: str, topic: str, start: int | None) -> Consumer:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": uuid4().hex, "enable.auto.offset.store": False}
    )
    place = TopicPartition(topic, 0)
    if start is None:
        _, start = consumer.get_watermark_offsets(place, timeout=10)
    consumer.assign([TopicPartition(topic, 0, start)])
    return consumer


def _some(consumer: Consumer) -> list[Message]:
    first = consumer.poll(1.0)
    return [] if first is None else [first, *consumer.consume(_BATCH - 1, 0)]


_decode: Callable[[Any], Any] = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


async def _publish_bare(client: Any, records: list[Message]) -> int:
    now = _text(time.time())
    for record in records:
        if (error := record.error()) is not None:
            raise RuntimeError(error.str())
        fields = _decode(record.value())
        attribute_id, attributes = fields.pop("ID"), fields["attributes"]
        attributes["asset_forwarder_timestamp"] = now
        attributes["kafka_timestamp"] = _text(record.timestamp()[1] / 1_000)
        attributes["kafka_timestamp_type"] = "broker"
        await client.publish(f"{record.key().decode()}.{attribute_id}", _encode(fields))  # type: ignore[union-attr]
    return len(records)


def _text(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1_000) % 1_000:03d}Z"


PROGRAMS: dict[str, Callable[..., None]] = {
    "forward-all": forward_all,
    "forward-all-bare": forward_all_bare,
    "forward-on": forward_on,
    "forward-on-bare": forward_on_bare,
    "hear": hear,
}


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
