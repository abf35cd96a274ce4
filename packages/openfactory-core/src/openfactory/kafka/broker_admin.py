"""A connection to a broker for questions about it, which says why there is none."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openfactory.exceptions import ConfigurationError, EngineUnavailableError

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

# What stands in front of a reason: `sasl_ssl://plant:9092/bootstrap: `.
_ADDRESS = re.compile(r"^\S+/(bootstrap|-?\d+): ")


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
            raise ConfigurationError(
                f"The Kafka client for {self.address or 'no broker'} cannot be made: {error.args[0].str()}. "
                "Check KAFKA_BROKER and the KAFKA_… settings of its security."
            ) from error

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
        cause, remedy = _explained(self._errors, timeout)
        return EngineUnavailableError(
            f"No Kafka broker answers at {self.address}: {cause}. {remedy}", address=self.address
        )

    def _hear(self) -> None:
        """Take in what the client has to say; it speaks only when it is asked."""
        for _ in range(_MOST_WORDS):
            if not self.client.poll(0):
                return


def _explained(errors: list[KafkaError], timeout: float) -> tuple[str, str]:
    """Why no broker answers, and what to do: the most telling of the client's errors."""
    from confluent_kafka import KafkaError

    said = {error.code(): _detail(error) for error in errors}
    for code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        if code in said:
            return f"it refuses who we are ({said[code]})", "Check the user and password, and the SASL mechanism."
    if KafkaError._SSL in said:
        return (
            f"TLS failed ({said[KafkaError._SSL]})",
            "Check that this port speaks TLS, and name the file of its CA in KAFKA_SSL_CA_FILE.",
        )
    if KafkaError._RESOLVE in said:
        return f"its name is unknown ({said[KafkaError._RESOLVE]})", "Check the name in KAFKA_BROKER."
    if KafkaError._TRANSPORT in said:
        return _transport(said[KafkaError._TRANSPORT])
    return (
        f"it was silent for {timeout:.0f} s",
        "Check that the address is right, that the broker runs, and that no firewall is between.",
    )


def _transport(detail: str) -> tuple[str, str]:
    if "refused" in detail:
        return "the connection is refused", "Check the port, and start the broker."
    if "security.protocol" in detail or "Disconnected" in detail or "SASL" in detail:
        return (
            f"it hangs up ({detail})",
            "Check that this port is Kafka's and speaks the protocol of KAFKA_SECURITY_PROTOCOL.",
        )
    return detail, "Check the address and the network."


def _detail(error: KafkaError) -> str:
    """What the client said, without the address in front and how long it took behind."""
    text = _ADDRESS.sub("", error.str() or error.name())
    return text.split(" (after ", 1)[0].strip().rstrip(".")
