"""The configuration of all clients of one cluster, and whether the cluster can be reached."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openfactory.concurrency.pauses import Pauses
from openfactory.engines.kafka_engine.broker_errors import explain, is_closed_connection
from openfactory.engines.kafka_engine.log_clock import LogClocks
from openfactory.engines.kafka_engine.positions import Positions
from openfactory.exceptions import EngineUnavailableError
from openfactory.logs.outage import Outage
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

__all__ = ["BrokerConnection"]

_logger = logging.getLogger("openfactory.kafka")

# librdkafka's own log lines are dropped; BrokerConnection reports each outage in one line.
_librdkafka_logger = logging.getLogger("openfactory.kafka.librdkafka")
_librdkafka_logger.addHandler(logging.NullHandler())
_librdkafka_logger.propagate = False

_REMEDY = "Check that the broker runs and that KAFKA_BROKER is its address, or run `ofa doctor`."


class BrokerConnection:
    """Configuration and outage report that the producer and the consumers of one cluster share.

    Args:
        bootstrap_servers: addresses, `host:9092,other:9092`.
        credentials: user, password, token server and certificates for the login.

    Attributes:
        outage: the time during which no broker answers, with its reason.
        positions: the positions of the log, which the clients share.
        clocks: the time of the log, which the clients share.
        pauses: the times at which this process did not run.
        on_doubt: called when a broker has closed the connections. It may have closed them because they were idle, so
            the function asks the broker, then calls `on_answer` or `on_timeout`. Without it, that is an outage.
    """

    def __init__(self, bootstrap_servers: str, credentials: Credentials) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.outage = Outage(
            _logger,
            meanwhile="Events wait in the queue until a broker answers.",
            over=f"{bootstrap_servers} can be reached again.",
        )
        self.positions = Positions()
        self.clocks = LogClocks()
        self.pauses = Pauses()
        self.on_doubt: Callable[[], object] | None = None
        self._security = credentials.kafka()
        self._lock = threading.Lock()
        self._closing = False
        self._errors: dict[int, KafkaError] = {}  # the last error of each code since the last answer

    def configuration(self, **properties: Any) -> dict[str, Any]:
        """Return the properties of librdkafka for one client.

        Args:
            properties: further properties; `_` in a name stands for a dot, except for a function such as `on_commit`.
        """
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "openfactory",
            "error_cb": self.on_error,
            "logger": _librdkafka_logger,
            "log.connection.close": False,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
            "socket.nagle.disable": True,
            "socket.connection.setup.timeout.ms": 5_000,
            "socket.timeout.ms": 10_000,  # the default of one minute notices a silent broker too late
            **self._security,
            **{name if callable(value) else name.replace("_", "."): value for name, value in properties.items()},
        }

    def on_closing(self) -> None:
        """Pass over errors from now on: a client that is closed reports those of an earlier outage."""
        self._closing = True

    def on_error(self, error: KafkaError) -> None:
        """Take an error of librdkafka, and log each outage once."""
        if self._closing:
            return
        with self._lock:
            self._errors[error.code()] = error
            errors = list(self._errors.values())
        if error.name() in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_SSL", "_RESOLVE", "_FATAL"):
            if self.on_doubt is not None and not self.outage.reason and all(map(is_closed_connection, errors)):
                self.on_doubt()
            else:
                self._begin_outage(error.str())

    def on_timeout(self) -> None:
        """Note that a request was not answered in time."""
        if not self.outage.reason:  # otherwise the reason may name the cause
            self._begin_outage("it does not answer in time")

    def _begin_outage(self, reason: object) -> None:
        cause, remedy = self._explain() or (reason, _REMEDY)
        self.outage.begin(f"{self.bootstrap_servers} cannot be reached: {cause}. {remedy}")

    def on_answer(self) -> None:
        """Note that a broker has answered, which ends an outage."""
        if self.outage.reason or self._errors:
            with self._lock:
                self._errors.clear()
            self.outage.end()

    def is_explained(self) -> bool:
        """Return whether an error since the last answer tells why no broker answers."""
        return self._explain() is not None

    def unavailable(self, reason: object) -> EngineUnavailableError:
        """Return the error for a cluster that cannot be used.

        Args:
            reason: the cause, for the text; an explained error of librdkafka takes precedence.
        """
        cause, remedy = self._explain() or (reason, _REMEDY)
        return EngineUnavailableError(
            f"No Kafka broker answers at {self.bootstrap_servers}: {cause}. {remedy} "
            "To run without a server, set KSQLDB_URL=sqlite:///factory.db.",
            address=self.bootstrap_servers,
        )

    def _explain(self) -> tuple[str, str] | None:
        with self._lock:
            errors = list(self._errors.values())
        return explain(errors)
