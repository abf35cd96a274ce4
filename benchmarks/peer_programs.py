"""The processes of `peers.py`, ours and those of other libraries: started by `kafka_processes.program`, never by hand.

Each prints a line when it is ready, and answers each line with a round as a line of JSON. The values of the writers of
the second half are their `time.perf_counter_ns()`, a clock that all processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from kafka_bare import BareWriter, message
from kafka_programs import Ages, answer_each, say, watch_by_asset

# Between two writes of which each is awaited by a watcher, in seconds.
_PAUSE_SECONDS = 0.005

# Messages that are sent at once, where a library has no queue of its own.
_GATHERED = 500


def write_ours(url: str, count: str) -> None:
    """Write an attribute of an `Asset`, then flush."""
    from openfactory.assets import Asset, AssetAttribute
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(url) as client, Asset("BENCH", client) as asset:
        asset.add_attribute(AssetAttribute(id="sample", value=0.0, type="Samples", tag="Benchmark"))

        def write() -> None:
            for number in range(int(count)):
                asset.sample = number * 0.1
            asset.flush(60)

        answer_each(lambda: _measured(write, int(count)))


def write_bare(bootstrap_servers: str, topic: str, count: str) -> None:
    """Write the same messages with nothing but confluent-kafka."""
    with BareWriter(bootstrap_servers, topic, linger_ms=5) as writer:
        answer_each(lambda: _measured(lambda: writer.write_samples(int(count)), int(count)))


def write_quixstreams(bootstrap_servers: str, topic: str, count: str) -> None:
    """Write by the producer of quixstreams, with its idempotence switched on."""
    from quixstreams import Application

    logging.getLogger("quixstreams").setLevel(logging.ERROR)
    application = Application(
        bootstrap_servers,
        producer_extra_config={"enable.idempotence": True, "linger.ms": 5},
        loglevel="ERROR",
        consumer_group="bench",
    )
    with application.get_producer() as producer:

        def write() -> None:
            for text in _texts(count):
                producer.produce(topic, text, "BENCH")
            producer.flush(60)

        answer_each(lambda: _measured(write, int(count)))


def write_aiokafka(bootstrap_servers: str, topic: str, count: str) -> None:
    """Write by aiokafka: each `send` enters its batch, and the last acknowledgement is awaited."""

    async def main() -> None:
        from aiokafka import AIOKafkaProducer

        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True, linger_ms=5) as one:

            async def write() -> None:
                sent = [await one.send(topic, text.encode(), b"BENCH") for text in _texts(count)]
                await asyncio.gather(*sent)

            await _answer_each_async(write, int(count))

    asyncio.run(main())


def write_faststream(bootstrap_servers: str, topic: str, count: str, how: str) -> None:
    """Write by faststream's broker for confluent-kafka: each `publish` awaited, or many at once."""

    async def main() -> None:
        from faststream.confluent import KafkaBroker

        linger = 0 if how == "awaited" else 5
        async with KafkaBroker(
            bootstrap_servers, enable_idempotence=True, acks="all", linger_ms=linger, logger=None
        ) as one:

            async def write() -> None:
                texts = list(_texts(count))
                step = 1 if how == "awaited" else _GATHERED
                for begin in range(0, len(texts), step):
                    await asyncio.gather(
                        *(one.publish(text, topic, key=b"BENCH") for text in texts[begin : begin + step])
                    )

            await _answer_each_async(write, int(count))

    asyncio.run(main())


def write_faust(bootstrap_servers: str, topic: str, count: str) -> None:
    """Write to a topic of a faust app, and await the acknowledgement of each message at the end."""

    async def main() -> None:
        import faust

        app = faust.App(
            "bench", broker=f"kafka://{bootstrap_servers}", producer_linger=0.005, producer_acks=-1, loop=None
        )
        channel = app.topic(topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        await app.producer.start()

        async def write() -> None:
            sent = [await channel.send(key=b"BENCH", value=text.encode()) for text in _texts(count)]
            await asyncio.gather(*sent)

        try:
            await _answer_each_async(write, int(count))
        finally:
            await app.producer.stop()

    asyncio.run(main())


def change_ours(url: str, count: str) -> None:
    """Write to an embedded factory."""
    from openfactory.assets import Asset, AssetAttribute
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(url) as client, Asset("BENCH", client) as asset:
        asset.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Benchmark"))

        def change(value: int) -> None:
            asset.number = value

        answer_each(lambda: _changed(change, int(count)))


def change_labthings(port: str, count: str) -> None:
    """Set an observable property of a Thing that labthings-fastapi serves."""
    import labthings_fastapi as lt
    import uvicorn

    class Bench(lt.Thing):  # type: ignore[misc]  # of no known type where it is not installed
        _class_settings = {"validate_properties_on_set": True}  # noqa: RUF012 - as its documentation writes it
        number: int = lt.property(default=0)

    lab = lt.ThingServer.from_things({"bench": Bench})
    server = uvicorn.Server(uvicorn.Config(lab.app, "127.0.0.1", int(port), log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    thing: Any = lab.things["bench"]
    answer_each(lambda: _changed(lambda value: setattr(thing, "number", value), int(count)))
    server.should_exit = True
    thread.join()


def watch_labthings(port: str, count: str) -> None:
    """Observe the property over its web socket."""

    async def main() -> None:
        from websockets.asyncio.client import connect

        ages = Ages(int(count))
        async with connect(f"ws://127.0.0.1:{port}/bench/ws") as socket:
            await socket.send(json.dumps({"messageType": "addPropertyObservation", "data": {"number": True}}))
            say("ready")
            async for text in socket:
                ages.add(time.perf_counter_ns() - json.loads(text)["data"]["number"])

    _until_input_ends(main())


def change_asyncua(port: str, count: str) -> None:
    """Write a variable of an OPC UA server in its process."""

    async def main() -> None:
        from asyncua import Server

        logging.disable(logging.WARNING)
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
        variable = await server.nodes.objects.add_variable("ns=1;s=number", "number", 0)
        async with server:

            async def change() -> None:
                for _ in range(int(count)):
                    await asyncio.sleep(_PAUSE_SECONDS)
                    await variable.write_value(time.perf_counter_ns())

            await _answer_each_async(change, int(count))

    asyncio.run(main())


def watch_asyncua(port: str, count: str) -> None:
    """Subscribe to the variable with the shortest interval that the server grants."""

    async def main() -> None:
        from asyncua import Client

        logging.disable(logging.WARNING)

        class Handler:
            def __init__(self) -> None:
                self.ages = Ages(int(count))

            def datachange_notification(self, _node: object, value: int, _data: object) -> None:
                if value:
                    self.ages.add(time.perf_counter_ns() - value)

        async with Client(f"opc.tcp://127.0.0.1:{port}/") as client:
            subscription = await client.create_subscription(1, Handler())
            await subscription.subscribe_data_change(client.get_node("ns=1;s=number"), queuesize=100)
            say("ready")
            await asyncio.Event().wait()

    _until_input_ends(main())


def _texts(count: str) -> Iterable[str]:
    return (message("sample", number * 0.1) for number in range(int(count)))


def _measured(write: Callable[[], object], count: int) -> dict[str, float]:
    begun = _clocks()
    write()
    return _cost_since(begun, count)


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _cost_since(begun: tuple[float, float], count: int) -> dict[str, float]:
    """Return the writes a second, and the seconds of CPU for 10,000 of them."""
    cpu, seconds = (now - before for now, before in zip(_clocks(), begun, strict=True))
    return {"rate": count / seconds, "cpu": cpu / count * 10_000}


def _changed(change: Callable[[int], object], count: int) -> dict[str, float]:
    def changes() -> None:
        for _ in range(count):
            time.sleep(_PAUSE_SECONDS)
            change(time.perf_counter_ns())

    return _measured(changes, count)


async def _answer_each_async(write: Callable[[], Awaitable[object]], count: int) -> None:
    say("ready")
    while await asyncio.to_thread(sys.stdin.readline):
        begun = _clocks()
        await write()
        say(_cost_since(begun, count))


def _until_input_ends(watching: Any) -> None:
    """Watch on the main thread until the standard input ends."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)  # a client that is cancelled in the middle of a read takes seconds

    threading.Thread(target=wait, daemon=True).start()
    with suppress(asyncio.CancelledError):
        asyncio.run(watching)


PROGRAMS: dict[str, Callable[..., None]] = {
    "write-ours": write_ours,
    "write-bare": write_bare,
    "write-quixstreams": write_quixstreams,
    "write-aiokafka": write_aiokafka,
    "write-faststream": write_faststream,
    "write-faust": write_faust,
    "change-ours": change_ours,
    "watch-ours": watch_by_asset,
    "change-labthings": change_labthings,
    "watch-labthings": watch_labthings,
    "change-asyncua": change_asyncua,
    "watch-asyncua": watch_asyncua,
}


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
