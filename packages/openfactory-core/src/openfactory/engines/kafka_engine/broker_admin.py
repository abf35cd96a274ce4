"""A connection to a broker for questions about it, which says why there is none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openfactory.engines.kafka_engine.broker_errors import explained, unusable
from openfactory.exceptions import EngineUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

__all__ = ["BrokerAdmin"]

# The client tries again by itself, quicker than it would by default: people wait for the answer.
_SETTINGS = {
    "log_level": 0,  # it would write to standard error; what it reports comes through error_cb
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 500,
    "socket.connection.setup.timeout.ms": 4000,
}

# A broker that refuses may be just starting, so it is asked for a while; one that says nothing, to the end.
_ATTEMPT_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0
_MOST_WORDS = 100


class BrokerAdmin:
    """Asks a broker, and explains why it does not answer.

    Args:
        configuration: properties of librdkafka; `bootstrap.servers` and what security needs.

    Raises:
        ConfigurationError: a property that librdkafka does not take.
    """

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        self.address = str(configuration.get("bootstrap.servers", ""))
        self._errors: list[KafkaError] = []
        properties: dict[str, Any] = {**_SETTINGS, **configuration, "error_cb": self._errors.append}
        try:
            self.client: AdminClient = AdminClient(properties)
        except KafkaException as error:
            raise unusable(self.address, error) from error

    def metadata(self, timeout: float = 10.0) -> ClusterMetadata:
        """The brokers and topics of the cluster.

        Raises:
            EngineUnavailableError: no broker answered in time; it says why.
        """
        from confluent_kafka import KafkaException

        start = time.monotonic()
        while True:
            spent = time.monotonic() - start
            try:
                return self.client.list_topics(timeout=max(min(_ATTEMPT_SECONDS, timeout - spent), 0.1))
            except KafkaException as error:
                self._hear()
                spent = time.monotonic() - start
                if spent >= timeout or (self._errors and spent >= _PATIENCE_SECONDS):
                    raise self.unavailable(spent) from error

    def unavailable(self, timeout: float) -> EngineUnavailableError:
        """The error that tells why a question was not answered in time."""
        self._hear()
        cause, remedy = explained(self._errors) or (
            f"it was silent for {timeout:.0f} s",
            "Check that the address is right, that the broker runs, and that no firewall is between.",
        )
        return EngineUnavailableError(
            f"No Kafka broker answers at {self.address}: {cause}. {remedy}", address=self.address
        )

    def _hear(self) -> None:
        """Take in what the client has to say; it speaks only when it is asked."""
        for _ in range(_MOST_WORDS):
            if not self.client.poll(0):
                return
