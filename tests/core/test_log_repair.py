"""The repair from the log goes on whatever becomes of the watch over the forwarders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from openfactory.engines.dispatcher import Dispatcher
from openfactory.engines.fanout.live_asset import LiveAsset
from openfactory.engines.fanout.log_repair import LogRepair
from openfactory.engines.kafka_engine.log_reader import Partition

PARTITION = Partition("ofa_assets", 0)


class World:
    """An asset that NATS carries, an empty log, and a watch that may fail."""

    def __init__(self) -> None:
        self.asset = LiveAsset("MILL", PARTITION, {PARTITION: 0})
        self.asset.on_nats = True
        self.watch_error: Exception | None = RuntimeError("no watch")
        self.log_error: Exception | None = None
        self.looks = 0
        log: Any = SimpleNamespace(partitions=self.partitions, reader=SimpleNamespace(close=lambda: None))
        self.repair = LogRepair({"MILL": self.asset}, Dispatcher(), log, lambda _: None, self.look, look_seconds=0.01)

    def look(self) -> None:
        self.looks += 1
        if self.watch_error is not None:
            raise self.watch_error

    def partitions(self) -> list[Partition]:
        if self.log_error is not None:
            raise self.log_error
        return []

    def run(self) -> None:
        self.repair.start()
        self.repair.wake()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.repair.close(30)


def test_an_error_of_the_watch_stops_no_repair_and_is_told_as_what_it_is(
    world: World, eventually: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "openfactory.engines"):
        world.run()
        eventually(lambda: world.asset.live)
        eventually(lambda: world.looks > 3)
        assert world.repair.trouble == "The asset forwarders cannot be watched: no watch"
        world.watch_error = None
        eventually(lambda: not world.repair.trouble)
    assert [record.getMessage() for record in caplog.records] == [
        "The asset forwarders cannot be watched.",  # with its traceback, once
        "The asset forwarders cannot be watched: no watch Retrying until it succeeds.",
        "The asset forwarders can be watched again.",
    ]


def test_an_error_of_the_log_is_told_while_the_watch_goes_on(
    world: World, eventually: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    world.watch_error, world.log_error = None, RuntimeError("no log")
    world.run()
    eventually(lambda: world.repair.trouble)
    assert world.repair.trouble == "Events that NATS may have missed cannot be read from the log: no log"
    assert world.looks
    assert not world.asset.live
    world.log_error = None
    world.repair.wake()
    eventually(lambda: world.asset.live and not world.repair.trouble)
