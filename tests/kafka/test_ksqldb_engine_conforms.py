"""Kafka with a ksqlDB passes the suite that every engine passes, with live events from the log and from NATS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ksqldb_factory import KsqlDBFactory
from openfactory.testing import SharedEngineConformance
from servers import KafkaBroker, NatsServer


@pytest.fixture(scope="module")
def from_the_log(kafka_broker: KafkaBroker) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory:
        yield factory


@pytest.fixture(scope="module", params=[(1, False), (3, False), (3, True)], ids=["one-partition", "three", "ours"])
def from_nats(
    request: pytest.FixtureRequest, kafka_broker: KafkaBroker, nats_server: NatsServer
) -> Iterator[KsqlDBFactory]:
    partitions, ours = request.param
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url, partitions, ours=ours) as factory:
        yield factory


@pytest.fixture(scope="module")
def existing(kafka_broker: KafkaBroker, nats_server: NatsServer) -> Iterator[KsqlDBFactory]:
    with KsqlDBFactory(kafka_broker.bootstrap_servers, nats_server.url, existing=True) as factory:
        yield factory


class _KsqlDBConformance(SharedEngineConformance):
    @pytest.fixture
    def unwritable(self) -> str:
        return "x" * 2_000_000  # larger than a message may be


@pytest.mark.thorough  # with live events from the log, which TestKafkaAlone hears too
class TestKsqlDB(_KsqlDBConformance):
    @pytest.fixture
    def engine_url(self, from_the_log: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> str:
        return from_the_log.entered(monkeypatch)


@pytest.mark.thorough  # the log is that of TestKafkaAlone, and the feed has tests of its own in each run
class TestKsqlDBAndNATS(_KsqlDBConformance):
    @pytest.fixture
    def engine_url(self, from_nats: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> str:
        return from_nats.entered(monkeypatch)


@pytest.mark.thorough  # test_beside_the_existing_system.py has what differs, in each run
class TestKsqlDBOfTheExistingSystem(_KsqlDBConformance):
    log_has_a_clock = False  # its records have the times of their writers

    @pytest.fixture
    def engine_url(self, existing: KsqlDBFactory, monkeypatch: pytest.MonkeyPatch) -> str:
        return existing.entered(monkeypatch)
