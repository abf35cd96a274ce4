"""What every engine promises, as tests: a subclass names its engine and inherits them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from openfactory.engines import Engine, open_engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import EngineClosedError
from openfactory.testing.queries import QueryingConformance
from openfactory.testing.reading import ReadingConformance
from openfactory.testing.registering import RegisteringConformance
from openfactory.testing.watching import WatchingConformance
from openfactory.testing.writing import WritingConformance

__all__ = ["EngineConformance"]

# Every verb that works only while the engine is open.
_VERBS: dict[str, Callable[[Engine], object]] = {
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
    WritingConformance, ReadingConformance, WatchingConformance, RegisteringConformance, QueryingConformance
):
    """All promises of an engine.

    A subclass, whose name begins with `Test`, overrides the fixture `engine_url`. The tests use assets with names of
    their own, so the place may hold other data; it must not be in use while a test runs.
    """

    @pytest.fixture
    def engine_url(self) -> str:
        """The URL of the engine that is tested: a fresh place for each test, where that is possible."""
        raise NotImplementedError(f"{type(self).__name__} names no engine. Give it a fixture engine_url.")

    @pytest.fixture
    def engine(self, engine_url: str) -> Iterator[Engine]:
        """The engine, open for one test."""
        with open_engine(engine_url) as reference:
            yield reference.engine

    @pytest.fixture
    def asset_uuid(self) -> str:
        """An asset that nobody has written."""
        return f"MILL-{uuid4().hex[:12]}"

    def test_the_engine_knows_its_url(self, engine: Engine, engine_url: str) -> None:
        assert engine.url == engine_url

    def test_an_open_engine_is_healthy(self, engine: Engine) -> None:
        health = engine.health()
        assert health.connected, health.reason
        assert health.reason == ""

    def test_nothing_is_queued_after_a_flush(self, engine: Engine, asset_uuid: str) -> None:
        engine.publish(new_event(asset_uuid, "speed", 1, "Events", "Test"))
        engine.flush()
        assert engine.health().queued == 0

    def test_a_closed_engine_says_so(self, engine: Engine) -> None:
        engine.close()
        health = engine.health()
        assert not health.connected
        assert health.reason

    def test_closing_twice_does_nothing(self, engine: Engine) -> None:
        engine.close()
        engine.close()

    @pytest.mark.parametrize("verb", _VERBS)
    def test_a_closed_engine_refuses_every_verb(self, engine: Engine, verb: str) -> None:
        engine.close()
        with pytest.raises(EngineClosedError, match="closed"):
            _VERBS[verb](engine)

    def test_what_was_published_before_the_close_is_written(self, engine: Engine, asset_uuid: str) -> None:
        receipts = [engine.publish(new_event(asset_uuid, "n", n, "Events", "Test")) for n in range(100)]
        engine.close()
        assert all(receipt.position is not None for receipt in receipts)

    def test_a_subscription_can_be_closed_after_its_engine(self, engine: Engine) -> None:
        subscription = engine.subscribe(None, lambda _event: None)
        engine.close()
        subscription.close()

    def test_references_of_one_url_share_one_engine(self, engine: Engine, engine_url: str) -> None:
        with open_engine(engine_url) as other:
            assert other.engine is engine

    def test_giving_back_one_reference_leaves_the_engine_open(
        self, engine: Engine, engine_url: str, asset_uuid: str
    ) -> None:
        reference = open_engine(engine_url)
        reference.close()
        reference.close()  # the second time gives back nothing
        engine.publish(new_event(asset_uuid, "speed", 1, "Events", "Test")).wait()

    def test_the_last_reference_closes_the_engine(self, engine_url: str) -> None:
        first, last = open_engine(engine_url), open_engine(engine_url)
        engine = first.engine
        first.close()
        assert engine.health().connected
        last.close()
        assert not engine.health().connected

    def test_after_the_last_reference_the_next_one_opens_a_new_engine(self, engine_url: str, asset_uuid: str) -> None:
        with open_engine(engine_url) as reference:
            closed = reference.engine
        with open_engine(engine_url) as reference:
            assert reference.engine is not closed
            reference.engine.publish(new_event(asset_uuid, "speed", 1, "Events", "Test")).wait()
