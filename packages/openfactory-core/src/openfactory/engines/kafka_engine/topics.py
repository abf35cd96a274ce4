"""The Kafka topics of a factory: their names, how long they keep what, making them and looking at them."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from openfactory.engines.base import ASSETS_TOPIC
from openfactory.engines.kafka_engine.broker_admin import BrokerAdmin
from openfactory.exceptions import ConfigurationError, EngineError

if TYPE_CHECKING:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

__all__ = [
    "ASSETS_AVAIL_TOPIC",
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
    "TOPICS",
    "Topic",
    "TopicError",
    "TopicState",
    "check_prefix",
    "create_topics",
    "describe_topics",
]

ASSETS_AVAIL_TOPIC = "assets_avail_topic"
ASSETS_TYPES_TOPIC = "assets_types_topic"
ASSETS_UNS_TOPIC = "ofa_assets_uns"
ASSET_TO_UNS_MAP_TOPIC = "asset_to_uns_map_topic"
DEVICE_CONNECTOR_TOPIC = "device_connector_topic"
DOCKER_SERVICES_TOPIC = "docker_services_topic"
ENRICHED_ASSETS_TOPIC = "enriched_assets_stream_topic"
METRICS_TARGETS_TOPIC = "metrics_targets_topic"

#: For how long the log is kept. Without a ksqlDB it is all that a reader starting now can know of an asset.
RETENTION_HOURS = 720.0

#: After how long a compacted topic forgets a record that another one of its key has replaced.
COMPACTION_HOURS = 24.0

#: A hundred years. Kafka's own word, -1, is none that every statement of ksqlDB takes.
FOR_EVER_MS = 3_153_600_000_000

#: How large a message may be: Kafka's default, which a broker may have lowered.
MAX_MESSAGE_BYTES = 1_048_588

_HOUR_MS = 3_600_000

# The client itself says that an answer takes too long; it is waited for so much longer.
_GRACE_SECONDS = 5.0

# How often we look whether a topic has come to be.
_LOOK_SECONDS = 0.02

# From so many replicas on, two of them must have what is acknowledged.
_REPLICAS_FOR_TWO_COPIES = 3


# What Kafka takes in a name, with room for the longest one behind it.
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and its policy.

    Attributes:
        cleanup_policy: `delete` forgets what is old, `compact` keeps the last record of each key.
        joined: ksqlDB joins it with others or derives one from the other, so all of these have as many partitions.
        for_ever: its records are few, and a table is made of all of them: none is ever too old.
    """

    name: str
    cleanup_policy: Literal["compact", "delete"]
    joined: bool = True
    for_ever: bool = False

    def retention_ms(self, retention_hours: float) -> int:
        """How long records are kept, where records of the log are kept for so many hours; -1 keeps them for ever.

        A compacted topic never looks at it. It has the same one because ksqlDB refuses to fill a topic whose
        retention is not that of the topic it reads from.
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


#: What a factory cannot do without; the others are for a ksqlDB, and for those who read its tables.
NEEDED_TOPICS = (ASSETS_TOPIC, ASSET_TO_UNS_MAP_TOPIC)


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as a broker has it."""

    name: str
    partitions: int
    replication_factor: int
    cleanup_policy: str
    retention_ms: int
    max_message_bytes: int


class TopicError(EngineError):
    """A topic that the broker would not make or show.

    Attributes:
        topic: its name.
    """

    def __init__(self, message: str, *, topic: str) -> None:
        super().__init__(message)
        self.topic = topic


def check_prefix(prefix: str) -> str:
    """A prefix of topic names as it was given.

    Raises:
        ConfigurationError: no topic could have that name.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"{prefix!r} is no prefix of topic names: they have letters, digits, '.', '_' and '-', and at most 249 "
            "of them. Choose one such as plant2_."
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
    """Make those topics that are not there yet; those that are there stay as they are.

    Args:
        configuration: properties of librdkafka; `bootstrap.servers` and what security needs.
        prefix: stands before all names.
        replication_factor: -1 is the broker's default.
        retention_hours: for how long the log is kept; -1 is for ever.
        compaction_hours: after how long compacted topics forget what was replaced.
        timeout: how long all of it may take, in seconds.

    Returns:
        the names of those that were made.

    Raises:
        EngineUnavailableError: no broker answers.
        TopicError: the broker refuses to make one.
    """
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # public, and not marked as such

    check_prefix(prefix)
    admin = BrokerAdmin(configuration)
    there = admin.metadata(timeout).topics
    wanted = [
        NewTopic(
            prefix + topic.name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            config=_config(topic, replication_factor, retention_hours, compaction_hours),
        )
        for topic in topics
        if prefix + topic.name not in there
    ]
    made = _made(admin.client, wanted, timeout) if wanted else []
    _wait_until_seen(admin, made, timeout)
    return made


def describe_topics(
    configuration: Mapping[str, Any], topics: Iterable[Topic] = TOPICS, *, prefix: str = "", timeout: float = 10.0
) -> dict[str, TopicState]:
    """Those topics that are there, as they are, by name with the prefix.

    Raises:
        EngineUnavailableError: no broker answers.
        TopicError: the broker does not show one.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

    admin = BrokerAdmin(configuration)
    there = admin.metadata(timeout).topics
    names = [prefix + topic.name for topic in topics if prefix + topic.name in there]
    if not names:
        return {}
    asked = admin.client.describe_configs(
        [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names], request_timeout=timeout
    )
    states: dict[str, TopicState] = {}
    for resource, future in asked.items():
        try:
            entries = {name: entry.value for name, entry in future.result(timeout + _GRACE_SECONDS).items()}
        except KafkaException as error:
            raise _refused(resource.name, "shown", error) from error
        replicas = [len(partition.replicas) for partition in there[resource.name].partitions.values()]
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
        # What is newest is found by the records' times, which a writer's clock that is wrong would spoil.
        config["message.timestamp.type"] = "LogAppendTime"
    if topic.cleanup_policy == "compact":
        config["max.compaction.lag.ms"] = str(round(compaction_hours * _HOUR_MS))
    if replication_factor >= _REPLICAS_FOR_TWO_COPIES:
        config["min.insync.replicas"] = "2"  # else an acknowledged event may be gone with one broker
    return config


def _made(client: AdminClient, wanted: list[Any], timeout: float) -> list[str]:
    from confluent_kafka import KafkaError, KafkaException

    made: list[str] = []
    futures = client.create_topics(wanted, operation_timeout=timeout, request_timeout=timeout)
    for name, future in futures.items():
        try:
            future.result(timeout + _GRACE_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue  # somebody made it at the same moment
            raise _refused(name, "made", error) from error
        made.append(name)
    return made


def _wait_until_seen(admin: BrokerAdmin, names: Collection[str], timeout: float) -> None:
    """A broker acknowledges a topic a moment before it knows it; who writes in between is refused."""
    deadline = time.monotonic() + timeout
    left = set(names)
    while left:
        left -= {name for name, topic in admin.metadata(timeout).topics.items() if topic.error is None}
        if left and time.monotonic() > deadline:
            name = min(left)
            raise TopicError(f"The topic {name} is made and not there after {timeout:g} s. Try again.", topic=name)
        if left:
            time.sleep(_LOOK_SECONDS)


def _refused(name: str, verb: str, error: KafkaException) -> TopicError:
    from confluent_kafka import KafkaError

    reason: KafkaError = error.args[0]
    remedies = {
        KafkaError.TOPIC_AUTHORIZATION_FAILED: "Ask for the right to create and describe it, or have it made for you.",
        KafkaError.CLUSTER_AUTHORIZATION_FAILED: "Ask for the right to create topics, or have it made for you.",
        KafkaError.INVALID_REPLICATION_FACTOR: "Give a --replication-factor of at most the number of brokers.",
        KafkaError.INVALID_PARTITIONS: "Give --partitions as a number above 0.",
        KafkaError.POLICY_VIOLATION: "Ask the owner of the cluster what its policy allows.",
        KafkaError._TIMED_OUT: "Look into the broker's log, and try again.",
    }
    remedy = remedies.get(reason.code(), "Look into the broker's log for the reason.")
    return TopicError(
        f"The topic {name} cannot be {verb}: {(reason.str() or reason.name()).rstrip('.')}. {remedy}", topic=name
    )
