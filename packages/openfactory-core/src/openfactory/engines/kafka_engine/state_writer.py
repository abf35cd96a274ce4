"""Writing the state topic: one transaction for the changes of a partition and its marker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from openfactory.engines.kafka_engine.broker_errors import configuration_error
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.positions import Partition
from openfactory.engines.kafka_engine.state_records import MARKER_KEY, Marker
from openfactory.engines.kafka_engine.topics import MAX_MESSAGE_BYTES
from openfactory.exceptions import EngineError, EngineUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import KafkaException, Producer

__all__ = ["StateWriter", "WriterReplacedError"]

_logger = logging.getLogger("openfactory.kafka")

# Seconds after which a broker ends the transaction of a process that is gone, if no other takes its place before.
_TRANSACTION_SECONDS = 60

# Seconds to wait for each step, and in all while no broker answers.
_STEP_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0


# Errors of a producer whose transactional id another producer has taken since.
_REPLACED = ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_PRODUCER_ID_MAPPING")

_NO_RIGHTS = ("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED")


class WriterReplacedError(EngineError):
    """Another writer has taken over the partition, or the broker has ended a transaction that took too long."""


class StateWriter:
    """Producer for one partition of the state topic.

    Its transactional id names the partition. So the broker accepts only the newest writer of a partition: an older one
    that still runs fails with its next transaction, and a transaction that it has left open is ended at once.

    Args:
        connection: the cluster.
        partition: the partition of the state topic.

    Raises:
        ConfigurationError: librdkafka rejects the configuration.
    """

    def __init__(self, connection: BrokerConnection, partition: Partition) -> None:
        from confluent_kafka import KafkaException, Producer

        self._connection = connection
        self._partition = partition
        self._kafka_exception = KafkaException
        configuration = connection.configuration(
            **{
                "transactional.id": f"{partition.topic}-{partition.number}",
                "transaction.timeout.ms": _TRANSACTION_SECONDS * 1_000,
                "message.max.bytes": 2 * MAX_MESSAGE_BYTES,
                "compression.type": "lz4",  # a start reads all of it
            }
        )
        try:
            self._producer: Producer = Producer(configuration)
        except KafkaException as error:
            raise configuration_error(connection.bootstrap_servers, error) from error

    def take_over(self) -> None:
        """Become the only writer of the partition.

        Raises:
            EngineUnavailableError: no broker answers, or it refuses because the user lacks a right.
            WriterReplacedError: another writer takes over at the same moment.
        """
        self._retry(lambda: self._producer.init_transactions(_STEP_SECONDS))

    def write(self, records: Iterable[tuple[bytes, bytes | None]], marker: Marker) -> int:
        """Write records and a marker in one transaction, so that no reader sees a part of them.

        Returns:
            The number of records.

        Raises:
            EngineUnavailableError: no broker answers, or it refuses the records.
            WriterReplacedError: another writer has taken over. After an error, begin again with a new writer and the
                state that the topic has.
        """
        try:
            self._producer.begin_transaction()
        except self._kafka_exception as error:
            raise self._error(error) from error
        count = 0
        for key, value in records:
            self._produce(key, value)
            count += 1
        self._produce(MARKER_KEY, marker.encode())
        self._retry(lambda: self._producer.commit_transaction(_STEP_SECONDS))
        self._connection.on_answer()
        return count

    def close(self) -> None:
        """Drop the records that are not written; the producer ends with the last reference to this object."""
        self._producer.purge()

    def _produce(self, key: bytes, value: bytes | None) -> None:
        while True:
            try:
                self._producer.produce(self._partition.topic, value, key, self._partition.number)
            except BufferError:
                self._producer.poll(0.05)
            except self._kafka_exception as error:
                if error.args[0].name() != "MSG_SIZE_TOO_LARGE" or value is None:
                    raise self._error(error) from error
                _logger.warning(
                    "The event %r has %d bytes, which is too much for the state topic. A start does not see it. "
                    "Write large data into a file, and the name of the file as the value.",
                    key,
                    len(value),
                )
                value = None
            else:
                return

    def _retry(self, step: Callable[[], None]) -> None:
        """Run a step of a transaction, again while the broker may still accept it."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return step()
            except self._kafka_exception as error:
                if not error.args[0].retriable() or time.monotonic() >= deadline:
                    raise self._error(error) from error

    def _error(self, error: KafkaException) -> EngineError:
        reason = error.args[0]
        topic, number = self._partition
        if reason.name() in _REPLACED:
            return WriterReplacedError(
                f"The writer of {topic}, partition {number}, is not the newest any more ({reason.str()}). "
                "Join the group of the state keepers again, which names the partitions of each."
            )
        if reason.name() in _NO_RIGHTS:
            return EngineUnavailableError(
                f"The broker does not permit to write {topic} ({reason.str()}). Give this user the right to write the "
                f"topic, and the rights to describe and write the transactional ids that begin with {topic}.",
                address=self._connection.bootstrap_servers,
            )
        return self._connection.unavailable(reason.str())
