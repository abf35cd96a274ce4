"""The streams and tables of a factory on ksqlDB, as the statements that create them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from openfactory.engines.base import ASSETS_STREAM, ASSETS_TOPIC
from openfactory.engines.kafka_engine.topics import RETENTION_HOURS, TOPICS, check_prefix
from openfactory.exceptions import ConfigurationError

__all__ = ["Statement", "check_factory", "statements"]

_CREATE = re.compile(r"CREATE (?:SOURCE )?(STREAM|TABLE) IF NOT EXISTS (\w+)")
_TOPIC = re.compile(r"KAFKA_TOPIC = '([^']+)'")
_SOURCE = re.compile(r"\b(?:FROM|JOIN) (\w+)")
_COMMENT = re.compile(r"^--.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement that creates one stream or table.

    Attributes:
        name: name of the stream or table, in upper case as the server lists it.
        kind: `STREAM` or `TABLE`.
        topic: name of its topic, with the prefix.
        sql: the statement, with a semicolon.
        sources: names of the streams and tables that it reads.
    """

    name: str
    kind: Literal["STREAM", "TABLE"]
    topic: str
    sql: str
    sources: frozenset[str]


def statements(prefix: str = "", retention_ms: Mapping[str, int] | None = None) -> list[Statement]:
    """Return the statements in the order in which they must run, one at a time.

    >>> [statement.name for statement in statements()][:3]
    ['ASSETS_STREAM', 'ENRICHED_ASSETS_STREAM', 'ASSETS']

    Args:
        prefix: prefix of the names of all topics.
        retention_ms: retention of each topic in milliseconds, by its name with the prefix; by default that of new
            topics.
    """
    check_prefix(prefix)
    if retention_ms is None:
        retention_ms = {prefix + topic.name: topic.retention_ms(RETENTION_HOURS) for topic in TOPICS}
    text = _COMMENT.sub("", files("openfactory.engines.ksqldb").joinpath("topology.sql").read_text(encoding="utf-8"))
    parts = [part.strip() for part in text.replace("${prefix}", prefix).split(";")]
    return [_statement(part, retention_ms, retention_ms.get(prefix + ASSETS_TOPIC)) for part in parts if part]


def check_factory(topic: str, prefix: str, address: str) -> None:
    """Check that the factory on a server has a prefix. A server has one factory, because its streams have fixed names.

    Args:
        topic: topic of the stream of all events.
        prefix: prefix of the names of all topics.
        address: address of the server, for the error.

    Raises:
        ConfigurationError: the factory has another prefix.
    """
    if topic == prefix + ASSETS_TOPIC:
        return
    remedy = "Use its topics"
    if topic.endswith(ASSETS_TOPIC):
        other = topic.removesuffix(ASSETS_TOPIC)
        remedy = f"Use the prefix {other}" if other else "Leave out the prefix"
    raise ConfigurationError(
        f"The ksqlDB at {address} has a factory already: its {ASSETS_STREAM} is on the topic {topic} and not on "
        f"{prefix}{ASSETS_TOPIC}. {remedy}, or use another ksqlDB for another factory."
    )


def _statement(sql: str, retention_ms: Mapping[str, int], inherited: int | None) -> Statement:
    created, stored = _CREATE.match(sql), _TOPIC.search(sql)
    assert created is not None
    assert stored is not None
    topic, retention = stored[1], retention_ms.get(stored[1])
    derived = created[1] == "STREAM" and sql.startswith("WITH", created.end() + 1)
    if derived and retention is not None and retention != inherited:
        # By default the server expects the retention of the source topic, and rejects a different one.
        sql = sql.replace(stored[0], f"{stored[0]}, RETENTION_MS = {retention}")
    kind: Literal["STREAM", "TABLE"] = "STREAM" if created[1] == "STREAM" else "TABLE"
    sources = frozenset(name.upper() for name in _SOURCE.findall(sql))
    return Statement(created[2].upper(), kind, topic, f"{sql};", sources)
