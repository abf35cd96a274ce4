"""The places in the log at which a forwarder begins, when partitions are assigned to it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from openfactory.fanout.log_source import LogSource
from openfactory.fanout.progress import PartitionProgress

if TYPE_CHECKING:
    from confluent_kafka import Consumer

__all__ = ["starts_of"]

_logger = logging.getLogger("openfactory.fanout")


def starts_of(
    consumer: Consumer, source: LogSource, group: str, numbers: list[int], *, from_begin: bool
) -> dict[int, PartitionProgress]:
    """Return the progress with which partitions begin: at the commit of the group, or where the settings say.

    A new group begins in all partitions at one time. A partition without a commit that comes later is a new one,
    so all of its records are forwarded.

    Args:
        consumer: the member of the group.
        source: the log.
        group: name of the group, for the log.
        numbers: numbers of the partitions.
        from_begin: whether a new group begins at the begin of the log, and not at its end.

    Raises:
        EngineUnavailableError: no broker answers.
        KafkaException: a broker does not tell the commits.
    """
    from confluent_kafka import KafkaException, TopicPartition

    everything = source.partitions()
    committed: dict[int, int] = {}
    for place in consumer.committed([TopicPartition(*one) for one in everything], timeout=10):
        if place.error is not None:  # then its offset says nothing, not even that there is no commit
            raise KafkaException(place.error)
        committed[place.partition] = place.offset
    is_new = all(offset < 0 for offset in committed.values())
    bounds = source.bounds([one.number for one in everything] if is_new else numbers)
    starts = {}
    for number, (low, end) in bounds.items():
        at = committed[number]
        start = at if low <= at <= end else end if is_new and not from_begin else low
        if at >= 0 and start != at:
            _logger.warning(
                "The group %s goes on at offset %d of %s, partition %d: the log %s.",
                *(group, start, source.topic, number),
                "was made anew" if at > end else f"has deleted the records from {at} on. Set a longer retention",
            )
        starts[number] = PartitionProgress(start, end)
        if start != at:
            starts[number].committed = -1
    if is_new:
        consumer.commit(
            offsets=[TopicPartition(source.topic, number, one.position) for number, one in starts.items()],
            asynchronous=False,
        )
        for one in starts.values():
            one.committed = one.position
            if not from_begin:
                one.begin_new()
    return {number: starts[number] for number in numbers}
