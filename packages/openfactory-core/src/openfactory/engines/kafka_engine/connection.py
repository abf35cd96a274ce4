"""How the clients of one broker are set up, and what is known of the way to it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from openfactory.engines.kafka_engine.broker_errors import explained
from openfactory.exceptions import EngineUnavailableError
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["BrokerConnection"]

_logger = logging.getLogger("openfactory.kafka")

# librdkafka's own lines: what matters of them is said here in one sentence.
_silent = logging.getLogger("openfactory.kafka.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False

_WAY_OUT = "See whether the broker runs and KAFKA_BROKER is its address; `ofa doctor` tells more."


class BrokerConnection:
    """What the producer, the consumers and the administration of one cluster share.

    Args:
        bootstrap_servers: addresses, `host:9092,other:9092`.
        credentials: how to log in.

    Attributes:
        trouble: why no broker can be reached now; empty while one can.
    """

    def __init__(self, bootstrap_servers: str, credentials: Credentials) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.trouble = ""
        self._security = credentials.kafka()
        self._lock = threading.Lock()
        self._said: dict[int, KafkaError] = {}  # since the last answer, the last of each kind

    def configuration(self, **properties: Any) -> dict[str, Any]:
        """Properties of librdkafka for one client; `_` in a name stands for its dot."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "openfactory",
            "error_cb": self.on_error,
            "logger": _silent,
            "log.connection.close": False,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "socket.nagle.disable": True,
            "socket.connection.setup.timeout.ms": 5_000,
            "socket.timeout.ms": 10_000,  # a minute by default, until a broker that is silent is given up
            **self._security,
            **{name.replace("_", "."): value for name, value in properties.items()},
        }

    def on_error(self, error: KafkaError) -> None:
        """Librdkafka tells what went wrong; what it cannot mend by itself is said once."""
        with self._lock:
            self._said[error.code()] = error
        if error.name() in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_SSL", "_RESOLVE", "_FATAL"):
            cause, remedy = self._explained() or (error.str(), _WAY_OUT)
            self._on_trouble(f"{self.bootstrap_servers} cannot be reached: {cause}. {remedy}")

    def on_silence(self) -> None:
        """A question was not answered in time."""
        self._on_trouble(f"{self.bootstrap_servers} does not answer in time. {_WAY_OUT}")

    def on_answer(self) -> None:
        """A broker has answered."""
        if self.trouble or self._said:
            with self._lock:
                was, self.trouble = self.trouble, ""
                self._said.clear()
            if was:
                _logger.info("%s can be reached again.", self.bootstrap_servers)

    def _on_trouble(self, trouble: str) -> None:
        with self._lock:
            if self.trouble:
                return
            self.trouble = trouble
        _logger.warning("%s What is written waits, and it is tried again until it can be.", trouble)

    def unavailable(self, reason: object) -> EngineUnavailableError:
        """The error that says that the cluster cannot be used; what librdkafka has said tells more than a reason."""
        cause, remedy = self._explained() or (reason, _WAY_OUT)
        return EngineUnavailableError(
            f"No Kafka broker answers at {self.bootstrap_servers}: {cause}. {remedy} "
            "Run without any server by KSQLDB_URL=sqlite:///factory.db.",
            address=self.bootstrap_servers,
        )

    def _explained(self) -> tuple[str, str] | None:
        with self._lock:
            said = list(self._said.values())
        return explained(said)
