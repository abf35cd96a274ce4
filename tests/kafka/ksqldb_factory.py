"""A factory on Kafka, ksqlDB and NATS, as far as it can be had here: the broker and NATS are real."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from fanout_services import OwnForwarder, OwnRouter
from forwarder import Forwarder
from ksqldb_register import REGISTER, DerivedRegister
from ksqldb_stand_in import KsqlDBStandIn
from openfactory.engines.kafka_engine.engine import KafkaEngine
from openfactory.engines.kafka_engine.topics import TOPICS, create_topics
from router_stand_in import RouterStandIn
from topic_deletion import delete_topics

__all__ = ["KsqlDBFactory"]

_OF_THE_REGISTER = re.compile(rf"\bFROM\s+`?({'|'.join(REGISTER)})\b", re.IGNORECASE)


class KsqlDBFactory:
    """Topics of its own, a ksqlDB stand-in whose tables are folded from them, and a forwarder to NATS with its router.

    Args:
        nats_url: where live events go; without one there is no router, and they come from the log.
        existing: topics, streams and tables as the existing system's set-up makes them.
        ours: whether forwarder and router are those of OpenFactory, and not stand-ins of the existing ones.
        commits: whether the stand-in of the forwarder commits its offsets.

    Attributes:
        register: the rows that are derived from the log; its `lag` can be set.
        updated_at: the form of the column UPDATED_AT, made from its text.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        nats_url: str | None = None,
        partitions: int = 1,
        *,
        existing: bool = False,
        ours: bool = False,
        commits: bool = True,
    ) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.prefix = f"f{uuid4().hex[:10]}_"
        self.updated_at: Callable[[str], object] = str
        if existing:
            _create_existing_topics(bootstrap_servers, self.prefix)
        else:
            create_topics({"bootstrap.servers": bootstrap_servers}, TOPICS, prefix=self.prefix, partitions=partitions)
        self.tables = KafkaEngine(f"kafka://{bootstrap_servers}?prefix={self.prefix}")
        self.register = DerivedRegister(bootstrap_servers, self.prefix, partitions, existing=existing)
        self.ksqldb = KsqlDBStandIn(self._select, f"{self.prefix}ofa_assets", partitions=partitions)
        if existing:
            self.ksqldb.streams["ASSETS_TYPE_TOMBSTONES"] = "assets_types_topic"
            self.ksqldb.streams["ASSETS_AVAIL_TOMBSTONES"] = "assets_avail_topic"
        for known in (self.ksqldb.streams, self.ksqldb.tables):
            known.update({name: self.prefix + topic for name, topic in known.items() if topic.endswith("_topic")})
        self.router: Any = OwnRouter(nats_url) if ours and nats_url else RouterStandIn(nats_url or "")
        self.forwarder: Any = None
        if nats_url and ours:
            self.forwarder = OwnForwarder(self.tables.url, nats_url, partitions)
        elif nats_url:
            self.forwarder = Forwarder(bootstrap_servers, nats_url, f"{self.prefix}ofa_assets", commits=commits)

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

    def _select(self, sql: str) -> list[dict[str, Any]]:
        if _OF_THE_REGISTER.search(sql):
            return self.register.select(sql)
        rows = self.tables.query(sql)
        for row in rows:
            if isinstance(row.get("UPDATED_AT"), str):
                row["UPDATED_AT"] = self.updated_at(row["UPDATED_AT"])
        return rows

    def __enter__(self) -> KsqlDBFactory:
        self._parts: list[Any] = [self.register, self.ksqldb]
        if self.forwarder is not None:
            self._parts += [self.router, self.forwarder]
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


def _create_existing_topics(bootstrap_servers: str, prefix: str) -> None:
    """The topics with one partition, and with the times of their writers."""
    topics = [NewTopic(prefix + topic.name, 1, config={"cleanup.policy": topic.cleanup_policy}) for topic in TOPICS]
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for future in admin.create_topics(topics).values():
        future.result(60)
