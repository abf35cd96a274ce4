"""The log from which a forwarder reads: the Kafka cluster, the topic, and the members of consumer groups."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openfactory.engines.base import ASSETS_TOPIC, Servers
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.engines.kafka_engine.log_reader import LogReader, Partition, new_consumer
from openfactory.exceptions import EngineUnavailableError
from openfactory.logs.outage import Outage

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError

__all__ = ["LogSource"]

_logger = logging.getLogger("openfactory.fanout")

# KiB that librdkafka reads ahead for one member, and bytes of one answer.
_READ_AHEAD = 16 * 1024
_ANSWER_BYTES = 8 * 1024 * 1024


class LogSource:
    """The log of a factory, for all consumer groups of a process.

    Args:
        url: a `kafka://` URL; of its options, `prefix` counts.
        servers: credentials; the broker is the one in the URL.

    Attributes:
        prefix: the begin of the names of topics and groups, so that several factories can share one Kafka.
        topic: the topic of the log.
        connection: the Kafka cluster.

    Raises:
        ConfigurationError: the URL or the credentials are not valid.
    """

    def __init__(self, url: str, servers: Servers = Servers()) -> None:  # noqa: B008 - immutable
        location = KafkaLocation.of(url)
        self.prefix = location.prefix
        self.topic = location.prefix + ASSETS_TOPIC
        self._missing = f"does not have the topic {self.topic}. Run `ofa setup-kafka` to create it"
        self.connection = BrokerConnection(location.bootstrap_servers, servers.resolve(url).credentials)
        self.connection.outage = Outage(
            _logger,
            meanwhile="The forwarder goes on as soon as a broker answers.",
            over=f"{location.bootstrap_servers} can be reached again.",
        )
        self._doubt = threading.Event()
        self.connection.on_doubt = self._doubt.set
        self._reader = LogReader(self.connection)

    @property
    def is_in_doubt(self) -> bool:
        """Whether the broker may be away, so that only a request shows whether it answers."""
        return self._doubt.is_set() or bool(self.connection.outage.reason)

    def partitions(self) -> list[Partition]:
        """Return the partitions of the log.

        Raises:
            EngineUnavailableError: no broker answers, or the topic does not exist.
        """
        count = self._reader.cluster().topics.get(self.topic, 0)
        if not count:
            raise self._error(self._missing)
        return [Partition(self.topic, number) for number in range(count)]

    def failure(self, error: KafkaError) -> EngineUnavailableError:
        """Return the error, with its remedy, for an error of a group member."""
        if error.name() == "UNKNOWN_TOPIC_OR_PART":
            return self._error(self._missing)
        if "AUTHORIZATION" in error.name():
            return self._error(
                f"refuses the forwarder: {error.str()}. Give its user READ and DESCRIBE for the topic {self.topic} "
                "and the consumer groups of KAFKA_GROUP"
            )
        return self.connection.unavailable(error.str())

    def _error(self, text: str) -> EngineUnavailableError:
        servers = self.connection.bootstrap_servers
        return EngineUnavailableError(f"Kafka at {servers} {text}.", address=servers)

    def bounds(self, numbers: list[int]) -> dict[int, tuple[int, int]]:
        """Return, by number of a partition, the first offset and the end."""
        found = self._reader.bounds([Partition(self.topic, number) for number in numbers])
        return {partition.number: bounds for partition, bounds in found.items()}

    def ends(self, numbers: list[int]) -> dict[int, int]:
        """Return, by number of a partition, the end; the answer ends an outage, or begins one if it does not come."""
        self._doubt.clear()
        if not numbers:
            self._reader.cluster()
        found = self._reader.ends([Partition(self.topic, number) for number in numbers])
        return {partition.number: end for partition, end in found.items()}

    def new_member(self, group: str, session_seconds: float, on_commit: Callable[..., object]) -> Consumer:
        """Return a consumer that joins a group when it subscribes."""
        properties: dict[str, Any] = {
            "group.id": group,
            "on_commit": on_commit,
            "error_cb": lambda _: self._doubt.set(),  # it may come late: the reader finds out whether a broker answers
            "auto.offset.reset": "earliest",  # after the retention has passed the position, or in a new log
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": round(session_seconds * 1_000),
            "heartbeat.interval.ms": max(round(session_seconds * 200), 100),
            "topic.metadata.refresh.interval.ms": 30_000,  # new partitions are found by it
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": _READ_AHEAD,
            "fetch.max.bytes": _ANSWER_BYTES,
        }
        return new_consumer(self.connection, **properties)

    def close(self) -> None:
        """Close the reader of the ends."""
        self.connection.on_closing()
        self._reader.close()
