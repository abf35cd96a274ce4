"""What an engine on a ksqlDB takes care of beside what every engine promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import Asset
from openfactory.engines import open_engine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.kafka import KSQLDBClient
from servers import KafkaBroker


@pytest.fixture(scope="module")
def factory(kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory:
        yield factory


@contextmanager
def emptied(factory: KsqlDBFactory) -> Iterator[None]:
    """For half a second the tables have no rows, and the server says nothing of it."""
    factory.ksqldb.empty = True
    timer = threading.Timer(0.5, setattr, (factory.ksqldb, "empty", False))
    timer.start()
    yield
    timer.join()


def test_tables_that_are_empty_after_a_kill_are_asked_again(
    factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openfactory.engines.ksqldb.engine.LAG_SECONDS", 0.0)  # the tables alone tell
    with open_engine(factory.entered(monkeypatch)) as reference:
        engine = reference.engine
        engine.register(Registration("OVEN", "Device", uns_id="plant/oven"))
        engine.publish(new_event("OVEN", "temperature", 180, "Samples", "Temperature"))
        engine.flush()
        with emptied(factory):
            assert engine.types(["OVEN"]) == {"OVEN": "Device"}
        with emptied(factory):
            assert "temperature" in {event.id for event in engine.snapshot(["OVEN"]).events["OVEN"]}
        with emptied(factory):
            assert engine.uns_map()["OVEN"] == "plant/oven"


def test_without_a_broker_the_variable_is_named(factory: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BROKER", raising=False)
    with KSQLDBClient(factory.url) as client, pytest.raises(ConfigurationError, match=r"Set KAFKA_BROKER=host:9092"):
        Asset("MILL", client)


def test_the_broker_of_another_ksqldb_is_told_from_ours(
    factory: KsqlDBFactory, own_kafka_broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BROKER", own_kafka_broker.bootstrap_servers)
    with (
        KSQLDBClient(factory.url) as client,
        pytest.raises(EngineUnavailableError, match=r"Set KAFKA_BROKER to the broker of that ksqlDB\."),
    ):
        Asset("MILL", client)
