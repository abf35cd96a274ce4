"""The Kafka topics of a factory: their names and policies, and functions that create and describe them."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from openfactory.engines.base import ASSETS_TOPIC
from openfactory.engines.kafka_engine.broker_admin import BrokerAdmin
from openfactory.exceptions import ConfigurationError, EngineError

if TYPE_CHECKING:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

__all__ = [
    "ASSETS_AVAIL_TOPIC",
    "ASSETS_STATE_TOPIC",
    "ASSETS_TOPIC",
    "ASSETS_TYPES_TOPIC",
    "ASSETS_UNS_TOPIC",
    "ASSET_TO_UNS_MAP_TOPIC",
    "COMPACTION_HOURS",
    "DEVICE_CONNECTOR_TOPIC",
    "DOCKER_SERVICES_TOPIC",
    "ENRICHED_ASSETS_TOPIC",
    "FOR_EVER_MS",
    "MAX_MESSAGE_BYTES",
    "METRICS_TARGETS_TOPIC",
    "NEEDED_TOPICS",
    "RETENTION_HOURS",
    "SHORTEST_RETENTION_MS",
    "STATE_TOPIC",
    "TOPICS",
    "Topic",
    "TopicError",
    "TopicState",
    "check_prefix",
    "create_topics",
    "describe_topics",
    "ensure_partitions",
]

ASSETS_AVAIL_TOPIC = "assets_avail_topic"
ASSETS_STATE_TOPIC = "ofa_assets_state"
ASSETS_TYPES_TOPIC = "assets_types_topic"
ASSETS_UNS_TOPIC = "ofa_assets_uns"
ASSET_TO_UNS_MAP_TOPIC = "asset_to_uns_map_topic"
DEVICE_CONNECTOR_TOPIC = "device_connector_topic"
DOCKER_SERVICES_TOPIC = "docker_services_topic"
ENRICHED_ASSETS_TOPIC = "enriched_assets_stream_topic"
METRICS_TARGETS_TOPIC = "metrics_targets_topic"

#: The default retention of the log. Without ksqlDB, a reader that starts now knows only the events of this time.
RETENTION_HOURS = 720.0

#: The default time after which a compacted topic drops a record that a newer record of its key has replaced.
COMPACTION_HOURS = 24.0

#: The shortest retention of a log that is of use: a reader knows only the attributes that were written since.
SHORTEST_RETENTION_MS = 3_600_000

#: A hundred years. Some statements of ksqlDB reject -1, Kafka's value for an unlimited retention.
FOR_EVER_MS = 3_153_600_000_000

#: The maximum size of a message: Kafka's default, which a broker may have lowered.
MAX_MESSAGE_BYTES = 1_048_588

_HOUR_MS = 3_600_000

# Seconds to wait for a future after the timeout of the client, so that the client's own error arrives.
_GRACE_SECONDS = 5.0

# Pause between two checks for a new topic, in seconds.
_CHECK_SECONDS = 0.02

# Number of replicas from which on two of them must have an event before it is acknowledged.
_REPLICAS_FOR_TWO_COPIES = 3

# Kafka permits 249 characters in a topic name; 200 leave enough for the longest name after the prefix.
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and its policy.

    Attributes:
        name: name without the prefix.
        cleanup_policy: `delete` drops old records, `compact` keeps the last record of each key.
        joined: whether ksqlDB joins the topic with others or derives it from them; these topics must have the same
            number of partitions.
        for_ever: whether records are kept for ever; true for a topic with few records, all of which make up a table.
        settings: further settings of the topic.
    """

    name: str
    cleanup_policy: Literal["compact", "delete"]
    joined: bool = True
    for_ever: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)

    def retention_ms(self, retention_hours: float) -> int:
        """Return the retention of the topic in milliseconds.

        A compacted topic ignores its retention. It has the one of the log all the same, because ksqlDB refuses to fill
        a topic from another topic with a different retention.

        Args:
            retention_hours: the retention of the log; -1 keeps records for ever.
        """
        if self.for_ever or retention_hours < 0:
            return FOR_EVER_MS
        return round(retention_hours * _HOUR_MS)


#: All topics, in the order in which data flows.
TOPICS = (
    Topic(ASSETS_TOPIC, "delete"),
    Topic(ASSET_TO_UNS_MAP_TOPIC, "compact"),
    Topic(ENRICHED_ASSETS_TOPIC, "delete"),
    Topic(ASSETS_TYPES_TOPIC, "compact"),
    Topic(ASSETS_AVAIL_TOPIC, "compact"),
    Topic(DOCKER_SERVICES_TOPIC, "delete", for_ever=True),
    Topic(ASSETS_UNS_TOPIC, "delete"),
    Topic(DEVICE_CONNECTOR_TOPIC, "compact", joined=False),
    Topic(METRICS_TARGETS_TOPIC, "compact", joined=False),
)


#: The topic of a state keeper, which is optional. A start reads all of it, so replaced records are dropped early. They
#: stay for a minute, because a reader may be between a record and the record that replaces it.
STATE_TOPIC = Topic(
    ASSETS_STATE_TOPIC,
    "compact",
    settings={
        "max.message.bytes": str(2 * MAX_MESSAGE_BYTES),  # a record of the log, and its place
        "segment.bytes": str(4 * 1024 * 1024),
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.2",
        "min.compaction.lag.ms": "60000",
        "max.compaction.lag.ms": "900000",
        "delete.retention.ms": "3600000",
    },
)

#: The topics that every factory needs; the other topics are for ksqlDB and the readers of its tables.
NEEDED_TOPICS = (ASSETS_TOPIC, ASSET_TO_UNS_MAP_TOPIC)


@dataclass(frozen=True, slots=True)
class TopicState:
    """The properties of an existing topic."""

    name: str
    partitions: int
    replication_factor: int
    cleanup_policy: str
    retention_ms: int
    max_message_bytes: int


class TopicError(EngineError):
    """The broker refused to create or to describe a topic.

    Attributes:
        topic: name of the topic.
    """

    def __init__(self, message: str, *, topic: str) -> None:
        super().__init__(message)
        self.topic = topic


def check_prefix(prefix: str) -> str:
    """Return a prefix of topic names unchanged if it is valid.

    Raises:
        ConfigurationError: the prefix has characters that Kafka does not permit, or is too long.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"{prefix!r} is not a prefix of topic names, which have at most 249 letters, digits, '.', '_' and '-'. "
            "Choose a prefix such as plant2_."
        )
    return prefix


def create_topics(
    configuration: Mapping[str, Any],
    topics: Iterable[Topic] = TOPICS,
    *,
    prefix: str = "",
    partitions: int = 1,
    replication_factor: int = -1,
    retention_hours: float = RETENTION_HOURS,
    compaction_hours: float = COMPACTION_HOURS,
    timeout: float = 30.0,
) -> list[str]:
    """Create the topics that do not exist; existing topics do not change.

    Args:
        configuration: properties of librdkafka: `bootstrap.servers` and the security settings.
        topics: the topics and their policies.
        prefix: the beginning of all topic names.
        partitions: number of partitions of each new topic.
        replication_factor: number of replicas; -1 is the broker's default.
        retention_hours: retention of the log; -1 keeps records for ever.
        compaction_hours: time after which compacted topics drop replaced records.
        timeout: seconds to wait for each answer of the broker.

    Returns:
        The names of the new topics.

    Raises:
        ConfigurationError: the prefix is not valid, or librdkafka rejects a property.
        EngineUnavailableError: no broker answers.
        TopicError: the broker refuses to create a topic.
    """
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # public, and not marked as such

    check_prefix(prefix)
    admin = BrokerAdmin(configuration)
    existing = admin.metadata(timeout).topics
    missing = [
        NewTopic(
            prefix + topic.name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            config=_config(topic, replication_factor, retention_hours, compaction_hours),
        )
        for topic in topics
        if prefix + topic.name not in existing
    ]
    created = _create(admin.client, missing, timeout) if missing else []
    _wait_for_topics(admin, created, timeout)
    return created


def ensure_partitions(configuration: Mapping[str, Any], topic: str, count: int, timeout: float = 30.0) -> None:
    """Add partitions to a topic that has fewer.

    Args:
        configuration: properties of librdkafka: `bootstrap.servers` and the security settings.
        topic: the full name of an existing topic.
        count: number of partitions that the topic needs.
        timeout: seconds to wait for each answer of the broker.

    Raises:
        EngineUnavailableError: no broker answers.
        TopicError: the broker refuses to add partitions.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

    admin = BrokerAdmin(configuration)
    if len(admin.metadata(timeout).topics[topic].partitions) >= count:
        return
    [future] = admin.client.create_partitions([NewPartitions(topic, count)], request_timeout=timeout).values()
    try:
        future.result(timeout + _GRACE_SECONDS)
    except KafkaException as error:
        if len(admin.metadata(timeout).topics[topic].partitions) < count:  # else another client has added them
            raise _topic_error(topic, "extended", error) from error
    deadline = time.monotonic() + timeout
    while len(admin.metadata(timeout).topics[topic].partitions) < count and time.monotonic() < deadline:
        time.sleep(_CHECK_SECONDS)


def describe_topics(
    configuration: Mapping[str, Any], topics: Iterable[Topic] = TOPICS, *, prefix: str = "", timeout: float = 10.0
) -> dict[str, TopicState]:
    """Return the properties of the topics that exist, by name with the prefix.

    Args:
        configuration: properties of librdkafka: `bootstrap.servers` and the security settings.
        topics: the topics to look up.
        prefix: the beginning of all topic names.
        timeout: seconds to wait for each answer of the broker.

    Raises:
        ConfigurationError: librdkafka rejects a property.
        EngineUnavailableError: no broker answers.
        TopicError: the broker refuses to describe a topic.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

    admin = BrokerAdmin(configuration)
    existing = admin.metadata(timeout).topics
    names = [prefix + topic.name for topic in topics if prefix + topic.name in existing]
    if not names:
        return {}
    futures = admin.client.describe_configs(
        [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names], request_timeout=timeout
    )
    states: dict[str, TopicState] = {}
    for resource, future in futures.items():
        try:
            entries = {name: entry.value for name, entry in future.result(timeout + _GRACE_SECONDS).items()}
        except KafkaException as error:
            raise _topic_error(resource.name, "described", error) from error
        replicas = [len(partition.replicas) for partition in existing[resource.name].partitions.values()]
        states[resource.name] = TopicState(
            resource.name,
            len(replicas),
            min(replicas, default=0),
            entries["cleanup.policy"] or "",
            int(entries["retention.ms"] or -1),
            int(entries["max.message.bytes"] or 0),
        )
    return {name: states[name] for name in names}


def _config(topic: Topic, replication_factor: int, retention_hours: float, compaction_hours: float) -> dict[str, str]:
    config = {
        "cleanup.policy": topic.cleanup_policy,
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "retention.ms": str(topic.retention_ms(retention_hours)),
    }
    if topic.name in NEEDED_TOPICS:
        # The newest records are found by their times, so the times must not depend on the clocks of the writers.
        config["message.timestamp.type"] = "LogAppendTime"
    if topic.cleanup_policy == "compact":
        config["max.compaction.lag.ms"] = str(round(compaction_hours * _HOUR_MS))
    if replication_factor >= _REPLICAS_FOR_TWO_COPIES:
        config["min.insync.replicas"] = "2"  # otherwise the loss of one broker may lose an acknowledged event
    return {**config, **topic.settings}


def _create(client: AdminClient, topics: list[Any], timeout: float) -> list[str]:
    from confluent_kafka import KafkaError, KafkaException

    created: list[str] = []
    futures = client.create_topics(topics, operation_timeout=timeout, request_timeout=timeout)
    for name, future in futures.items():
        try:
            future.result(timeout + _GRACE_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # another client has created it at the same moment
            raise _topic_error(name, "created", error) from error
        created.append(name)
    return created


def _wait_for_topics(admin: BrokerAdmin, names: Collection[str], timeout: float) -> None:
    """Wait until the metadata contains new topics; until then, the broker rejects writes to them."""
    deadline = time.monotonic() + timeout
    missing = set(names)
    while missing:
        missing -= {name for name, topic in admin.metadata(timeout).topics.items() if topic.error is None}
        if missing and time.monotonic() > deadline:
            name = min(missing)
            raise TopicError(
                f"The topic {name} was created, but the broker does not show it after {timeout:g} s. Try again.",
                topic=name,
            )
        if missing:
            time.sleep(_CHECK_SECONDS)


def _topic_error(name: str, verb: str, error: KafkaException) -> TopicError:
    from confluent_kafka import KafkaError

    reason: KafkaError = error.args[0]
    remedies = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: "Ask for the permission to create and describe it.",
        KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Ask for the permission to create topics.",
        KafkaError.INVALID_REPLICATION_FACTOR: "Give a --replication-factor of at most the number of brokers.",
        KafkaError.INVALID_PARTITIONS: "Give --partitions as a number above 0.",
        KafkaError.POLICY_VIOLATION: "Ask the owner of the cluster for its policy.",
        KafkaError._TIMED_OUT: "Read the broker's log, and try again.",
    }
    remedy = remedies.get(reason.code(), "Read the broker's log.")
    return TopicError(
        f"The topic {name} cannot be {verb}: {(reason.str() or reason.name()).rstrip('.')}. {remedy}", topic=name
    )
