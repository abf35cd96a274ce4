"""The forwarder of these tests says on NATS what the real one says, so that what is built on it is shown for real."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from forwarder import Forwarder
from openfactory.engines.fanout import AssetRouter, NatsFeed
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.testing import eventually
from router_stand_in import RouterStandIn
from servers import KafkaBroker, NatsServer

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def topic(kafka_broker: KafkaBroker, topic_prefix: str) -> str:
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, [one for one in TOPICS if one.name == "ofa_assets"], prefix=topic_prefix, partitions=2)
    return f"{topic_prefix}ofa_assets"


@pytest.fixture
def write(kafka_broker: KafkaBroker, topic: str) -> Callable[..., None]:
    """Write messages, each a key and a value, and come back when the broker has them."""
    producer = Producer({"bootstrap.servers": kafka_broker.bootstrap_servers, "linger.ms": 0})

    def write(*messages: tuple[str | None, object]) -> None:
        for key, value in messages:
            data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
            producer.produce(topic, key=key, value=data)
        assert producer.flush(30) == 0

    return write


@pytest.fixture
def heard(own_nats_server: NatsServer, mill: str) -> Iterator[list[tuple[str, str, bytes]]]:
    """What the feed hears of the mill."""
    messages: list[tuple[str, str, bytes]] = []
    with RouterStandIn(own_nats_server.url) as stand_in:
        router = AssetRouter(stand_in.url)
        feed = NatsFeed(
            router, on_message=lambda *message: messages.append(message), on_live=lambda _: None, on_cut=lambda *_: None
        )
        feed.subscribe(mill)
        eventually(lambda: feed.is_live(mill))
        yield messages
        feed.close()
        router.close()


@pytest.fixture
def mill() -> str:
    return f"Mill-{uuid4().hex[:8]}"


def event(attribute_id: str, value: object, **more: object) -> dict[str, object]:
    said = {"ID": attribute_id, "VALUE": value, "TAG": "T", "TYPE": "Samples"}
    return said | {"attributes": {"timestamp": "2026-11-21T07:30:00.000Z"}} | more


def test_what_is_written_is_heard(
    kafka_broker: KafkaBroker,
    topic: str,
    write: Callable[..., None],
    own_nats_server: NatsServer,
    mill: str,
    heard: list[tuple[str, str, bytes]],
) -> None:
    write((mill, event("before", 0)))
    with Forwarder(kafka_broker.bootstrap_servers, own_nats_server.url, topic) as forwarder:
        write(
            (mill, event("speed", 1.5)),
            (mill, b"no JSON"),
            (mill, None),
            (None, event("speed", 2)),
            (mill, event("", 3)),
            (mill, [1]),
            (mill, {"id": "axis.x", "value": "é", "tag": "T", "type": "Events"}),
            (mill, event("last", True, ATTRIBUTES=None)),
        )
        eventually(lambda: len(heard) == 3)
        eventually(lambda: forwarder.counters == {"consumed": 8, "published": 3, "invalid": 5})
    assert [message[:2] for message in heard] == [(mill, "speed"), (mill, "axis.x"), (mill, "last")]
    payload = json.loads(heard[0][2])
    attributes = payload.pop("attributes")
    assert payload == {"VALUE": 1.5, "TAG": "T", "TYPE": "Samples"}
    assert attributes.pop("timestamp") == "2026-11-21T07:30:00.000Z"
    assert attributes.pop("kafka_timestamp_type") == "broker"  # as our topics have it
    assert TIMESTAMP.fullmatch(attributes.pop("kafka_timestamp"))
    assert TIMESTAMP.fullmatch(attributes.pop("asset_forwarder_timestamp"))
    assert attributes == {}
    lower = json.loads(heard[1][2])
    assert lower.keys() == {"value", "tag", "type", "attributes"}
    assert json.loads(heard[2][2])["ATTRIBUTES"] is None


def test_it_goes_on_where_it_stopped(
    kafka_broker: KafkaBroker,
    topic: str,
    write: Callable[..., None],
    own_nats_server: NatsServer,
    mill: str,
    heard: list[tuple[str, str, bytes]],
) -> None:
    forwarder = Forwarder(kafka_broker.bootstrap_servers, own_nats_server.url, topic)
    forwarder.start()
    write((mill, event("a", 1)))
    eventually(lambda: len(heard) == 1)
    forwarder.stop()
    write((mill, event("b", 2)))
    forwarder.start()
    write((mill, event("c", 3)))
    eventually(lambda: len(heard) == 3)
    forwarder.stop()
    forwarder.stop()
    assert [message[1] for message in heard] == ["a", "b", "c"]


def test_what_comes_while_nats_is_away_is_lost(
    kafka_broker: KafkaBroker,
    topic: str,
    write: Callable[..., None],
    own_nats_server: NatsServer,
    mill: str,
    heard: list[tuple[str, str, bytes]],
) -> None:
    with Forwarder(kafka_broker.bootstrap_servers, own_nats_server.url, topic) as forwarder:
        own_nats_server.kill()
        eventually(lambda: not forwarder.is_connected)
        write((mill, event("lost", 1)))
        eventually(lambda: forwarder.counters["failed"] == 1)
        own_nats_server.start()
        eventually(lambda: forwarder.is_connected)

        def is_heard() -> bool:
            write((mill, event("back", time.time())))  # until the feed is back, too
            return bool(heard)

        eventually(is_heard)
    assert {message[1] for message in heard} == {"back"}
