"""The consumers of a group: what they hear, what does not stop them, and where a group goes on."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from ksqldb_factory import KsqlDBFactory
from openfactory.assets import AssetAttribute
from openfactory.exceptions import ConfigurationError, EngineUnavailableError
from openfactory.kafka import (
    AssetProducer,
    CaseInsensitiveDict,
    KafkaAssetConsumer,
    KafkaAssetUNSConsumer,
    KSQLDBClient,
    KSQLDBClientException,
    delete_consumer_group,
)
from openfactory.settings.credentials import Credentials
from servers import KafkaBroker, free_port

Eventually = Callable[..., None]


class Group:
    """Members of one consumer group, each consuming on a thread of its own, and what they have heard."""

    def __init__(self, client: KSQLDBClient, kind: type[KafkaAssetConsumer] = KafkaAssetConsumer) -> None:
        self.name = f"group-{uuid4().hex[:8]}"
        self.heard: list[tuple[str, CaseInsensitiveDict]] = []
        self._client = client
        self._kind = kind
        self._running: list[tuple[KafkaAssetConsumer, threading.Thread]] = []

    def start(self, key: str = "MILL", on_message: Callable[..., object] | None = None) -> KafkaAssetConsumer:
        consumer = self._kind(key, self.name, on_message or (lambda *said: self.heard.append(said)), self._client)
        thread = threading.Thread(target=consumer.consume, name="consumer", daemon=True)
        thread.start()
        self._running.append((consumer, thread))
        return consumer

    def stop(self) -> None:
        """Stop all members; they end within seconds."""
        for consumer, _ in self._running:
            consumer.stop()
        for _, thread in self._running:
            thread.join(60)
            assert not thread.is_alive(), "consume() did not end after stop()"
        self._running.clear()

    def values(self) -> list[Any]:
        """What was heard, without what only called whether anybody is there."""
        return [message["VALUE"] for _, message in self.heard if message["VALUE"] != "anybody there?"]


class Log:
    """Writes to a topic as others do, whatever they write."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "partitioner": "murmur2_random"})
        self._topic = topic

    def write(self, value: Any, key: str = "MILL") -> None:
        self.write_raw(json.dumps({"ID": "status", "VALUE": value, "TAG": "Status", "TYPE": "Events"}).encode(), key)

    def write_raw(self, value: bytes | None, key: str = "MILL") -> None:
        self._producer.produce(self._topic, value, key)
        assert self._producer.flush(timeout=60) == 0

    def write_until_heard(self, group: Group, eventually: Eventually, key: str = "MILL") -> None:
        """A new group hears what comes after it was let in, which takes a moment."""
        before = len(group.heard)

        def is_heard() -> bool:
            self.write("anybody there?", key)
            return len(group.heard) > before

        eventually(is_heard)
        group_settled = len(group.heard)
        self.write("anybody there?", key)
        eventually(lambda: len(group.heard) > group_settled)


@pytest.fixture
def client(kafka_url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(kafka_url) as client:
        client.tables()  # makes the topics
        yield client


@pytest.fixture
def log(client: KSQLDBClient, kafka_broker: KafkaBroker, topic_prefix: str) -> Log:
    return Log(kafka_broker.bootstrap_servers, f"{topic_prefix}ofa_assets")


@pytest.fixture
def group(client: KSQLDBClient) -> Iterator[Group]:
    group = Group(client)
    yield group
    group.stop()


def test_it_hears_the_messages_of_its_asset_in_order(
    client: KSQLDBClient, group: Group, log: Log, eventually: Eventually
) -> None:
    group.start()
    log.write_until_heard(group, eventually)
    with AssetProducer(client) as producer:
        for value in range(20):
            for uuid in ("MILL", "MILL-2", "mill", "MIL"):
                producer.send_asset_attribute(uuid, AssetAttribute("speed", value, "Samples", "Speed"))
    eventually(lambda: len(group.values()) >= 20)
    log.write("the last")
    eventually(lambda: group.values()[-1:] == ["the last"])
    assert group.values() == [*range(20), "the last"]
    key, message = group.heard[-2]
    assert key == "MILL"
    assert isinstance(message, CaseInsensitiveDict)
    assert (message["id"], message["Type"], message["TAG"]) == ("speed", "Samples", "Speed")
    assert message["attributes"]["timestamp"].endswith("Z")


@pytest.mark.parametrize(("written", "heard"), [("72.5", 72.5), ("1_000", "1_000"), ([1], [1])], ids=repr)
def test_a_sample_is_heard_as_every_reader_reads_it(
    group: Group, log: Log, eventually: Eventually, written: object, heard: object
) -> None:
    group.start()
    log.write_until_heard(group, eventually)
    log.write_raw(json.dumps({"id": "speed", "value": written, "type": "samples", "tag": "Speed"}).encode())
    eventually(lambda: group.values())
    assert [repr(value) for value in group.values()] == [repr(heard)]


def test_what_it_cannot_read_is_logged_with_its_place_and_the_next_is_heard(
    group: Group, log: Log, eventually: Eventually, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    group.start()
    log.write_until_heard(group, eventually)
    for value in (b"no JSON", None, b"[1, 2]", b"7", b"\xff\xfe", b"[" * 50_000, b""):
        log.write_raw(value)
    log.write_raw(b"no JSON either, and for another", key="OTHER")
    log.write("after all that")
    eventually(lambda: group.values() == ["after all that"])
    group.stop()
    skipped = [record.getMessage() for record in caplog.records if "is skipped" in record.getMessage()]
    assert len([one for one in skipped if one.startswith("The message at")]) == 7
    for text in (f"{topic_prefix}ofa_assets, partition 0, offset ", "not JSON", "it has no value", "not a JSON object"):
        assert any(text in one for one in skipped), text


def test_a_callback_that_raises_is_logged_and_the_next_message_comes(
    group: Group, log: Log, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    def on_message(key: str, message: CaseInsensitiveDict) -> None:
        group.heard.append((key, message))
        if message["value"] == "bad":
            raise RuntimeError("the database is full")

    group.start(on_message=on_message)
    log.write_until_heard(group, eventually)
    log.write("bad")
    log.write("good")
    eventually(lambda: group.values() == ["bad", "good"])
    assert "was not handled. The consumer goes on with the next message." in caplog.text
    assert "the database is full" in caplog.text


def test_a_subclass_says_which_messages_are_heard(client: KSQLDBClient, log: Log, eventually: Eventually) -> None:
    class Condition(KafkaAssetConsumer):
        def filter_messages(self, value: CaseInsensitiveDict) -> bool:
            return value["type"] != "Events" or value["value"] in ("anybody there?", "kept")

    group = Group(client, Condition)
    try:
        group.start()
        log.write_until_heard(group, eventually)
        for value in ("dropped", "kept", "dropped", "kept"):
            log.write(value)
        eventually(lambda: group.values() == ["kept", "kept"])
    finally:
        group.stop()


def test_a_group_begins_at_the_end_of_the_log_and_goes_on_where_it_was(
    group: Group, log: Log, eventually: Eventually
) -> None:
    log.write("before the group")
    group.start()
    log.write_until_heard(group, eventually)
    log.write("first")
    eventually(lambda: group.values() == ["first"])
    group.stop()
    log.write("while nobody is there")
    group.start()
    eventually(lambda: group.values() == ["first", "while nobody is there"])


def test_a_message_whose_handling_was_cut_off_comes_once_more(
    client: KSQLDBClient, group: Group, log: Log, eventually: Eventually
) -> None:
    # As a kill would leave it: the second message never counts as handled.
    group.start()
    log.write_until_heard(group, eventually)
    group.stop()

    class Killed(BaseException):
        pass

    def on_message(key: str, message: CaseInsensitiveDict) -> None:
        if message["value"] == "second":
            raise Killed

    log.write("first")
    log.write("second")
    with pytest.raises(Killed):
        KafkaAssetConsumer("MILL", group.name, on_message, client).consume()
    group.start()
    eventually(lambda: group.values() == ["second"])


def test_another_member_takes_over(group: Group, log: Log, eventually: Eventually) -> None:
    first = group.start()
    log.write_until_heard(group, eventually)
    group.start()
    log.write_until_heard(group, eventually)
    for value in range(5):
        log.write(value)
    eventually(lambda: len(group.values()) >= 5)
    first.stop()
    for value in range(5, 10):
        log.write(value)
    eventually(lambda: len(group.values()) >= 10)
    assert group.values() == list(range(10))  # each once


def test_it_may_be_stopped_by_its_own_callback_and_before_it_begins(
    client: KSQLDBClient, group: Group, log: Log, eventually: Eventually
) -> None:
    def on_message(key: str, message: CaseInsensitiveDict) -> None:
        group.heard.append((key, message))
        consumer.stop()

    consumer = group.start(on_message=on_message)

    def is_heard() -> bool:
        log.write("stop")
        return bool(group.heard)

    eventually(is_heard)
    group.stop()
    assert len(group.heard) == 1
    unused = KafkaAssetConsumer("MILL", group.name, on_message, client)
    unused.stop()
    unused.consume()


@pytest.mark.thorough  # test_broker_outages.py shows in each run that a consumer comes back
def test_a_broker_that_is_away_for_a_while_does_not_end_it(
    own_kafka_broker: KafkaBroker, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    killed = threading.Event()

    with KSQLDBClient(f"kafka://{own_kafka_broker.bootstrap_servers}") as client:
        client.tables()
        group = Group(client)

        def on_message(key: str, message: CaseInsensitiveDict) -> None:
            group.heard.append((key, message))
            if message["value"] == "the last":
                assert killed.wait(30)

        log = Log(own_kafka_broker.bootstrap_servers, "ofa_assets")
        try:
            group.start(on_message=on_message)
            log.write_until_heard(group, eventually)
            own_kafka_broker.kill()
            eventually(lambda: "cannot be reached" in caplog.text)
            own_kafka_broker.start()
            log.write("again")
            eventually(lambda: group.values() == ["again"], timeout=60)
            log.write("the last")
            eventually(lambda: len(group.values()) == 2)
            own_kafka_broker.kill()
            killed.set()
        finally:
            group.stop()  # bounded, without a broker too
        assert "The last messages may be delivered again" in caplog.text


def test_a_place_in_the_namespace_is_heard_where_there_is_a_ksqldb(
    kafka_broker: KafkaBroker, eventually: Eventually
) -> None:
    with (
        KsqlDBFactory(kafka_broker.bootstrap_servers) as factory,
        KSQLDBClient(factory.url, bootstrap_servers=factory.bootstrap_servers) as client,
    ):
        topic = f"{factory.prefix}ofa_assets_uns"
        factory.ksqldb.streams["ASSETS_STREAM_UNS"] = topic
        log = Log(factory.bootstrap_servers, topic)
        group = Group(client, KafkaAssetUNSConsumer)
        try:
            group.start("plant/hall-1/mill")
            log.write_until_heard(group, eventually, "plant/hall-1/mill")
            log.write("of another", "plant/hall-1/lathe")
            log.write("busy", "plant/hall-1/mill")
            eventually(lambda: group.values() == ["busy"])
            assert group.heard[-1][0] == "plant/hall-1/mill"
        finally:
            group.stop()


def test_a_topic_that_is_made_later_is_waited_for(
    kafka_broker: KafkaBroker, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        KsqlDBFactory(kafka_broker.bootstrap_servers) as factory,
        KSQLDBClient(factory.url, bootstrap_servers=factory.bootstrap_servers) as client,
    ):
        topic = factory.ksqldb.streams["ASSETS_STREAM"] = f"{factory.prefix}later"
        group = Group(client)
        try:
            group.start()
            eventually(lambda: f"{topic} cannot be read by the group {group.name}" in caplog.text)
            admin = AdminClient({"bootstrap.servers": factory.bootstrap_servers})
            admin.create_topics([NewTopic(topic, 1)])[topic].result(60)
            Log(factory.bootstrap_servers, topic).write_until_heard(group, eventually)
        finally:
            group.stop()
        assert caplog.text.count("cannot be read by the group") == 1


def test_with_a_ksqldb_the_broker_is_named_beside_it(
    kafka_broker: KafkaBroker, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KsqlDBFactory(kafka_broker.bootstrap_servers) as factory, KSQLDBClient(factory.url) as client:
        with pytest.raises(ConfigurationError, match="KAFKA_BROKER"):
            KafkaAssetConsumer("MILL", "group", print, client)
        monkeypatch.setenv("KAFKA_BROKER", factory.bootstrap_servers)
        group = Group(client)
        try:
            group.start()
            Log(factory.bootstrap_servers, f"{factory.prefix}ofa_assets").write_until_heard(group, eventually)
        finally:
            group.stop()
        del factory.ksqldb.streams["ASSETS_STREAM_UNS"]
        with pytest.raises(KSQLDBClientException, match="ASSETS_STREAM_UNS"):
            KafkaAssetUNSConsumer("plant/mill", "group", print, client)


@pytest.mark.parametrize(
    ("kind", "instead"),
    [(KafkaAssetConsumer, r"Asset\('MILL', client\)"), (KafkaAssetUNSConsumer, r"AssetUNS\('MILL', client\)")],
)
@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_without_a_kafka_it_says_what_works(
    kind: type[KafkaAssetConsumer], instead: str, scheme: str, tmp_path: Path
) -> None:
    url = f"memory://{uuid4().hex}" if scheme == "memory" else f"sqlite:///{tmp_path}/factory.db"
    with KSQLDBClient(url) as client, pytest.raises(ConfigurationError, match=instead):
        kind("MILL", "group", print, client)


def test_without_a_ksqldb_there_is_no_stream_of_places(client: KSQLDBClient) -> None:
    with pytest.raises(ConfigurationError, match="ASSETS_STREAM_UNS"):
        KafkaAssetUNSConsumer("plant/mill", "group", print, client)


def test_no_broker_is_one_sentence() -> None:
    address = f"127.0.0.1:{free_port()}"
    with KSQLDBClient(f"kafka://{address}") as client, pytest.raises(EngineUnavailableError, match=address):
        KafkaAssetConsumer("MILL", "group", print, client)


def test_it_logs_in_as_its_client_does(kafka_broker: KafkaBroker, topic_prefix: str, eventually: Eventually) -> None:
    address = kafka_broker.address("sasl_plaintext")
    login = {"kafka_sasl_username": kafka_broker.username, "kafka_sasl_password": kafka_broker.password}
    credentials = Credentials(kafka_security_protocol="SASL_PLAINTEXT", kafka_sasl_mechanism="SCRAM-SHA-256", **login)
    with KSQLDBClient(f"kafka://{address}?prefix={topic_prefix}", credentials=credentials) as client:
        group = Group(client)
        with AssetProducer(client) as producer:

            def is_heard() -> bool:
                producer.send_asset_attribute("MILL", AssetAttribute("speed", 7, "Samples", "Speed")).wait()
                return group.values()[:1] == [7]

            try:
                group.start()
                eventually(is_heard)
            finally:
                group.stop()
        assert delete_consumer_group(group.name, address, credentials=credentials)


def test_a_deleted_group_begins_anew(
    group: Group, log: Log, eventually: Eventually, kafka_broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    group.start()
    log.write_until_heard(group, eventually)
    assert not delete_consumer_group(group.name, kafka_broker.bootstrap_servers)
    assert f"The consumer group {group.name} at {kafka_broker.bootstrap_servers} was not deleted" in caplog.text
    assert "Stop its members first." in caplog.text
    group.stop()
    log.write("while nobody is there")
    assert delete_consumer_group(group.name, kafka_broker.bootstrap_servers)
    assert delete_consumer_group(group.name, kafka_broker.bootstrap_servers)  # it is not there any more
    group.start()
    log.write_until_heard(group, eventually)
    assert group.values() == []


def test_a_group_that_nobody_answers_for_is_not_deleted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match="KAFKA_BROKER"):
        delete_consumer_group("group")
    monkeypatch.setenv("KAFKA_BROKER", f"127.0.0.1:{free_port()}")
    with caplog.at_level(logging.ERROR):
        assert not delete_consumer_group("group")
    assert "No Kafka broker answers at" in caplog.text
