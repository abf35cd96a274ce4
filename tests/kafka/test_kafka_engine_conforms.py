"""Kafka alone passes the suite that every engine passes, with one partition and with several."""

from __future__ import annotations

from uuid import uuid4

import pytest

from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.testing import SharedEngineConformance
from servers.kafka_broker import KafkaBroker


# With one partition a log has one order, as that of the embedded engine.
@pytest.fixture(
    scope="module", params=[pytest.param(1, marks=pytest.mark.thorough), 3], ids=["one-partition", "three-partitions"]
)
def place(request: pytest.FixtureRequest, kafka_broker: KafkaBroker) -> str:
    """A factory of its own: the tests of one run share it, with assets of their own."""
    prefix = f"c{uuid4().hex[:8]}_"
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, TOPICS, prefix=prefix, partitions=request.param)
    return f"kafka://{kafka_broker.bootstrap_servers}?prefix={prefix}"


class TestKafkaAlone(SharedEngineConformance):
    @pytest.fixture
    def unwritable(self) -> str:
        return "x" * 2_000_000  # larger than a message may be

    @pytest.fixture
    def engine_url(self, place: str) -> str:
        return place
