"""What is not as it should be in a topic that is there already, and the commands that alter it."""

from __future__ import annotations

from openfactory.engines.kafka_engine.topics import MAX_MESSAGE_BYTES, Topic, TopicState

__all__ = ["differences"]

_MIB = 1_048_576


def differences(
    topic: Topic, state: TopicState, *, partitions: int, address: str, retention_ms: int | None = None
) -> list[str]:
    """What is not as it should be in a topic that is there: each with the command that alters it.

    Args:
        partitions: how many it should have.
        address: of a broker, for the commands.
        retention_ms: for how long it should keep its records; without it, as long as it does.
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
            f"{state.name} is compacted, which loses all but the last record of each asset: "
            f"{alter} --add-config cleanup.policy=delete"
        )
    if state.max_message_bytes < _MIB:
        found.append(
            f"{state.name} takes messages of {state.max_message_bytes} bytes and should take {MAX_MESSAGE_BYTES}: "
            f"{alter} --add-config max.message.bytes={MAX_MESSAGE_BYTES}"
        )
    if retention_ms is not None and topic.cleanup_policy == "delete" and state.retention_ms != retention_ms:
        found.append(
            f"{state.name} keeps its records for {state.retention_ms} ms and should for {retention_ms}: "
            f"{alter} --add-config retention.ms={retention_ms}"
        )
    if topic.joined and state.partitions != partitions:
        found.append(_partitions_differ(state, partitions, address))
    return found


def _partitions_differ(state: TopicState, partitions: int, address: str) -> str:
    has = f"{state.name} has {state.partitions} partitions and should have {partitions} like the others"
    if state.partitions < partitions:
        return (
            f"{has}; assets move to other partitions, so do it while nobody writes: kafka-topics.sh "
            f"--bootstrap-server {address} --alter --topic {state.name} --partitions {partitions}"
        )
    return (
        f"{has}; partitions can't be taken away, so delete it and make it again: kafka-topics.sh "
        f"--bootstrap-server {address} --delete --topic {state.name}, then ofa setup-kafka"
    )
