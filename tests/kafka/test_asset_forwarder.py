"""The asset forwarder on a real Kafka and real NATS servers: nothing is lost, and each asset's order holds."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from nats_listener import NatsListener, numbers
from openfactory.engines.base import Servers
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from openfactory.fanout.cluster import ClusterPublisher
from openfactory.fanout.forwarding import Forwarding, ForwardingOptions
from openfactory.fanout.log_source import LogSource
from openfactory.fanout.ring import HashRing
from running_services import StartService, start_service
from servers import KafkaBroker, NatsServer, Proxy, Toxiproxy

__all__ = ["start_service"]

PARTITIONS = 4
ASSETS = [f"mill-{number}" for number in range(20)]

Forward = Callable[..., list[Forwarding]]


class Writer:
    """Writes numbered events, in turn of all assets."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.topic = topic
        self.written = 0
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": 1, "partitioner": "murmur2_random"}
        )

    def write(self, count: int) -> None:
        """Write so many events of each asset."""
        for number in range(self.written, self.written + count):
            for asset in ASSETS:
                self.put(asset, {"ID": "count", "VALUE": number, "TAG": "T", "TYPE": "Samples", "attributes": {}})
        self.written += count
        self.flush()

    def put(self, key: str | None, value: object, partition: int = -1) -> None:
        data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
        self._producer.produce(self.topic, data, key, partition)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


@pytest.fixture
def writer(kafka_broker: KafkaBroker, topic_prefix: str) -> Writer:
    configuration = {"bootstrap.servers": kafka_broker.bootstrap_servers}
    create_topics(configuration, TOPICS, prefix=topic_prefix, partitions=PARTITIONS)
    return Writer(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets")


def start_forwarding(stack: ExitStack, kafka_url: str, **servers: str) -> list[Forwarding]:
    """Start a forwarder of this process, to clusters with the given servers."""
    source = LogSource(kafka_url)
    stack.callback(source.close)
    options = ForwardingOptions("FORWARDER", "forwarders", from_begin=False, session_seconds=3.0)
    credentials = Servers().resolve(kafka_url).credentials
    started = []
    for name, url in servers.items():
        publisher = ClusterPublisher(name, [url], credentials)
        stack.callback(publisher.close)
        one = Forwarding(name, publisher, source, HashRing(servers), options)
        thread = threading.Thread(target=one.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(one.stop)
        started.append(one)
    return started


@pytest.fixture
def forward(kafka_url: str, writer: Writer, eventually: Callable[..., None]) -> Iterator[Forward]:
    """Start a forwarder where the topic is there, and wait until it has all partitions: `forward(C1="nats://…")`.

    `forward(2, C1="nats://…")` waits until it has two partitions, and `forward(None, C1="nats://…")` does not wait.
    """
    with ExitStack() as stack:

        def start(partitions: int | None = PARTITIONS, **servers: str) -> list[Forwarding]:
            started = start_forwarding(stack, kafka_url, **servers)
            if partitions is not None:
                eventually(lambda: all(len(one.progress) == partitions for one in started))
            return started

        yield start


class Proxied(NamedTuple):
    """A forwarder that reaches its NATS server through a proxy, and a listener without the proxy."""

    forwarding: Forwarding
    proxy: Proxy
    listener: NatsListener


@pytest.fixture
def proxied(forward: Forward, own_nats_server: NatsServer, toxiproxy: Toxiproxy) -> Iterator[Proxied]:
    with NatsListener(own_nats_server.url) as listener, toxiproxy.proxy(own_nats_server.url[7:]) as proxy:
        [one] = forward(C1=f"nats://{proxy.address}")
        yield Proxied(one, proxy, listener)


def has_all(listener: NatsListener, written: int, assets: list[str] = ASSETS) -> bool:
    """Whether all events of some assets have come, each asset's in order."""
    return numbers(listener.of("mill-")) == {f"{asset}.count": list(range(written)) for asset in assets}


def counted(page: str, name: str) -> float:
    """The sum of a counter of the forwarder over its labels, on a page of metrics."""
    return sum(map(float, re.findall(rf"^asset_forwarder_{name}_total\{{.*\}} (\S+)$", page, re.MULTILINE)))


def timed(page: str) -> float:
    """The number of messages in the histogram of their latencies, on a page of metrics."""
    [count] = re.findall(r"^asset_forwarder_message_processing_latency_seconds_count\S* (\S+)$", page, re.MULTILINE)
    return float(count)


def committed(broker: KafkaBroker, topic: str) -> list[int]:
    """The commits of the group of cluster C1."""
    group = f"{topic.removesuffix('ofa_assets')}forwarders_C1"
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group})
    try:
        places = consumer.committed([TopicPartition(topic, number) for number in range(PARTITIONS)], timeout=30)
    finally:
        consumer.close()
    return [place.offset for place in places]


def test_records_become_messages_with_their_places_and_others_are_passed(
    forward: Forward,
    writer: Writer,
    kafka_broker: KafkaBroker,
    eventually: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "openfactory.fanout")
    writer.put("early", {"ID": "count", "VALUE": 0}, 0)
    writer.flush()
    with NatsServer(configuration="max_payload: 10000") as server, NatsListener(server.url) as listener:
        [one] = forward(C1=server.url)
        # A new group has a commit before it reads: after a kill, it does not begin at a later end.
        assert committed(kafka_broker, writer.topic) == [1, 0, 0, 0]
        good = {"ID": "speed", "VALUE": 1.0, "TAG": "T", "TYPE": "Samples", "attributes": {"timestamp": "t"}}
        for key, value in (
            ("Mill", good),
            (None, good),
            ("Mill", None),
            ("Mill", b"no JSON"),
            ("Mill", {"VALUE": 1}),
            ("Mill", good | {"ID": "two words"}),
            ("two words", good),
            ("Mill", good | {"VALUE": "x" * 9_900}),
            ("Mill", {"id": "last", "value": True, "type": "Events"}),
        ):
            writer.put(key, value, 0)
        writer.flush()
        eventually(lambda: len(listener.heard) == 2)
        eventually(lambda: one.progress[0].position == 10)
        eventually(lambda: any(told.payload["position"] == 10 for told in listener.progress))
        first, last = listener.heard
    assert (first.subject, last.subject) == ("Mill.speed", "Mill.last")
    assert first.payload["VALUE"] == 1.0
    assert first.payload["attributes"].keys() >= {"timestamp", "kafka_timestamp", "asset_forwarder_timestamp"}
    assert (first.headers["OFA-Partition"], first.headers["OFA-Offset"], last.headers["OFA-Offset"]) == (0, 1, 9)
    assert one.records.passed.counts == {
        "no_key": 1, "tombstone": 1, "not_json": 1, "no_id": 1, "subject": 2, "too_large": 1
    }  # fmt: skip
    assert one.records.counters == {"consumed": 9, "skipped": 0}
    assert "The record at offset 2 of" in caplog.text
    assert {told.subject for told in listener.progress} == {f"_OFA.forwarder.{n}" for n in range(PARTITIONS)}
    told = listener.progress[-1].payload
    assert told.keys() == {"position", "end", "time", "forwarder", "topic", "is_new"}
    assert (told["forwarder"], told["topic"]) == ("FORWARDER", writer.topic)
    assert all(first.payload["is_new"] for first in listener.progress[:PARTITIONS])
    assert told["end"] >= told["position"]


def test_a_cluster_that_is_away_or_frozen_holds_no_other_up(
    forward: Forward, writer: Writer, own_nats_server: NatsServer, eventually: Callable[..., None]
) -> None:
    ring = HashRing(["C1", "C2"])
    of = {name: [asset for asset in ASSETS if ring.node_of(asset) == name] for name in ring.nodes}
    assert all(of.values())
    with NatsServer() as other, NatsListener(own_nats_server.url) as first, NatsListener(other.url) as second:
        one, two = forward(C1=own_nats_server.url, C2=other.url)
        other.suspend()
        writer.write(50)
        eventually(lambda: has_all(first, 50, of["C1"]))
        assert second.heard == []
        eventually(lambda: sum(place.lag_events for place in two.progress.values()) > 0)
        other.resume()
        eventually(lambda: has_all(second, 50, of["C2"]))
        other.kill()
        eventually(lambda: two.trouble)
        assert "NATS cluster C2" in two.trouble
        writer.write(50)
        eventually(lambda: has_all(first, 100, of["C1"]))
        assert one.trouble == ""
        other.start()
        eventually(lambda: two.trouble == "")
        eventually(lambda: sum(place.lag_events for place in two.progress.values()) == 0)


def test_what_a_connection_has_swallowed_is_sent_again(
    proxied: Proxied, writer: Writer, kafka_broker: KafkaBroker, eventually: Callable[..., None]
) -> None:
    one, proxy, listener = proxied
    writer.write(1)
    eventually(lambda: sum(committed(kafka_broker, writer.topic)) == len(ASSETS))
    proxy.silence()
    count = 500 * len(ASSETS)
    writer.write(500)
    eventually(lambda: not one.publisher.has_room)
    time.sleep(0.5)
    assert 1_000 < one.records.counters["consumed"] < count - 1_000  # the rest waits in Kafka
    assert sum(committed(kafka_broker, writer.topic)) == len(ASSETS)
    proxy.restore()
    eventually(lambda: has_all(listener, 501))
    eventually(lambda: sum(committed(kafka_broker, writer.topic)) == 501 * len(ASSETS))
    assert one.publisher.failures > 1_000


def test_partitions_are_handed_over_while_nats_is_silent(
    proxied: Proxied,
    forward: Forward,
    writer: Writer,
    own_nats_server: NatsServer,
    eventually: Callable[..., None],
) -> None:
    one, proxy, listener = proxied
    proxy.silence()
    writer.write(50)
    eventually(lambda: one.records.counters["consumed"] == 50 * len(ASSETS))
    forward(PARTITIONS // 2, C1=own_nats_server.url)
    eventually(lambda: len(listener.of("mill-")) > 0)
    proxy.restore()
    eventually(lambda: has_all(listener, 50))
    assert len(listener.of("mill-")) == 50 * len(ASSETS)  # what was swallowed did not come later


def test_a_server_that_refuses_messages_loses_none(
    forward: Forward, writer: Writer, kafka_broker: KafkaBroker, eventually: Callable[..., None]
) -> None:
    allowed = 'permissions: {publish: {allow: "_OFA.>"}}'
    with NatsServer(configuration=f'authorization {{ users: [ {{user: "f", password: "p", {allowed}}} ] }}') as server:
        [one] = forward(C1=server.url.replace("//", "//f:p@"))
        eventually(lambda: not one.trouble)
        writer.write(1)
        eventually(lambda: "Allow the user of the forwarder to publish" in one.trouble)
        assert "f:p" not in one.trouble
        assert sum(place.position for place in one.progress.values()) == 0
        assert sum(committed(kafka_broker, writer.topic)) == 0


def test_a_missing_topic_is_told_with_its_remedy_until_it_is_there(
    kafka_url: str,
    kafka_broker: KafkaBroker,
    topic_prefix: str,
    own_nats_server: NatsServer,
    eventually: Callable[..., None],
) -> None:
    with ExitStack() as stack:
        [one] = start_forwarding(stack, kafka_url, C1=own_nats_server.url)
        eventually(lambda: "Run `ofa setup-kafka` to create it." in one.trouble)
        create_topics({"bootstrap.servers": kafka_broker.bootstrap_servers}, TOPICS, prefix=topic_prefix, partitions=1)
        eventually(lambda: len(one.progress) == 1 and not one.trouble)


def test_what_was_read_before_nats_has_it_comes_again_after_a_kill(
    start_service: StartService,
    kafka_url: str,
    writer: Writer,
    own_nats_server: NatsServer,
    eventually: Callable[..., None],
) -> None:
    settings = {
        "KSQLDB_URL": kafka_url, "NATS_CLUSTER_C1": own_nats_server.url, "ASSET_FORWARDER_SESSION_TIMEOUT": "2",
    }  # fmt: skip
    with NatsListener(own_nats_server.url) as listener:
        first = start_service("forwarder", "--port", "0", **settings)
        eventually(lambda: 'asset_forwarder_lag_events{cluster="C1",partition="3"} 0.0' in first.ask("/metrics").text)
        eventually(lambda: first.ask("/health/ready").status == 200)
        writer.write(10)
        eventually(lambda: has_all(listener, 10))
        eventually(lambda: timed(page := first.ask("/metrics").text) == counted(page, "nats_messages_published") > 0)
        consumed = counted(first.ask("/metrics").text, "kafka_messages_consumed")
        own_nats_server.suspend()
        writer.write(100)
        eventually(lambda: counted(first.ask("/metrics").text, "kafka_messages_consumed") > consumed)
        eventually(lambda: first.ask("/health/ready").status == 503)
        assert "NATS cluster C1" in first.ask("/health/ready").text
        first.process.kill()
        first.process.wait()
        own_nats_server.kill()  # and with it all that it has not read
        own_nats_server.start()
        eventually(lambda: listener.reconnects == 1)
        second = start_service("forwarder", "--port", "0", **settings)
        eventually(lambda: has_all(listener, 110))
        eventually(lambda: counted(second.ask("/metrics").text, "nats_messages_published") > 0)
        second.process.terminate()
        assert second.ends() == 0


def test_order_holds_when_forwarders_come_and_go(
    forward: Forward, writer: Writer, own_nats_server: NatsServer, eventually: Callable[..., None]
) -> None:
    with NatsListener(own_nats_server.url) as listener:
        [one] = forward(C1=own_nats_server.url)
        writer.write(200)
        [two] = forward(None, C1=own_nats_server.url)

        def has_partitions_after_more(count: int) -> bool:
            writer.write(20)
            return len(two.progress) == count

        eventually(lambda: has_partitions_after_more(PARTITIONS // 2))
        writer.write(200)
        one.stop()
        eventually(lambda: has_partitions_after_more(PARTITIONS))
        writer.write(200)
        eventually(lambda: has_all(listener, writer.written))
        # After an orderly handover, nothing comes twice.
        assert len(listener.of("mill-")) == writer.written * len(ASSETS)
