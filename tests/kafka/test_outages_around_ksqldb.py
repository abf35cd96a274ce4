"""A ksqlDB, an asset router, a NATS or a forwarder that goes away: the app runs on and misses nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.assets.asset_class import Asset
from openfactory.engines.base import Engine, Servers
from openfactory.engines.ksqldb.engine import KsqlDBEngine
from openfactory.events.event import AssetEvent, new_event
from openfactory.exceptions import EngineUnavailableError
from openfactory.kafka import KSQLDBClient
from openfactory.testing import eventually
from servers import KafkaBroker, NatsServer, Toxiproxy
from workers.started import Worker, started

AWAY_SECONDS = 10.0


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What was said at a level."""
    caplog.set_level(logging.INFO, "openfactory")

    def said(level: int) -> list[str]:
        ours = (record for record in caplog.records if not record.name.endswith(".librdkafka"))  # which nobody hears
        return [record.getMessage() for record in ours if record.levelno == level]

    return said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    with started(tmp_path) as start:
        yield start


def number(uuid: str, value: Any) -> AssetEvent:
    return new_event(uuid, "number", value, "Events", "Number")


class Counting:
    """Writes numbers without a pause on a thread; how long each write took at most."""

    def __init__(self, engine: Engine, uuid: str, pause: float = 0.05) -> None:
        self.written = 0
        self.longest = 0.0
        self._engine, self._uuid, self._pause = engine, uuid, pause
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> int:
        """End it; how many are written."""
        self._stopped.set()
        self._thread.join(60)
        self._engine.flush(timeout=60)
        return self.written

    def _run(self) -> None:
        while not self._stopped.wait(self._pause):
            begin = time.monotonic()
            self._engine.publish(number(self._uuid, self.written))
            self.longest = max(self.longest, time.monotonic() - begin)
            self.written += 1


class Watching:
    """An engine that is watched, and one that writes, as two processes would have them."""

    def __init__(self, url: str, servers: Servers) -> None:
        self.url, self.servers = url, servers
        self.writer: Engine = KsqlDBEngine(url, Servers(servers.bootstrap_servers))
        self.watcher: Engine = KsqlDBEngine(url, servers)
        self.heard: list[Any] = []
        self.gaps = 0
        self.watcher.subscribe("MILL", lambda event: self.heard.append(event.value), self._gap)
        self.counting = Counting(self.writer, "MILL")
        self.beside = Counting(self.writer, "LATHE", 0.02)  # so that the offsets of MILL have gaps
        eventually(lambda: len(self.heard) > 20)

    def _gap(self) -> int:
        self.gaps += 1
        return self.watcher.snapshot(["MILL"]).position

    def hears_on(self) -> None:
        """Events that are written from now on are received."""
        from_here = self.counting.written
        eventually(lambda: self.heard and self.heard[-1] >= from_here)

    def check(self) -> None:
        """All that was written was heard once, in order, and no write had to wait."""
        self.beside.stop()
        written = self.counting.stop()
        eventually(lambda: self.heard and self.heard[-1] == written - 1)
        first = self.heard[0]
        assert self.heard == list(range(first, written))
        assert first <= 5
        assert self.gaps == 0
        assert self.counting.longest < 5

    def close(self) -> None:
        self.beside.stop()
        self.counting.stop()
        self.watcher.close()
        self.writer.close()


@contextmanager
def watching(factory: KsqlDBFactory, with_nats: bool = True) -> Iterator[Watching]:
    router = factory.router.url if with_nats else None
    one = Watching(factory.url, Servers(factory.bootstrap_servers, router))
    try:
        yield one
    finally:
        one.close()


def all_the_time(seconds: float, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition()
        time.sleep(0.2)


# ksqlDB


# A server that is silent is met by a timeout, which the start and the router show in each run.
@pytest.mark.parametrize("how", ["stopped", "unavailable", pytest.param("silent", marks=pytest.mark.thorough)])
def test_a_ksqldb_that_is_away_for_a_while(
    kafka_broker: KafkaBroker, how: str, logged: Callable[[int], list[str]]
) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory, watching(factory, with_nats=False) as one:
        assert one.watcher.snapshot(["MILL"]).events["MILL"]
        if how == "stopped":
            factory.ksqldb.stop()
        else:
            setattr(factory.ksqldb, how, True)
        begin = time.monotonic()
        with pytest.raises(EngineUnavailableError) as caught:
            one.watcher.snapshot(["MILL"])
        assert time.monotonic() - begin < 60
        assert factory.url in str(caught.value)
        assert factory.url in one.watcher.health().reason
        one.hears_on()
        one.writer.flush(timeout=60)
        history = [event.value for event in one.watcher.history("MILL", limit=10**6)]  # the log answers it
        assert history == list(range(len(history)))
        all_the_time(AWAY_SECONDS if how == "stopped" else 1.0, lambda: not one.watcher.health().connected)
        if how == "stopped":
            factory.ksqldb.start()
        else:
            setattr(factory.ksqldb, how, False)
        eventually(lambda: answers(one.watcher))
        assert one.watcher.health().connected, one.watcher.health()
        one.check()
        [event] = one.watcher.snapshot(["MILL"]).events["MILL"]
        assert int(event.value) == one.counting.written - 1
    assert len(logged(logging.WARNING)) <= 2, logged(logging.WARNING)


def answers(engine: Engine) -> bool:
    try:
        return bool(engine.snapshot(["MILL"]).events)
    except EngineUnavailableError:
        return False


@pytest.mark.parametrize("how", ["stopped", "unavailable", "silent"])
def test_without_a_ksqldb_the_start_ends_soon_with_one_sentence(kafka_broker: KafkaBroker, how: str) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory:
        if how == "stopped":
            factory.ksqldb.stop()
        else:
            setattr(factory.ksqldb, how, True)
        begin = time.monotonic()
        with pytest.raises(EngineUnavailableError) as caught:
            KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers))
        took = time.monotonic() - begin
        assert factory.url in str(caught.value)
        assert ("sqlite:///" in str(caught.value)) == (how != "unavailable")  # one that starts is waited for
    assert took < 60


def test_an_app_runs_through_an_outage_of_ksqldb(
    kafka_broker: KafkaBroker, start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory:
        factory.entered(monkeypatch)
        app = start("saw.py", 0.05, APP_UUID="SAW", KAFKA_BROKER=factory.bootstrap_servers, KSQLDB_URL=factory.url)
        app.until("running", timeout=60)
        with KSQLDBClient(factory.url) as client, Asset("SAW", client) as saw:
            assert saw.call("cut", length=1, sender_uuid="HMI") == "piece of 1"
            factory.ksqldb.stop()
            before = len(app.lines())
            assert saw.call("cut", length=2, sender_uuid="HMI", timeout=5) == "piece of 2"
            assert saw.counted.value is not None
            saw.blade = "blunt"
            saw.flush()
            eventually(lambda: len(app.lines()) > before + 10)
            assert app.process.poll() is None
            app.process.terminate()
            assert app.ended(60) == 0  # also without a ksqlDB
            factory.ksqldb.start()
        assert not [line for line in app.lines() if line.startswith(("slow", "late"))]
        assert "Traceback" not in app.err, app.err


# The way to NATS


@pytest.fixture
def proxied(
    kafka_broker: KafkaBroker, nats_server: NatsServer, toxiproxy: Toxiproxy
) -> Iterator[tuple[KsqlDBFactory, Any]]:
    """A factory whose apps reach NATS through a proxy, while its forwarder goes there directly."""
    with (
        toxiproxy.proxy(nats_server.url.removeprefix("nats://")) as proxy,
        KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url) as factory,
    ):
        factory.router.nats_url = f"nats://{proxy.address}"
        yield factory, proxy


def is_live(engine: Engine) -> bool:
    return not engine.health().reason


@pytest.mark.parametrize("how", ["cut", pytest.param("silence", marks=pytest.mark.thorough)])
def test_a_nats_that_is_away_for_ten_seconds(
    proxied: tuple[KsqlDBFactory, Any], how: str, logged: Callable[[int], list[str]]
) -> None:
    factory, proxy = proxied
    with watching(factory) as one:
        eventually(lambda: is_live(one.watcher))
        getattr(proxy, how)()
        away = time.monotonic()
        eventually(lambda: not is_live(one.watcher))
        one.hears_on()  # from the log, which is read once a second
        all_the_time(AWAY_SECONDS - (time.monotonic() - away), lambda: not is_live(one.watcher))
        proxy.restore()
        eventually(lambda: is_live(one.watcher))
        one.hears_on()
        one.check()
    said = logged(logging.WARNING)
    assert len(said) == 1, said


def test_commands_and_callbacks_go_on_while_nats_is_cut(
    proxied: tuple[KsqlDBFactory, Any], start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    factory, proxy = proxied
    factory.entered(monkeypatch)
    app = start("saw.py", 0.05, APP_UUID="SAW", **factory.environment)
    app.until("running", timeout=60)
    counted: list[int] = []
    with KSQLDBClient(factory.url) as client, Asset("SAW", client) as saw:
        saw.subscribe_to_attribute("counted", lambda subject, message: counted.append(message["VALUE"]))
        for _ in range(3):
            assert saw.call("cut", length=1, sender_uuid="HMI") == "piece of 1"
        proxy.cut()
        for number in range(3):
            begin = time.monotonic()
            assert (
                saw.call("cut", length=number, name=f"cut-{number}", sender_uuid="HMI") == f"cut-{number} of {number}"
            )
            assert time.monotonic() - begin < 30
        proxy.restore()
        eventually(lambda: is_live(client.engine))
        assert saw.call("cut", length=9, sender_uuid="HMI") == "piece of 9"
        app.process.terminate()
        assert app.ended(60) == 0, app.err
        ran = [line for line in app.lines() if line.startswith("ran cut-")]
        assert ran == [f"ran cut-{number}" for number in range(3)]
        last = max(int(line.split()[1]) for line in app.lines() if line.startswith("acknowledged"))
        eventually(lambda: counted and counted[-1] >= last)
        assert counted == list(range(counted[0], counted[-1] + 1))


def test_nats_flaps(proxied: tuple[KsqlDBFactory, Any]) -> None:
    factory, proxy = proxied
    with watching(factory) as one:
        for _ in range(3):
            eventually(lambda: is_live(one.watcher))
            one.hears_on()
            proxy.cut()
            eventually(lambda: not is_live(one.watcher))
            proxy.restore()
        eventually(lambda: is_live(one.watcher))
        one.check()


# The router


@pytest.mark.parametrize("how", ["stopped", "silent", "failing"])
def test_a_router_that_is_away_when_an_asset_is_watched(
    kafka_broker: KafkaBroker, nats_server: NatsServer, how: str, logged: Callable[[int], list[str]]
) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url) as factory:
        if how == "stopped":
            factory.router.stop()
        elif how == "silent":
            factory.router.silent = True
        else:
            factory.router.failing["*"] = (500, b'{"detail": "out of order"}')
        begin = time.monotonic()
        with watching(factory) as one:
            assert time.monotonic() - begin < 30
            eventually(lambda: not is_live(one.watcher))
            one.hears_on()
            eventually(lambda: factory.router.url in one.watcher.health().reason)
            if how == "stopped":
                factory.router.start()
            factory.router.silent = False
            factory.router.failing.clear()
            eventually(lambda: is_live(one.watcher))
            one.hears_on()
            one.check()
    said = logged(logging.WARNING)
    assert len(said) == 1, said


def test_a_router_that_goes_away_later_is_not_missed(
    kafka_broker: KafkaBroker, nats_server: NatsServer, logged: Callable[[int], list[str]]
) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url) as factory, watching(factory) as one:
        eventually(lambda: is_live(one.watcher))
        factory.router.stop()
        one.hears_on()
        one.check()
        assert is_live(one.watcher)
        factory.router.start()
    assert not logged(logging.WARNING)


# The forwarder


def test_what_a_forwarder_missed_comes_when_it_is_back(kafka_broker: KafkaBroker, nats_server: NatsServer) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url) as factory, watching(factory) as one:
        assert factory.forwarder is not None
        eventually(lambda: is_live(one.watcher))
        factory.forwarder.stop()
        before = one.counting.written
        eventually(lambda: one.counting.written > before + 50)
        factory.forwarder.start()
        one.hears_on()
        one.check()
