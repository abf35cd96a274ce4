"""A connection to a broker for administration."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openfactory.engines.kafka_engine.broker_errors import configuration_error, explain
from openfactory.exceptions import EngineUnavailableError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

__all__ = ["BrokerAdmin"]

# The client reconnects faster than by default, because a user waits for the answer.
_SETTINGS = {
    "log_level": 0,  # librdkafka logs to standard error; its errors arrive through error_cb
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 500,
    "socket.connection.setup.timeout.ms": 4000,
}

# A broker that refuses connections may be starting, so it gets a few seconds. A silent broker gets the whole timeout.
_ATTEMPT_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0
_MAX_CALLBACKS = 100


class BrokerAdmin:
    """An admin client whose errors explain why the broker does not answer.

    Args:
        configuration: properties of librdkafka: `bootstrap.servers` and the security settings.

    Raises:
        ConfigurationError: librdkafka rejects a property.
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
            raise configuration_error(self.address, error) from error

    def metadata(self, timeout: float = 10.0) -> ClusterMetadata:
        """Return the brokers and topics of the cluster.

        Args:
            timeout: seconds to wait for a broker.

        Raises:
            EngineUnavailableError: no broker answered in time; the text has the reason.
        """
        from confluent_kafka import KafkaException

        start = time.monotonic()
        while True:
            spent = time.monotonic() - start
            try:
                return self.client.list_topics(timeout=max(min(_ATTEMPT_SECONDS, timeout - spent), 0.1))
            except KafkaException as error:
                self._collect_errors()
                spent = time.monotonic() - start
                if spent >= timeout or (self._errors and spent >= _PATIENCE_SECONDS):
                    raise self.unavailable(spent) from error

    def unavailable(self, timeout: float) -> EngineUnavailableError:
        """Return the error for a request that was not answered.

        Args:
            timeout: seconds for which the client waited, for the text.
        """
        self._collect_errors()
        cause, remedy = explain(self._errors) or (
            f"it did not answer within {timeout:.0f} s",
            "Check the address, that the broker runs, and that no firewall blocks the connection.",
        )
        return EngineUnavailableError(
            f"No Kafka broker answers at {self.address}: {cause}. {remedy}", address=self.address
        )

    def _collect_errors(self) -> None:
        """Run the pending calls of `error_cb`; librdkafka makes them only inside `poll`."""
        for _ in range(_MAX_CALLBACKS):
            if not self.client.poll(0):
                return
