"""The processes of the Kafka benchmarks, ours and the bare ones: started by `kafka_processes`, never by hand.

Each prints a line when it is ready. Those that measure do a round for each line that they are given, and answer with
one line of JSON; those that watch print the ages of the values, and their own CPU, after every so many writes. Every
value that is written is the writer's `time.perf_counter_ns()`, a clock that all processes of one machine share.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kafka_bare

__all__ = ["Ages", "answer_each", "say", "watch_by_asset"]


def write_by_asset(url: str, count: str, flush_each: str = "") -> None:
    """Write an attribute of an `Asset`, then flush; all of it is in the time."""
    from openfactory.assets import Asset, AssetAttribute
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(url) as client, Asset("BENCH", client) as asset:
        asset.add_attribute(AssetAttribute(id="sample", value=0.0, type="Samples", tag="Benchmark"))

        def write(count: int) -> float:
            before = client.engine.health().counters["written"]
            started = time.perf_counter()
            for number in range(count):
                asset.sample = number * 0.1
                if flush_each:
                    asset.flush()
            asset.flush(60)
            rate = count / (time.perf_counter() - started)
            written = client.engine.health().counters["written"] - before
            if written != count:
                raise AssertionError(f"{written} events were written and not {count}.")
            # What it wrote has come back by now (on http://, the log was read beside that): no round pays for another.
            client.engine.snapshot(["BENCH"])
            return rate

        answer_each(lambda: write(int(count)))


def write_bare(bootstrap_servers: str, topic: str, count: str, how: str = "") -> None:
    """Write the same messages with nothing but confluent-kafka."""
    timestamp = "2026-11-21T07:30:00.000Z" if how == "no-clock" else None
    with kafka_bare.BareWriter(bootstrap_servers, topic, linger_ms=5) as writer:
        answer_each(lambda: writer.write_samples(int(count), timestamp, flush_each=how == "flush-each"))


def watch_by_asset(url: str, count: str) -> None:
    """Hear of each write in a callback of an `Asset`."""
    from openfactory.assets import Asset
    from openfactory.kafka import KSQLDBClient

    ages = Ages(int(count))

    def hear(_subject: str, message: Any) -> None:
        ages.add(time.perf_counter_ns() - message["VALUE"])

    with KSQLDBClient(url) as client, Asset("BENCH", client) as asset:
        asset.subscribe_to_attribute("number", hear)
        say("ready")
        sys.stdin.read()


def watch_bare(bootstrap_servers: str, topic: str, count: str) -> None:
    """Hear of each write by a consumer."""

    def hear() -> None:
        values = kafka_bare.follow(bootstrap_servers, topic)
        next(values)
        say("ready")
        ages = Ages(int(count))
        for value in values:
            ages.add(time.perf_counter_ns() - value)

    threading.Thread(target=hear, daemon=True).start()
    sys.stdin.read()


def answer_commands(url: str) -> None:
    """Be an app whose method does nothing but answer."""
    from openfactory.apps import OpenFactoryApp, ofa_method
    from openfactory.kafka import KSQLDBClient

    class Answering(OpenFactoryApp):
        @ofa_method()
        def ping(self) -> str:
            """Answer."""
            return "pong"

    with KSQLDBClient(url) as client:
        app = Answering(client, app_uuid="ANSWER", loglevel="ERROR")
        say("ready")
        sys.stdin.read()
        app.shutdown()


def read_by_engine(url: str, attributes: str) -> None:
    """Open the engine and take one snapshot of everything, in ms; the same process does it again and again."""
    import openfactory.engines.kafka_engine  # noqa: F401 - the bare one has its imports behind it, too
    from openfactory.engines import open_engine

    def read() -> float:
        gc.collect()
        started = time.perf_counter()
        with open_engine(url) as reference:
            events = reference.engine.snapshot().events
            milliseconds = (time.perf_counter() - started) * 1000
        _check_count(sum(map(len, events.values())), int(attributes))
        return milliseconds

    answer_each(read)


def read_bare(bootstrap_servers: str, topic: str, attributes: str) -> None:
    """Read the same records into a dictionary, in ms."""

    def read() -> float:
        gc.collect()
        started = time.perf_counter()
        last = kafka_bare.read_all(bootstrap_servers, topic)
        milliseconds = (time.perf_counter() - started) * 1000
        _check_count(sum(map(len, last.values())), int(attributes))
        return milliseconds

    answer_each(read)


def start_app(url: str) -> None:
    """Start an app, and end it with the standard input."""
    from openfactory.apps import OpenFactoryApp
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(url) as client:
        app = OpenFactoryApp(client, app_uuid=f"APP-{os.getpid()}", loglevel="ERROR")
        say("ready")
        sys.stdin.read()
        app.shutdown()


def keep(url: str) -> None:
    """Keep the state until it has the whole log, in seconds."""
    from openfactory.engines.kafka_engine.state_keeper import StateKeeper

    def catch_up() -> float:
        keeper = StateKeeper(url)
        started = time.perf_counter()
        thread = threading.Thread(target=keeper.run)
        thread.start()
        while not keeper.lag() or any(keeper.lag().values()):
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        keeper.stop()
        thread.join()
        return seconds

    answer_each(catch_up)


def consume_bare(bootstrap_servers: str, topic: str, count: str) -> None:
    """Consume all records, in seconds."""
    answer_each(lambda: kafka_bare.consume(bootstrap_servers, topic, int(count)))


def watch_many(url: str, count: str) -> None:
    """Watch so many assets, and tell how many threads and connections the process has."""
    from openfactory.assets import Asset
    from openfactory.kafka import KSQLDBClient

    def watch() -> dict[str, int]:
        heard: set[str] = set()
        all_heard = threading.Event()

        def hear(subject: str, _message: Any) -> None:
            heard.add(subject)
            if len(heard) == int(count):
                all_heard.set()

        with KSQLDBClient(url) as client, ExitStack() as stack:
            for number in range(int(count)):
                asset = stack.enter_context(Asset(f"ASSET-{number}", client))
                asset.subscribe_to_attribute("sample", hear)
            for number in range(int(count)):
                client.engine.publish(_sample(f"ASSET-{number}"))
            if not all_heard.wait(60):
                raise TimeoutError(f"{len(heard)} of {count} callbacks were called in 60 s.")
            time.sleep(6)  # threads for callbacks that have nothing to do end after 5 s
            return {"threads": len(os.listdir("/proc/self/task")), "connections": _connections()}

    answer_each(watch)


def write_crowd(bootstrap_servers: str, topic: str, assets: str, rate: str) -> None:
    """Write so many events a second, of many assets in turn, until the input ends."""
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    uuids, text = [f"ASSET-{number}" for number in range(int(assets))], kafka_bare.message("sample", 1.5)
    with kafka_bare.BareWriter(bootstrap_servers, topic, linger_ms=5) as writer:
        started, written = time.perf_counter(), 0
        while not ended.wait(0.001):
            for number in range(written, due := int((time.perf_counter() - started) * int(rate))):
                writer.write(uuids[number % len(uuids)], text)
            if written < int(rate) <= due:
                say("ready")
            written = due
        writer.flush()


def watch_one(url: str, asset_uuid: str, seconds: str) -> None:
    """Watch one asset, and tell the CPU of so many seconds, in ms for each, and what was read in them."""
    from openfactory.assets import Asset
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(url) as client, Asset(asset_uuid, client) as asset:
        asset.subscribe_to_attribute("sample", lambda _subject, _message: None)
        answer_each(lambda: _reading(client.engine, float(seconds)))


def watch_none(url: str, seconds: str) -> None:
    """Watch nothing, and tell the same."""
    from openfactory.kafka import KSQLDBClient

    with KSQLDBClient(url) as client:
        answer_each(lambda: _reading(client.engine, float(seconds)))


def skip_bare(bootstrap_servers: str, topic: str, partition: str, asset: str, seconds: str) -> None:
    """Watch one asset by a consumer, and tell the CPU of so many seconds, in ms for each."""
    values = kafka_bare.follow_one(bootstrap_servers, topic, int(partition), asset)
    next(values)
    threading.Thread(target=lambda: list(values), daemon=True).start()
    answer_each(lambda: _cpu(float(seconds)))


def _reading(engine: Any, seconds: float) -> dict[str, float]:
    before = engine.health().counters["records_read"]
    cpu = _cpu(seconds)
    counters = engine.health().counters
    return {"cpu": cpu, "read": counters["records_read"] - before, "followed": counters["partitions_followed"]}


def _cpu(seconds: float) -> float:
    before = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - before) * 1000 / seconds


def _sample(asset_uuid: str) -> Any:
    from openfactory.events.event import new_event

    return new_event(asset_uuid, "sample", 1.5, "Samples", "Benchmark")


def _connections() -> int:
    """How many sockets the process has open."""
    return sum(_target(one).startswith("socket:") for one in Path("/proc/self/fd").iterdir())


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # the descriptor by which the folder was read
        return ""


def _check_count(found: int, wanted: int) -> None:
    if found != wanted:
        raise AssertionError(f"{found} attributes were read and not {wanted}.")


def answer_each(round: Callable[[], object]) -> None:
    """Be ready, and do a round for each line of the standard input."""
    say("ready")
    for _ in sys.stdin:
        say(round())


class Ages:
    """The ages of the values that are heard, and the CPU that they take; each round is told when it is whole."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._ages: list[int] = []
        self._cpu = time.process_time()

    def add(self, age: int) -> None:
        """Add an age in nanoseconds."""
        self._ages.append(age)
        if len(self._ages) == self._count:
            before, self._cpu = self._cpu, time.process_time()
            say({"ages": self._ages, "cpu": self._cpu - before})
            self._ages = []


def say(answer: object) -> None:
    """Say one line of JSON."""
    print(json.dumps(answer), flush=True)


PROGRAMS: dict[str, Callable[..., None]] = {
    "write-asset": write_by_asset,
    "write-bare": write_bare,
    "watch-asset": watch_by_asset,
    "watch-bare": watch_bare,
    "answer": answer_commands,
    "read-engine": read_by_engine,
    "read-bare": read_bare,
    "watch-many": watch_many,
    "write-crowd": write_crowd,
    "watch-one": watch_one,
    "watch-none": watch_none,
    "skip-bare": skip_bare,
    "start-app": start_app,
    "keep": keep,
    "consume-bare": consume_bare,
}


if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
