"""A factory on Kafka, ksqlDB and NATS, as far as it can be had here: the broker and NATS are real."""

from __future__ import annotations

from types import TracebackType
from typing import Any
from uuid import uuid4

import pytest

from forwarder import Forwarder
from ksqldb_stand_in import KsqlDBStandIn
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from router_stand_in import RouterStandIn
from topic_deletion import delete_topics

__all__ = ["KsqlDBFactory"]


class KsqlDBFactory:
    """Topics of its own, a ksqlDB stand-in whose tables are folded from them, and a forwarder to NATS with its router.

    Args:
        nats_url: where live events go; without one there is no router, and they come from the log.
    """

    def __init__(self, bootstrap_servers: str, nats_url: str | None = None, partitions: int = 1) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.prefix = f"f{uuid4().hex[:10]}_"
        create_topics({"bootstrap.servers": bootstrap_servers}, TOPICS, prefix=self.prefix, partitions=partitions)
        self.tables = KafkaEngine(f"kafka://{bootstrap_servers}?prefix={self.prefix}")
        self.ksqldb = KsqlDBStandIn(self.tables.query, f"{self.prefix}ofa_assets", partitions=partitions)
        for known in (self.ksqldb.streams, self.ksqldb.tables):
            known.update({name: self.prefix + topic for name, topic in known.items() if topic.endswith("_topic")})
        self.router = RouterStandIn(nats_url or "")
        self.forwarder = Forwarder(bootstrap_servers, nats_url, f"{self.prefix}ofa_assets") if nats_url else None

    @property
    def url(self) -> str:
        return self.ksqldb.url

    @property
    def environment(self) -> dict[str, str]:
        """What an app has to be told beside the URL."""
        said = {"KAFKA_BROKER": self.bootstrap_servers, "KSQLDB_URL": self.url}
        return said | ({"ASSET_ROUTER_URL": self.router.url} if self.forwarder else {})

    def entered(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """The URL, with the environment set that goes with it."""
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        return self.url

    def __enter__(self) -> KsqlDBFactory:
        self._parts: list[Any] = [self.ksqldb, *([self.router, self.forwarder] if self.forwarder else [])]
        for part in self._parts:
            part.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in reversed(self._parts):
            part.stop()
        self.tables.close()
        delete_topics(self.bootstrap_servers, self.prefix)
