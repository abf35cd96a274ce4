"""A ksqlDB for engines that only write: the stand-in of the tests, which reads nothing of the log."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from kafka_processes import Place

from openfactory.engines import open_engine

__all__ = ["ksqldb_that_reads_nothing"]

_TESTS = Path(__file__).resolve().parents[1] / "tests" / "kafka"


@contextmanager
def ksqldb_that_reads_nothing(place: Place) -> Generator[dict[str, str]]:
    """The environment of a process that uses it; its tables are empty."""
    if str(_TESTS) not in sys.path:
        sys.path.append(str(_TESTS))
    from ksqldb_stand_in import KsqlDBStandIn

    with open_engine(f"memory://{place.prefix}") as empty:
        server = KsqlDBStandIn(empty.engine.query, place.topic, partitions=1)
        for known in (server.streams, server.tables):
            known.update({name: place.prefix + topic for name, topic in known.items() if topic.endswith("_topic")})
        server.start()
        try:
            yield {"KSQLDB_URL": server.url, "KAFKA_BROKER": place.bootstrap_servers}
        finally:
            server.stop()
