"""Checks of the Kafka broker, its topics, and the log with a test event."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator

from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding, failed, fine
from openfactory.engines.kafka_engine.broker_admin import BrokerAdmin
from openfactory.engines.kafka_engine.topic_differences import differences, duration
from openfactory.engines.kafka_engine.topics import (
    ASSETS_TOPIC,
    NEEDED_TOPICS,
    SHORTEST_RETENTION_MS,
    STATE_TOPIC,
    TOPICS,
    describe_topics,
)
from openfactory.engines.kafka_engine.trial import try_event
from openfactory.exceptions import DeliveryError, DeliveryTimeout, OpenFactoryError

__all__ = ["examine_broker", "examine_log", "examine_topics"]

_SECONDS = 5.0


def examine_broker(factory: Factory) -> Iterator[Finding]:
    """Check that a broker answers."""
    if not factory.bootstrap_servers:
        yield failed("broker", "KAFKA_BROKER is not set. Set it to host:9092.")
        return
    try:
        brokers = BrokerAdmin(factory.kafka).metadata(_SECONDS).brokers
    except OpenFactoryError as error:
        yield failed("broker", error)
        return
    plural = "s" if len(brokers) > 1 else ""
    yield fine("broker", f"{factory.bootstrap_servers} answers, {len(brokers)} broker{plural}")


def examine_topics(factory: Factory, prefix: str) -> Generator[Finding, None, list[str]]:
    """Check that the topics exist and have the right settings.

    Args:
        prefix: stands before the names of the topics.

    Returns:
        The names of the topics that are missing, as the value of the generator.
    """
    try:
        topics = describe_topics(factory.kafka, (*TOPICS, STATE_TOPIC), prefix=prefix, timeout=_SECONDS)
    except OpenFactoryError as error:
        yield failed("topics", error)
        return []
    needed = NEEDED_TOPICS if factory.ksqldb_url is None else [topic.name for topic in TOPICS]
    missing = [prefix + name for name in needed if prefix + name not in topics]
    if missing:
        option = f" --prefix {prefix}" if prefix else ""
        yield failed("topics", f"Missing: {', '.join(missing)}. Create them: ofa setup-kafka{option}")
    log = topics.get(prefix + ASSETS_TOPIC)
    partitions = log.partitions if log is not None else max((state.partitions for state in topics.values()), default=0)
    wrong = False
    for topic in (*TOPICS, STATE_TOPIC):
        state = topics.get(prefix + topic.name)
        if state is None:
            continue
        address = factory.bootstrap_servers or ""
        for text in differences(
            topic, state, partitions=partitions, address=address, shortest_ms=SHORTEST_RETENTION_MS
        ):
            wrong = True
            found, _, remedy = text.partition(": ")
            yield Finding("topics", "failed", found, remedy)
    if topics and not missing and not wrong:
        log_name = prefix + ASSETS_TOPIC
        kept = duration(topics[log_name].retention_ms)
        yield fine("topics", f"{len(topics)} exist, partitions: {partitions}; {log_name} keeps {kept}")
    return missing


def examine_log(factory: Factory, prefix: str) -> Iterator[Finding]:
    """Write an event of an asset that is in no list to the log, and read it.

    Args:
        prefix: stands before the name of the topic.
    """
    topic = prefix + ASSETS_TOPIC
    start = time.monotonic()
    try:
        is_read = try_event(factory.bootstrap_servers or "", factory.credentials, topic, _SECONDS)
    except (DeliveryError, DeliveryTimeout) as error:
        remedy = "Read the broker's log. Check its disk, its replicas, and the rights of this user to write."
        yield failed("test event", error)._replace(remedy=remedy)
        return
    except OpenFactoryError as error:
        yield failed("test event", error)
        return
    if is_read:
        yield fine("test event", f"written to {topic} and read in {(time.monotonic() - start) * 1000:.0f} ms")
    else:
        yield failed("test event", f"An event was written to {topic} and is not read. Read the log of the broker.")
