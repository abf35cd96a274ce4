"""The conformance suite of an engine: a subclass names an engine and inherits the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from openfactory.engines import Engine, open_engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import EngineClosedError
from openfactory.testing.commanding import CommandingConformance
from openfactory.testing.deadlines import DeadlineConformance
from openfactory.testing.malformed import MalformedConformance
from openfactory.testing.owning import OwningConformance, SharedOwningConformance
from openfactory.testing.queries import QueryingConformance
from openfactory.testing.reading import ReadingConformance
from openfactory.testing.registering import RegisteringConformance
from openfactory.testing.samples import SamplesConformance
from openfactory.testing.telling import TellingConformance
from openfactory.testing.watching import WatchingConformance
from openfactory.testing.writing import WritingConformance

__all__ = ["EngineConformance", "SharedEngineConformance"]

# Every operation that needs an open engine.
_OPERATIONS: dict[str, Callable[[Engine], object]] = {
    "publish": lambda engine: engine.publish(new_event("MILL", "speed", 1, "Events", "Test")),
    "flush": lambda engine: engine.flush(),
    "snapshot": lambda engine: engine.snapshot(),
    "subscribe": lambda engine: engine.subscribe(None, lambda _event: None),
    "register": lambda engine: engine.register(Registration("MILL", "Device")),
    "deregister": lambda engine: engine.deregister("MILL"),
    "types": lambda engine: engine.types(),
    "availability": lambda engine: engine.availability(),
    "uns_map": lambda engine: engine.uns_map(),
    "history": lambda engine: engine.history("MILL", "speed"),
    "query": lambda engine: engine.query("SELECT * FROM assets"),
    "tables": lambda engine: engine.tables(),
}


class EngineConformance(
    WritingConformance,
    TellingConformance,
    ReadingConformance,
    WatchingConformance,
    CommandingConformance,
    DeadlineConformance,
    RegisteringConformance,
    OwningConformance,
    QueryingConformance,
    SamplesConformance,
    MalformedConformance,
):
    """The conformance suite of an engine: a test for each of its promises.

    Derive a class whose name begins with `Test`, and override the fixture `engine_url`. The tests use assets with
    unique UUIDs, so the location may contain other data. It must not be in use while a test runs.
    """

    @pytest.fixture
    def engine_url(self) -> str:
        """URL of the engine under test, if possible an empty location for each test."""
        raise NotImplementedError(f"{type(self).__name__} does not name an engine. Override the fixture engine_url.")

    @pytest.fixture
    def engine(self, engine_url: str) -> Iterator[Engine]:
        """The engine under test, open until the test ends."""
        with open_engine(engine_url) as reference:
            yield reference.engine

    @pytest.fixture
    def asset_uuid(self) -> str:
        """UUID of an asset without events."""
        return f"MILL-{uuid4().hex[:12]}"

    def test_the_engine_has_its_url(self, engine: Engine, engine_url: str) -> None:
        assert engine.url == engine_url

    def test_an_open_engine_is_connected(self, engine: Engine) -> None:
        health = engine.health()
        assert health.connected, health.reason
        assert health.reason == ""

    def test_a_flush_empties_the_queue(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "speed", 1, "Events", "Test"))
        engine.flush()
        assert engine.health().queued == 0

    def test_a_closed_engine_is_not_connected(self, engine: Engine) -> None:
        engine.close()
        health = engine.health()
        assert not health.connected
        assert health.reason

    def test_closing_twice_is_allowed(self, engine: Engine) -> None:
        engine.close()
        engine.close()

    def test_a_closed_engine_refuses_every_operation(self, engine: Engine) -> None:
        engine.close()
        refused = []
        for name, operation in _OPERATIONS.items():
            with suppress(EngineClosedError):
                operation(engine)
                continue
            refused.append(name)
        assert refused == list(_OPERATIONS)

    def test_events_published_before_the_close_are_written(self, engine: Engine, asset_uuid: str) -> None:
        receipts = [engine.publish(new_event(asset_uuid, "n", n, "Events", "Test")) for n in range(100)]
        engine.close()
        assert all(receipt.position is not None for receipt in receipts)

    def test_a_subscription_can_be_closed_after_its_engine(self, engine: Engine) -> None:
        subscription = engine.subscribe(None, lambda _event: None)
        engine.close()
        subscription.close()

    def test_references_of_a_url_share_an_engine(self, engine: Engine, engine_url: str) -> None:
        with open_engine(engine_url) as other:
            assert other.engine is engine

    def test_closing_one_reference_keeps_the_engine_open(
        self, engine: Engine, engine_url: str, asset_uuid: str
    ) -> None:
        reference = open_engine(engine_url)
        reference.close()
        reference.close()  # the second close does nothing
        engine.publish(new_event(asset_uuid, "speed", 1, "Events", "Test")).wait()

    def test_closing_the_last_reference_closes_the_engine(self, engine_url: str) -> None:
        first, last = open_engine(engine_url), open_engine(engine_url)
        engine = first.engine
        first.close()
        assert engine.health().connected
        last.close()
        assert not engine.health().connected

    def test_a_later_reference_opens_a_new_engine(self, engine_url: str, asset_uuid: str) -> None:
        with open_engine(engine_url) as reference:
            closed = reference.engine
        with open_engine(engine_url) as reference:
            assert reference.engine is not closed
            reference.engine.publish(new_event(asset_uuid, "speed", 1, "Events", "Test")).wait()


class SharedEngineConformance(SharedOwningConformance, EngineConformance):
    """The conformance suite of an engine that several processes use at the same time."""
