"""A forwarder that stands still is noticed, and what it does not forward is heard from the log, until it goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fanout_services import ForwarderProcess, OwnForwarder, OwnRouter
from ksqldb_factory import KsqlDBFactory
from openfactory.engines.base import Servers
from openfactory.engines.fanout.forwarder_watch import TAKEOVER_SECONDS
from openfactory.engines.ksqldb.engine import KsqlDBEngine
from openfactory.events.event import new_event
from openfactory.testing import eventually
from servers import KafkaBroker, NatsServer

NOTICED_SECONDS = 15.0


class Watched:
    """A factory with a watcher, and a writer that counts without a pause; the watcher writes beside it."""

    def __init__(self, factory: KsqlDBFactory, stack: ExitStack, name: str, *, writes: bool = False) -> None:
        servers = Servers(factory.bootstrap_servers, factory.router.url)
        self.forwarder = factory.forwarder
        self.asset_uuid = f"MILL-{name}"
        self.heard: list[int] = []
        self.heard_at: dict[int, float] = {}
        self.written = 0
        self.written_at: dict[int, float] = {}
        self.watcher = KsqlDBEngine(factory.url, servers)
        stack.callback(self.watcher.close)
        self._writer = self.watcher if writes else KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers))
        if not writes:
            stack.callback(self._writer.close)
        self.watcher.subscribe(self.asset_uuid, lambda event: self._hear(event.value))
        eventually(lambda: self.is_live, 30)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()
        stack.callback(self.stop)

    @property
    def is_live(self) -> bool:
        assert self.watcher._nats is not None
        return self.watcher._nats._assets[self.asset_uuid].live

    @property
    def reason(self) -> str:
        return self.watcher.health().reason

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _hear(self, value: int) -> None:
        self.heard_at.setdefault(value, time.monotonic())
        self.heard.append(value)

    def _write(self) -> None:
        while not self._stopped.wait(0.05):
            self.written_at[self.written] = time.monotonic()
            self._writer.publish(new_event(self.asset_uuid, "number", self.written, "Events", "Number"))
            self.written += 1

    def check(self) -> None:
        """All that was written was heard once and in order, and nothing later than in time."""
        self.stop()
        eventually(lambda: len(self.heard) >= self.written, 30)
        assert self.heard == list(range(self.written))
        assert max(self.heard_at[value] - self.written_at[value] for value in self.heard) < NOTICED_SECONDS


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(120)
def test_forwarder_that_stands_still(
    kafka_broker: KafkaBroker, stack: ExitStack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of OpenFactory; another, which commits its offsets; and two of which only what arrives is known."""
    caplog.set_level(logging.INFO, "openfactory.engines.fanout")
    forms = {"ours": {"ours": True}, "another": {}, "writing": {"commits": False}, "secretive": {"commits": False}}
    factories = {}
    for form, options in forms.items():
        server = stack.enter_context(NatsServer())  # its own: progress is told to all
        factories[form] = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers, server.url, 2, **options))
    ours = factories["ours"]  # in a process of its own, which can be frozen
    ours.forwarder.stop()
    ours.forwarder = ForwarderProcess(tmp_path, ours.tables.url, {"C1": ours.router.nats_url})
    stack.callback(ours.forwarder.kill)
    watched = {form: Watched(factory, stack, form, writes=form == "writing") for form, factory in factories.items()}
    for one in watched.values():
        eventually(lambda: one.heard and one.is_live and not one.reason, 30)  # noqa: B023
    time.sleep(3)  # long enough to know how a forwarder works that works
    for one in watched.values():
        one.forwarder.freeze()
    for one in watched.values():
        eventually(lambda: "stands still" in one.reason, NOTICED_SECONDS)  # noqa: B023
        after = one.written
        eventually(lambda: one.heard[-1] >= after, 5)  # noqa: B023
    for one in watched.values():
        one.forwarder.thaw()
    for one in watched.values():
        eventually(lambda: one.is_live and not one.reason, 20)  # noqa: B023
        after = one.written
        eventually(lambda: one.heard[-1] >= after, 5)  # noqa: B023
        assert one.is_live
    for one in watched.values():
        one.check()
    said = [record.getMessage() for record in caplog.records if "asset forwarder" in record.getMessage()]
    assert sum("stands still" in line for line in said) == len(forms), said
    assert sum("keeps up again" in line for line in said) == len(forms), said


def test_forwarder_of_openfactory_takes_over(kafka_broker: KafkaBroker, stack: ExitStack) -> None:
    """It begins at the end of the log, after the other one has ended; both assets hear what was written between."""
    server = stack.enter_context(NatsServer())
    factory = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers, server.url))
    engine = KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers, factory.router.url))
    stack.callback(engine.close)
    writer = KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers))
    stack.callback(writer.close)
    heard: dict[str, list[object]] = {"BUSY": [], "QUIET": []}

    def write(value: int, *asset_uuids: str) -> None:
        for asset_uuid in asset_uuids:
            writer.publish(new_event(asset_uuid, "number", value, "Events", "Number")).wait()

    for asset_uuid, values in heard.items():
        engine.subscribe(asset_uuid, lambda event, values=values: values.append(event.value))  # type: ignore[misc]
    assert engine._nats is not None
    assets = engine._nats._assets
    eventually(lambda: all(assets[asset_uuid].live for asset_uuid in heard))
    time.sleep(TAKEOVER_SECONDS)
    write(0, "BUSY")
    eventually(lambda: heard["BUSY"] == [0])
    assert factory.forwarder is not None
    factory.forwarder.stop()
    write(1, "BUSY", "QUIET")
    with OwnForwarder(factory.tables.url, server.url, 1):
        write(2, "BUSY")
        eventually(lambda: heard == {"BUSY": [0, 1, 2], "QUIET": [1]}, 15)
        write(3, "BUSY", "QUIET")
        eventually(lambda: heard == {"BUSY": [0, 1, 2, 3], "QUIET": [1, 3]}, 15)
        assert all(assets[asset_uuid].placed for asset_uuid in heard)


def test_events_before_the_first_start_of_a_forwarder_are_heard(kafka_broker: KafkaBroker, stack: ExitStack) -> None:
    """A factory whose parts start together: the forwarder begins at the end of the log, after the first events."""
    server = stack.enter_context(NatsServer())
    factory = stack.enter_context(KsqlDBFactory(kafka_broker.bootstrap_servers))
    router = stack.enter_context(OwnRouter(server.url))
    heard: list[object] = []
    watcher = KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers, router.url))
    stack.callback(watcher.close)
    watcher.subscribe("MILL", lambda event: heard.append(event.value))
    assert watcher._nats is not None
    assets = watcher._nats._assets
    eventually(lambda: assets["MILL"].live)
    writer = KsqlDBEngine(factory.url, Servers(factory.bootstrap_servers))
    stack.callback(writer.close)
    for value in range(3):
        writer.publish(new_event("MILL", "number", value, "Events", "Number")).wait()
    with OwnForwarder(factory.tables.url, server.url, 1):
        eventually(lambda: heard == [0, 1, 2], 15)
        writer.publish(new_event("MILL", "number", 3, "Events", "Number")).wait()
        eventually(lambda: heard == [0, 1, 2, 3], 15)
