"""An asset is up when its new owner is AVAILABLE, whatever the log still shows of the old one."""

from __future__ import annotations

from queue import Queue
from typing import cast

import msgspec
import pytest

from openfactory.assets import AssetEvent, Factory, Owner
from openfactory.deploy.arrivals import Arrivals
from openfactory.engines import Engine
from openfactory.engines.presence import Sight, Sighting
from openfactory.engines.registry import open_engine
from openfactory.events.event import new_event
from openfactory.events.ownership import owned
from openfactory.testing import eventually


def owner(epoch: int, before: int = 0) -> Owner:
    return Owner(f"i{epoch}", epoch, before, "host", 42, "2026-11-21T07:30:00.000Z")


def avail(value: str, epoch: int | None) -> AssetEvent:
    event = new_event("MILL", "avail", value, "Events", "Availability")
    return event if epoch is None else owned(event, epoch)


def publish(engine: Engine, *events: AssetEvent) -> None:
    for event in events:
        engine.publish(event).wait()


def shown(engine: Engine, arrivals: Arrivals) -> None:
    """Wait until the watch has seen all events: a mark comes last."""
    publish(engine, new_event("MARK", "avail", "AVAILABLE", "Events", "Availability"))
    eventually(lambda: arrivals.is_up("MARK", 0))
    arrivals.begin("MARK")


CASES = pytest.mark.parametrize(
    ("events", "up"),
    [
        ([avail("AVAILABLE", 10)], False),  # the old owner goes on
        ([owner(20, 10).event("MILL")], False),  # the log still shows the availability of the old owner
        ([avail("AVAILABLE", 10), owner(20, 10).event("MILL")], False),
        ([owner(20, 10).event("MILL"), avail("UNAVAILABLE", 20)], False),
        ([owner(20, 10).event("MILL"), avail("AVAILABLE", 20)], True),
        ([owner(20, 10).event("MILL"), avail("AVAILABLE", 20), avail("UNAVAILABLE", 10)], True),
        ([owner(20, 10).event("MILL"), avail("AVAILABLE", 20), avail("UNAVAILABLE", 20)], False),
        ([owner(20, 10).event("MILL"), avail("AVAILABLE", 10)], False),
        ([owner(20, 9).event("MILL"), avail("AVAILABLE", 20)], False),  # a claim that has lost
        (
            [
                owner(20, 10).event("MILL"),
                avail("AVAILABLE", 20),
                owner(20, 10).event("MILL"),  # written again before the log forgets it
            ],
            True,
        ),
        (
            [
                owner(20, 10).event("MILL"),
                avail("AVAILABLE", 20),
                msgspec.structs.replace(owner(20, 10), ended="killed").event("MILL"),
            ],
            False,
        ),
        ([avail("UNAVAILABLE", None), avail("AVAILABLE", None)], True),  # of a program that does not claim assets
    ],
)


@CASES
def test_only_the_availability_of_a_newer_claim_counts(events: list[AssetEvent], up: bool) -> None:
    url = "memory://arrivals"
    with open_engine(url) as reference, Factory(url) as factory:
        publish(reference.engine, owner(10).event("MILL"), avail("AVAILABLE", 10))
        with Arrivals(factory) as arrivals:
            epoch = arrivals.begin("MILL")
            assert epoch == 10
            assert not arrivals.is_up("MILL", epoch)
            publish(reference.engine, *events)
            shown(reference.engine, arrivals)
            assert arrivals.is_up("MILL", epoch) is up
            assert arrivals.claimed("MILL", epoch) == any(
                event.tag == "Asset.Owner" and '"supersedes":10' in event.value for event in events
            )


def test_the_first_claim_of_an_asset_counts() -> None:
    url = "memory://arrivals"
    with open_engine(url) as reference, Factory(url) as factory, Arrivals(factory) as arrivals:
        assert arrivals.begin("MILL") == 0
        publish(reference.engine, owner(5).event("MILL"), avail("AVAILABLE", 5))
        eventually(lambda: arrivals.is_up("MILL", 0))


class RawLog:
    """A factory whose watch delivers each record of the log, as that of a Kafka does: also those that do not count."""

    def __init__(self) -> None:
        self.events: Queue[AssetEvent | None] = Queue()
        self.ended = False

    def watch(self, **_: object) -> RawLog:
        return self

    def owners(self, uuids: list[str]) -> dict[str, Sighting]:
        return {uuid: Sighting(owner(10), Sight.LIVES, None) for uuid in uuids if uuid == "MILL"}

    def get(self) -> AssetEvent | None:
        return self.events.get()

    def close(self) -> None:
        self.ended = True
        self.events.put(None)


@CASES
def test_records_that_do_not_count_are_passed_over(events: list[AssetEvent], up: bool) -> None:
    log = RawLog()
    with Arrivals(cast(Factory, log)) as arrivals:
        epoch = arrivals.begin("MILL")
        for event in (*events, new_event("MARK", "avail", "AVAILABLE", "Events", "Availability")):
            log.events.put(event)
        eventually(lambda: arrivals.is_up("MARK", 0))
        assert arrivals.is_up("MILL", epoch) is up
