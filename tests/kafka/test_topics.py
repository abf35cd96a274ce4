"""Topics: made as they should be on a real broker, left where they are, and errors that say what to do."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # type: ignore[attr-defined]

from openfactory.engines.kafka_engine.topic_differences import differences
from openfactory.engines.kafka_engine.topics import (
    FOR_EVER_MS,
    MAX_MESSAGE_BYTES,
    SHORTEST_RETENTION_MS,
    TOPICS,
    Topic,
    TopicError,
    TopicState,
    check_prefix,
    create_topics,
    describe_topics,
)
from openfactory.exceptions import ConfigurationError, EngineError, EngineUnavailableError
from servers import KafkaBroker

POLICIES = {
    "asset_to_uns_map_topic": "compact",
    "assets_avail_topic": "compact",
    "assets_types_topic": "compact",
    "device_connector_topic": "compact",
    "docker_services_topic": "delete",
    "enriched_assets_stream_topic": "delete",
    "metrics_targets_topic": "compact",
    "ofa_assets": "delete",
    "ofa_assets_uns": "delete",
}
DAY_MS = 86_400_000


@pytest.fixture
def configuration(kafka_broker: KafkaBroker) -> dict[str, Any]:
    return {"bootstrap.servers": kafka_broker.bootstrap_servers}


def made_by_others(configuration: dict[str, Any], name: str, partitions: int, **config: str) -> None:
    admin = AdminClient(configuration)
    [future] = admin.create_topics([NewTopic(name, partitions, config=config)]).values()
    future.result(60)


def config_of(configuration: dict[str, Any], name: str) -> dict[str, str]:
    admin = AdminClient(configuration)
    [future] = admin.describe_configs([ConfigResource("topic", name)]).values()
    return {key: entry.value for key, entry in future.result(60).items()}


def test_the_topics_and_their_policies_are_those_that_others_rely_on() -> None:
    assert {topic.name: topic.cleanup_policy for topic in TOPICS} == POLICIES


def test_all_topics_are_made(configuration: dict[str, Any], topic_prefix: str) -> None:
    made = create_topics(configuration, prefix=topic_prefix, partitions=3, retention_hours=48, compaction_hours=2)
    assert made == [topic_prefix + topic.name for topic in TOPICS]
    there = describe_topics(configuration, prefix=topic_prefix)
    assert {name.removeprefix(topic_prefix): state.cleanup_policy for name, state in there.items()} == POLICIES
    assert {(state.partitions, state.replication_factor) for state in there.values()} == {(3, 1)}
    assert all(state.max_message_bytes >= 1_048_576 for state in there.values())
    kept = {name.removeprefix(topic_prefix): state.retention_ms for name, state in there.items()}
    # Containers are named once, and their table is made of this topic alone.
    assert kept.pop("docker_services_topic") == FOR_EVER_MS
    assert set(kept.values()) == {2 * DAY_MS}
    assert config_of(configuration, topic_prefix + "assets_types_topic")["max.compaction.lag.ms"] == "7200000"


def test_making_them_again_makes_none(configuration: dict[str, Any], topic_prefix: str) -> None:
    assert len(create_topics(configuration, prefix=topic_prefix)) == len(TOPICS)
    assert create_topics(configuration, prefix=topic_prefix, partitions=5, retention_hours=1) == []
    assert {state.partitions for state in describe_topics(configuration, prefix=topic_prefix).values()} == {1}


def test_a_topic_that_is_there_stays_as_it_is(configuration: dict[str, Any], topic_prefix: str) -> None:
    made_by_others(configuration, f"{topic_prefix}ofa_assets", 4, **{"retention.ms": "3600000"})
    made = create_topics(configuration, prefix=topic_prefix, partitions=4)
    assert f"{topic_prefix}ofa_assets" not in made
    assert len(made) == len(TOPICS) - 1
    state = describe_topics(configuration, prefix=topic_prefix)[f"{topic_prefix}ofa_assets"]
    assert (state.partitions, state.retention_ms) == (4, 3_600_000)


def test_several_may_make_them_at_once(configuration: dict[str, Any], topic_prefix: str) -> None:
    start = threading.Barrier(4)

    def make() -> list[str]:
        start.wait(60)
        return create_topics(configuration, prefix=topic_prefix)

    with ThreadPoolExecutor(4) as pool:
        made = [name for one in [pool.submit(make) for _ in range(4)] for name in one.result(30)]
    assert sorted(made) == sorted(topic_prefix + topic.name for topic in TOPICS)


def test_prefixes_tell_factories_apart(configuration: dict[str, Any], topic_prefix: str) -> None:
    create_topics(configuration, TOPICS[:1], prefix=f"{topic_prefix}a_")
    assert describe_topics(configuration, prefix=f"{topic_prefix}b_") == {}
    assert list(describe_topics(configuration, prefix=f"{topic_prefix}a_")) == [f"{topic_prefix}a_ofa_assets"]


def test_more_copies_than_brokers_are_refused(configuration: dict[str, Any], topic_prefix: str) -> None:
    with pytest.raises(TopicError) as raised:
        create_topics(configuration, prefix=topic_prefix, replication_factor=3)
    assert raised.value.topic == f"{topic_prefix}ofa_assets"
    assert str(raised.value).endswith("Give a --replication-factor of at most the number of brokers.")
    assert isinstance(raised.value.__cause__, KafkaException)
    assert describe_topics(configuration, prefix=topic_prefix) == {}


def test_for_ever_is_for_ever() -> None:
    assert Topic("log", "delete").retention_ms(-1) == FOR_EVER_MS
    assert Topic("log", "delete").retention_ms(0.5) == 1_800_000
    assert Topic("log", "delete", for_ever=True).retention_ms(0.5) == FOR_EVER_MS


@pytest.mark.parametrize("prefix", ["plant 2", "é", "a/b", "x" * 201, "a\n", "';--"])
def test_a_prefix_that_no_topic_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a prefix of topic names.*Choose a prefix such as plant2_\."):
        check_prefix(prefix)
    with pytest.raises(ConfigurationError):
        create_topics({"bootstrap.servers": "127.0.0.1:9"}, prefix=prefix)


def test_a_usual_prefix_is_taken() -> None:
    assert [check_prefix(prefix) for prefix in ("", "plant2_", "a.b-C")] == ["", "plant2_", "a.b-C"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", r"127\.0\.0\.1:9: the connection is refused\. Check the port, and start the broker\."),
        ("nosuch.invalid:9092", r"its name cannot be resolved .*Check the name in KAFKA_BROKER\."),
    ],
)
def test_a_broker_that_is_not_there(address: str, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(EngineUnavailableError, match=said) as raised:
        create_topics({"bootstrap.servers": address}, timeout=1)
    assert raised.value.address == address
    assert time.monotonic() - start < 20


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EngineUnavailableError, match=r"it did not answer within 1 s\. Check the address"):
            describe_topics({"bootstrap.servers": address}, timeout=1)


def test_a_broker_without_tls_is_told_from_one_that_is_away(configuration: dict[str, Any]) -> None:
    with pytest.raises(EngineUnavailableError, match=r"TLS failed|closes the connection"):
        describe_topics({**configuration, "security.protocol": "SSL"}, timeout=2)


def test_a_property_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"No such configuration property: \"nosuch\""):
        create_topics({"bootstrap.servers": "127.0.0.1:9", "nosuch": 1})


def test_a_wrong_password_is_said_and_not_shown(kafka_broker: KafkaBroker, topic_prefix: str) -> None:
    login = {
        "bootstrap.servers": kafka_broker.address("sasl_plaintext"),
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": kafka_broker.username,
    }
    assert describe_topics({**login, "sasl.password": kafka_broker.password}, prefix=topic_prefix) == {}
    with pytest.raises(EngineUnavailableError, match="it rejects the login") as raised:
        describe_topics({**login, "sasl.password": "guessed-wrong"}, timeout=3)
    assert "guessed-wrong" not in str(raised.value)
    with pytest.raises(EngineUnavailableError):  # in the clear it closes the connection, or does not answer
        describe_topics({"bootstrap.servers": kafka_broker.address("sasl_plaintext")}, timeout=2)


LOG, REGISTER, CONNECTOR = TOPICS[0], TOPICS[1], TOPICS[-1]


def state(topic: Topic, **other: Any) -> TopicState:
    as_it_should_be: dict[str, Any] = {
        "partitions": 2,
        "replication_factor": 1,
        "cleanup_policy": topic.cleanup_policy,
        "retention_ms": DAY_MS,
        "max_message_bytes": MAX_MESSAGE_BYTES,
    }
    return TopicState(topic.name, **(as_it_should_be | other))


@pytest.mark.parametrize("topic", [*TOPICS], ids=lambda topic: topic.name)
def test_nothing_is_said_of_what_is_as_it_should_be(topic: Topic) -> None:
    assert differences(topic, state(topic), partitions=2, address="b:1", retention_ms=DAY_MS) == []


@pytest.mark.parametrize(
    ("topic", "other", "command"),
    [
        (LOG, {"cleanup_policy": "compact"}, "--entity-name ofa_assets --add-config cleanup.policy=delete"),
        (LOG, {"cleanup_policy": "compact,delete"}, "--entity-name ofa_assets --add-config cleanup.policy=delete"),
        (REGISTER, {"cleanup_policy": "delete"}, "--add-config cleanup.policy=compact"),
        (LOG, {"max_message_bytes": 1000}, f"--add-config max.message.bytes={MAX_MESSAGE_BYTES}"),
        (LOG, {"retention_ms": 1}, f"--add-config retention.ms={DAY_MS}"),
        (LOG, {"partitions": 1}, "--alter --topic ofa_assets --partitions 2"),
        (LOG, {"partitions": 3}, "--delete --topic ofa_assets, then ofa setup-kafka"),
    ],
)
def test_what_is_not_as_it_should_be_is_said_with_the_command(
    topic: Topic, other: dict[str, Any], command: str
) -> None:
    [found] = differences(topic, state(topic, **other), partitions=2, address="b:1", retention_ms=DAY_MS)
    assert found.startswith(topic.name)
    assert "--bootstrap-server b:1 " in found
    assert found.endswith(command)


def test_a_retention_of_minutes_is_wrong() -> None:
    [found] = differences(
        LOG, state(LOG, retention_ms=60_000), partitions=2, address="b:1", shortest_ms=SHORTEST_RETENTION_MS
    )
    assert found.startswith("ofa_assets keeps records for 1 minute only and should keep them for 1 hour at least, ")
    assert found.endswith("--entity-name ofa_assets --add-config retention.ms=2592000000")


def test_a_topic_is_never_to_be_deleted_without_its_data() -> None:
    [found] = differences(LOG, state(LOG, partitions=3), partitions=2, address="b:1")
    advice, _, deletion = found.partition("Or, if all data of ofa_assets may be lost, ")
    assert "give the other topics 3 partitions" in advice
    assert "--delete" not in advice
    assert "--delete --topic ofa_assets" in deletion


def test_what_is_nobodys_business_is_not_said() -> None:
    assert differences(REGISTER, state(REGISTER, retention_ms=1), partitions=2, address="b:1", retention_ms=5) == []
    assert differences(LOG, state(LOG, retention_ms=1), partitions=2, address="b:1") == []
    hour: dict[str, Any] = {"partitions": 2, "address": "b:1", "shortest_ms": SHORTEST_RETENTION_MS}
    assert differences(LOG, state(LOG, retention_ms=SHORTEST_RETENTION_MS), **hour) == []
    assert differences(LOG, state(LOG, retention_ms=-1), **hour) == []
    assert differences(REGISTER, state(REGISTER, retention_ms=1), **hour) == []
    # No other topic is joined with this one.
    assert differences(CONNECTOR, state(CONNECTOR, partitions=1), partitions=2, address="b:1") == []


def test_an_error_of_a_topic_is_one_of_the_engine() -> None:
    assert issubclass(TopicError, EngineError)


def test_records_have_the_time_of_the_broker_whatever_the_clock_of_their_writer(
    configuration: dict[str, Any], topic_prefix: str
) -> None:
    create_topics(configuration, prefix=topic_prefix)
    written: list[tuple[int, int]] = []
    producer = Producer(configuration)
    an_hour_ago = int(time.time() - 3_600) * 1_000
    producer.produce(
        f"{topic_prefix}ofa_assets",
        b"{}",
        b"MILL",
        timestamp=an_hour_ago,
        on_delivery=lambda _error, message: written.append(message.timestamp()),
    )
    producer.flush(10)
    [(kind, milliseconds)] = written
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert milliseconds > an_hour_ago + 3_000_000
