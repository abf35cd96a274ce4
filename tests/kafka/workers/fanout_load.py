"""Programs that write, watch and hear the events of many assets, each with the time of its writing.

Each says `ready` when it is, and prints its notes as JSON at its end. Those that watch and hear end when they have all
events, whose numbers by asset come to their standard input:

    fanout_load.py write BROKER TOPIC RATE SECONDS      by asset, the number of its events
    fanout_load.py watch KSQLDB BROKER ROUTER           by asset, number, time of writing and time of arrival of each
    fanout_load.py hear NATS                            the same and the place in the log, as bare subscribers hear it
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openfactory.events.event import new_event
from openfactory.events.message import encode_message

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message
    from nats.aio.msg import Msg

ASSETS = [f"MILL-{number}" for number in range(1_000)]

# From one write to the next few, in seconds.
_TICK = 0.01

# Seconds without an event after which the rest counts as lost, and for which repetitions are awaited at the end.
_LAST_SECONDS = 30.0
_REPEATED_SECONDS = 3.0


def write(broker: str, topic: str, rate: str, seconds: str) -> object:
    """Write events of all assets in turn, at an even rate; a broker that is away gets them later, in order."""
    from confluent_kafka import Producer

    failed: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 2,
            "reconnect.backoff.max.ms": 500,  # 10 s by default, which no forwarder can make good
            "delivery.timeout.ms": 120_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )

    def note(error: KafkaError | None, _record: Message) -> None:
        if error is not None:
            failed.append(error)

    ready()
    written, began = 0, time.monotonic()
    while (now := time.monotonic()) < began + float(seconds):
        while written < (now - began) * float(rate):
            number, asset = divmod(written, len(ASSETS))
            event = new_event(ASSETS[asset], "count", f"{number} {time.monotonic()}", "Events", "Count")
            producer.produce(topic, encode_message(event), event.asset_uuid, on_delivery=note)
            written += 1
        producer.poll(0)
        time.sleep(_TICK)
    left = producer.flush(120)
    assert not left, f"{left} events were not delivered"
    assert not failed, failed[:3]
    rounds, more = divmod(written, len(ASSETS))
    return {asset: rounds + (number < more) for number, asset in enumerate(ASSETS)}


def watch(url: str, broker: str, router: str) -> object:
    """Watch all assets with the engine, as apps do."""
    from openfactory.engines.base import Servers
    from openfactory.engines.ksqldb.engine import KsqlDBEngine

    notes: dict[str, list[tuple[int, float, float]]] = {asset: [] for asset in ASSETS}

    def note(asset: str, value: str) -> None:
        number, written_at = value.split()
        notes[asset].append((int(number), float(written_at), time.monotonic()))

    engine = KsqlDBEngine(url, Servers(broker, router))
    for asset in ASSETS:
        engine.subscribe(asset, lambda event, asset=asset: note(asset, str(event.value)))  # type: ignore[misc]
    assert engine._nats is not None
    while not all(asset.live for asset in list(engine._nats._assets.values())):
        time.sleep(0.1)
    ready()
    wait_for_all(notes)
    engine.close()
    return notes


def hear(url: str) -> object:
    """Hear a NATS server with nats-py."""
    return asyncio.run(_hear(url))


async def _hear(url: str) -> object:
    import nats

    notes: defaultdict[str, list[Any]] = defaultdict(list)

    async def note(message: Msg) -> None:
        number, written_at = json.loads(message.data)["VALUE"].split()
        headers = message.headers or {}
        place = int(headers["OFA-Partition"]), int(headers["OFA-Offset"])
        notes[message.subject.partition(".")[0]].append((int(number), float(written_at), time.monotonic(), *place))

    async def pass_on(_error: Exception) -> None:
        """Ignore an error while the client connects again."""

    client = await nats.connect(url, reconnect_time_wait=0.1, max_reconnect_attempts=-1, error_cb=pass_on)
    await client.subscribe("*.count", cb=note, pending_msgs_limit=0, pending_bytes_limit=0)
    await client.flush()
    ready()
    await asyncio.to_thread(wait_for_all, notes)
    await client.close()
    return notes


def wait_for_all(notes: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """Wait until all events have come, or none did for a while, and then for repetitions."""
    written: dict[str, int] = json.load(sys.stdin)
    changed_at, count = time.monotonic(), 0
    while any(len({number for number, *_ in notes[asset]}) < written[asset] for asset in written):
        if (now := sum(map(len, notes.values()))) != count:
            changed_at, count = time.monotonic(), now
        if time.monotonic() > changed_at + _LAST_SECONDS:
            return
        time.sleep(0.5)
    time.sleep(_REPEATED_SECONDS)


def ready() -> None:
    """Say it to the test."""
    print("ready", flush=True)


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    programs: dict[str, Callable[..., object]] = {"write": write, "watch": watch, "hear": hear}
    print(json.dumps(programs[program](*arguments)), flush=True)
