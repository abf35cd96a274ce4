"""The state keeper: it folds the log into the state topic, so that a start does not read the whole log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from openfactory.engines.base import Servers
from openfactory.engines.kafka_engine.connection import BrokerConnection
from openfactory.engines.kafka_engine.keeper_session import KeeperSession
from openfactory.engines.kafka_engine.location import KafkaLocation
from openfactory.exceptions import EngineError
from openfactory.logs.outage import Outage

__all__ = ["StateKeeper"]

_logger = logging.getLogger("openfactory.kafka")

# Where very many attributes change, the topic grows by this number of records in a second and not by more: they are
# written less often, but within this time.
_RECORDS_A_SECOND = 1_000
_LONGEST_SECONDS = 10.0

# A keeper that is this number of records behind writes at this interval until it has caught up: what it writes before
# is soon replaced.
_FAR_BEHIND = 100_000
_CATCHING_UP_SECONDS = 60.0

# Seconds before a keeper begins again after an error.
_PAUSE_SECONDS = 1.0


class StateKeeper:
    """Writer of the state topic of a factory on Kafka, which any number of processes can run.

    The keepers of a factory are a consumer group: each partition of the log has one keeper at a time. It writes the
    last event of each changed attribute, at most once in `flush_seconds`, and the offset up to which the state contains
    the log. Both are one transaction, so a reader never sees the one without the other.

    The keepers make the topic, with the partitions of the log. If more than a thousand attributes change in a second,
    the keepers write less often, but within ten seconds; a keeper that is far behind, within a minute.

    >>> keeper = StateKeeper("kafka://broker:9092")  # doctest: +SKIP
    >>> keeper.run()  # doctest: +SKIP

    Args:
        url: a `kafka://` URL; of its options, `prefix` counts.
        servers: credentials; the broker is the one in the URL.
        flush_seconds: seconds between two writes.

    Raises:
        ConfigurationError: the URL is not valid.

    Attributes:
        counters: numbers of the records that are read, are written and cannot be read.
    """

    def __init__(self, url: str, servers: Servers = Servers(), *, flush_seconds: float = 1.0) -> None:  # noqa: B008 - immutable
        location = KafkaLocation.of(url)
        self._connection = BrokerConnection(location.bootstrap_servers, servers.resolve(url).credentials)
        self._prefix = location.prefix
        self._flush_seconds = flush_seconds
        self._stopped = threading.Event()
        self._lag: Mapping[int, int] = {}
        self._outage = Outage(_logger, meanwhile="The state keeper tries again.", over="The state keeper works again.")
        self.counters = {"read": 0, "written": 0, "unreadable": 0}

    def run(self) -> None:
        """Keep the state until `stop` is called; after an error of the broker, begin again."""
        from confluent_kafka import KafkaException

        while not self._stopped.is_set():
            try:
                with KeeperSession(self._connection, self._prefix, self.counters, self._stopped) as session:
                    seconds = self._flush_seconds
                    while not session.is_over:
                        session.read(time.monotonic() + seconds, is_behind=seconds > _LONGEST_SECONDS)
                        count = session.flush()
                        self._lag = session.lag()
                        self._outage.end()
                        seconds = max(self._flush_seconds, min(count / _RECORDS_A_SECOND, _LONGEST_SECONDS))
                        if sum(self._lag.values()) >= _FAR_BEHIND:
                            seconds = _CATCHING_UP_SECONDS
            except (EngineError, KafkaException) as error:
                self._lag = {}
                self._outage.begin(f"The state keeper has stopped: {error}")
                self._stopped.wait(_PAUSE_SECONDS)

    def stop(self) -> None:
        """End `run` after it has written the changes; any thread or signal handler may call it."""
        self._stopped.set()

    @property
    def problem(self) -> str:
        """The error of the broker after which the keeper tries again, or an empty string while it works."""
        return self._outage.reason

    def lag(self) -> Mapping[int, int]:
        """Return, by partition of this keeper, the number of records of the log that the state lacks."""
        return self._lag
