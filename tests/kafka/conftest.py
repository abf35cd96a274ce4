"""The servers of these tests: started where the machine has them, else the test says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from needed import needed, running
from servers import KafkaBroker, NatsServer, Toxiproxy, shared_broker
from topic_deletion import delete_topics


@pytest.fixture(scope="session")
def kafka_broker(request: pytest.FixtureRequest, run_folder: Path) -> KafkaBroker:
    """A broker for all tests of all workers: keep to `topic_prefix`, and leave it running."""
    # Not stopped by a fixture: the worker that started it waits for the others, and no test's timeout bounds them.
    stack = ExitStack()
    request.config.add_cleanup(stack.close)
    with needed("kafka"):
        return stack.enter_context(shared_broker(run_folder))


@pytest.fixture
def own_kafka_broker() -> Iterator[KafkaBroker]:
    """A broker of this test alone, which may kill it."""
    with running(KafkaBroker()) as broker:
        yield broker


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    """A nats-server for all tests: use an asset UUID of your own, and leave it running."""
    with running(NatsServer()) as server:
        yield server


@pytest.fixture
def own_nats_server() -> Iterator[NatsServer]:
    """A nats-server of this test alone, which may kill it."""
    with running(NatsServer()) as server:
        yield server


@pytest.fixture(scope="session")
def toxiproxy() -> Iterator[Toxiproxy]:
    """Proxies whose connections can be cut: `toxiproxy.proxy(upstream)`."""
    with running(Toxiproxy()) as server:
        yield server


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """The prefix of this test's topics, so that the shared broker is as good as a fresh one; they are deleted."""
    prefix = f"t{uuid4().hex[:12]}_"
    shared = "kafka_broker" in request.fixturenames
    broker: KafkaBroker | None = request.getfixturevalue("kafka_broker") if shared else None
    yield prefix
    if broker is not None:
        delete_topics(broker.bootstrap_servers, prefix)


@pytest.fixture
def kafka_url(kafka_broker: KafkaBroker, topic_prefix: str) -> str:
    """A fresh place of data on the shared broker."""
    return f"kafka://{kafka_broker.bootstrap_servers}?prefix={topic_prefix}"
