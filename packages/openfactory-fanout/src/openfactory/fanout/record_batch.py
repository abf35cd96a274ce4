"""Batches of messages from the records that a consumer has read."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from openfactory.fanout.cluster import Batch
from openfactory.fanout.log_source import LogSource
from openfactory.fanout.message import PassedRecordError, RecordEncoder, is_subject
from openfactory.fanout.passed_records import PassedRecords
from openfactory.fanout.ring import HashRing

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["BatchBuilder"]

# Number of keys whose clusters are remembered.
_KEYS = 200_000


class BatchBuilder:
    """Builder of the batches for one NATS cluster.

    A record of another cluster is skipped by its key, before it is decoded. A record that cannot be a message is
    counted, logged and passed.

    Args:
        cluster: name of the cluster.
        ring: the ring that names the cluster of each key.
        source: the log.

    Attributes:
        passed: the records that cannot be forwarded.
        counters: numbers of the records that are `consumed`, and of those that are `skipped`.
    """

    def __init__(self, cluster: str, ring: HashRing, source: LogSource) -> None:
        self.passed = PassedRecords(source.topic)
        self.counters = {"consumed": 0, "skipped": 0}
        self._cluster = cluster
        self._ring = ring
        self._source = source
        self._is_own: dict[bytes, bool] = {}

    def batch(self, messages: Iterable[Message], partitions: Collection[int], max_payload: int) -> Batch:
        """Return the batch of some records.

        Args:
            messages: the records, and the errors among them.
            partitions: the partitions that are assigned now; records of others are left out.
            max_payload: the largest message that the NATS server accepts.

        Raises:
            EngineUnavailableError: an error of Kafka is among them.
        """
        read_at = time.monotonic()
        encode, is_own = RecordEncoder(max_payload).encode, self._is_own
        commands: list[bytes] = []
        places: dict[int, tuple[int, float]] = {}
        skipped = consumed = 0
        for record in messages:
            partition, offset = record.partition() or 0, record.offset() or 0
            if record.error() is not None:
                self._check_error(record)
                if partition in partitions:  # the ends of transactions have offsets too
                    places[partition] = offset, places.get(partition, (0, 0.0))[1]
                continue
            if partition not in partitions:
                continue
            places[partition] = offset + 1, record.timestamp()[1] / 1_000
            key: Any = record.key()
            if not (is_own[key] if key in is_own else self._belongs(key)):
                skipped += 1
                continue
            consumed += 1
            try:
                _check(key, record)
                commands.append(encode(key, record, partition, offset))
            except PassedRecordError as error:
                self.passed.add(error, partition, offset)
        self.counters["consumed"] += consumed
        self.counters["skipped"] += skipped
        return Batch(b"".join(commands), len(commands), places, read_at)

    def _belongs(self, key: bytes | None) -> bool:
        """Return whether a record with a key belongs to this cluster; one without a key to the first cluster."""
        if not key:
            return self._cluster == self._ring.nodes[0]
        if len(self._is_own) >= _KEYS:
            self._is_own.clear()
        belongs = self._is_own[key] = self._ring.node_of(key) == self._cluster
        return belongs

    def _check_error(self, message: Message) -> None:
        """Raise the error that stands in the place of a record, unless it is the end of a partition."""
        error = message.error()
        assert error is not None
        if error.name() != "_PARTITION_EOF":
            raise self._source.failure(error)


def _check(key: bytes | None, record: Message) -> None:
    """Check the key and the presence of a value.

    Raises:
        PassedRecordError: the record cannot be a message.
    """
    if not key:
        raise PassedRecordError("no_key", "it does not have a key. Write the UUID of the asset as its key")
    if record.value() is None:
        raise PassedRecordError("tombstone", "it does not have a value")
    if not is_subject(key):
        raise PassedRecordError(
            "subject", f"its key {key[:100]!r} cannot be a part of a NATS subject. Rename the asset"
        )
