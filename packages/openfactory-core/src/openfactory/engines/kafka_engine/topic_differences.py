"""Differences between existing topics and their policy, with the commands that correct them."""

from __future__ import annotations

from openfactory.engines.kafka_engine.topics import (
    FOR_EVER_MS,
    MAX_MESSAGE_BYTES,
    RETENTION_HOURS,
    Topic,
    TopicState,
)

__all__ = ["differences", "duration"]

_MIB = 1_048_576


def differences(
    topic: Topic,
    state: TopicState,
    *,
    partitions: int,
    address: str,
    retention_ms: int | None = None,
    shortest_ms: int = 0,
) -> list[str]:
    """Return the differences between an existing topic and its policy, each with the command that corrects it.

    Args:
        topic: the policy.
        state: the existing topic.
        partitions: the number of partitions that the topic should have.
        address: address of a broker, for the commands.
        retention_ms: the retention that the topic should have, in milliseconds; None accepts every retention from
            `shortest_ms` on.
        shortest_ms: the shortest retention that is accepted.

    Returns:
        Texts of the form `difference: command`.
    """
    found: list[str] = []
    alter = f"kafka-configs.sh --bootstrap-server {address} --alter --entity-type topics --entity-name {state.name}"
    if topic.cleanup_policy not in state.cleanup_policy.split(","):
        found.append(
            f"{state.name} has the cleanup policy {state.cleanup_policy} and should have {topic.cleanup_policy}: "
            f"{alter} --add-config cleanup.policy={topic.cleanup_policy}"
        )
    if topic.cleanup_policy == "delete" and "compact" in state.cleanup_policy.split(",") and not found:
        found.append(
            f"{state.name} is compacted, which deletes all but the last record of each asset: "
            f"{alter} --add-config cleanup.policy=delete"
        )
    if state.max_message_bytes < _MIB:
        found.append(
            f"{state.name} accepts messages of {state.max_message_bytes} bytes and should accept {MAX_MESSAGE_BYTES}: "
            f"{alter} --add-config max.message.bytes={MAX_MESSAGE_BYTES}"
        )
    if retention_ms is not None and topic.cleanup_policy == "delete" and state.retention_ms != retention_ms:
        found.append(
            f"{state.name} keeps records for {state.retention_ms} ms and should keep them for {retention_ms} ms: "
            f"{alter} --add-config retention.ms={retention_ms}"
        )
    if retention_ms is None and topic.cleanup_policy == "delete" and 0 <= state.retention_ms < shortest_ms:
        found.append(
            f"{state.name} keeps records for {duration(state.retention_ms)} only and should keep them for "
            f"{duration(shortest_ms)} at least, because older values are lost: "
            f"{alter} --add-config retention.ms={topic.retention_ms(RETENTION_HOURS)}"
        )
    if topic.joined and state.partitions != partitions:
        found.append(_partitions_differ(state, partitions, address))
    return found


def _partitions_differ(state: TopicState, partitions: int, address: str) -> str:
    difference = f"{state.name} has {state.partitions} partitions and should have {partitions} like the other topics"
    if state.partitions < partitions:
        return (
            f"{difference}; assets move to other partitions, so stop all writers first: kafka-topics.sh "
            f"--bootstrap-server {address} --alter --topic {state.name} --partitions {partitions}"
        )
    return (
        f"{difference}; partitions cannot be removed: give the other topics {state.partitions} partitions "
        f"(ofa setup-kafka --partitions {state.partitions} prints the commands). "
        f"Or, if all data of {state.name} may be lost, kafka-topics.sh --bootstrap-server {address} --delete "
        f"--topic {state.name}, then ofa setup-kafka"
    )


def duration(milliseconds: int) -> str:
    """Return a retention in words.

    >>> duration(60_000), duration(2_592_000_000), duration(-1)
    ('1 minute', '720 hours', 'unlimited time')
    """
    if not 0 <= milliseconds < FOR_EVER_MS:
        return "unlimited time"
    number, unit = (
        (milliseconds / 3_600_000, "hour") if milliseconds >= 3_600_000 else (milliseconds / 60_000, "minute")
    )
    return f"{number:g} {unit}" if number == 1 else f"{number:g} {unit}s"
