"""Making what a factory needs on Kafka and ksqlDB, piece by piece; what is there already stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from openfactory.engines.kafka_engine.topic_differences import differences
from openfactory.engines.kafka_engine.topics import (
    ASSETS_TOPIC,
    COMPACTION_HOURS,
    RETENTION_HOURS,
    TOPICS,
    TopicState,
    create_topics,
    describe_topics,
)
from openfactory.engines.ksqldb.errors import KSQLDBClientException
from openfactory.engines.ksqldb.topology import Statement, statements

if TYPE_CHECKING:
    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["Piece", "set_up_ksqldb", "set_up_topics"]


class Piece(NamedTuple):
    """One topic, stream or table.

    Attributes:
        made: whether it was made now, or would be; else it was there.
        warnings: what is not as it should be, each with what to do.
    """

    kind: Literal["topic", "stream", "table"]
    name: str
    made: bool
    warnings: tuple[str, ...] = ()


def set_up_topics(
    configuration: Mapping[str, Any],
    *,
    prefix: str = "",
    partitions: int | None = None,
    replication_factor: int = -1,
    retention_hours: float | None = None,
    compaction_hours: float = COMPACTION_HOURS,
    dry_run: bool = False,
) -> Iterator[Piece]:
    """Make the topics that are missing, and look at those that are there.

    Args:
        configuration: properties of librdkafka; `bootstrap.servers` and what security needs.
        partitions: of each topic, 1 if nobody says; beside topics that are there, new ones have as many as those.
        retention_hours: for how long the log is kept; without it the default for new topics.
        compaction_hours: after how long new compacted topics forget what was replaced.

    Raises:
        EngineUnavailableError: no broker answers.
        TopicError: the broker refuses.
    """
    there = describe_topics(configuration, prefix=prefix)
    count = _partitions_of(there, prefix) or partitions or 1
    hours = RETENTION_HOURS if retention_hours is None else retention_hours
    for topic in TOPICS:
        name = prefix + topic.name
        state = there.get(name)
        if state is None:
            if not dry_run:
                create_topics(
                    configuration,
                    [topic],
                    prefix=prefix,
                    partitions=count,
                    replication_factor=replication_factor,
                    retention_hours=hours,
                    compaction_hours=compaction_hours,
                )
            yield Piece("topic", name, made=True)
            continue
        wanted = None if retention_hours is None else topic.retention_ms(hours)
        address = str(configuration["bootstrap.servers"])
        found = differences(topic, state, partitions=partitions or count, address=address, retention_ms=wanted)
        yield Piece("topic", name, made=False, warnings=tuple(found))


def set_up_ksqldb(
    server: KsqlDBServer, *, prefix: str = "", retention_ms: Mapping[str, int] | None = None, dry_run: bool = False
) -> Iterator[Piece]:
    """Make the streams and tables that are missing; their topics must be there.

    They are sent one by one: statements of one request are checked together, before the first of them has run.

    Args:
        retention_ms: for how long each topic keeps its records, by name with the prefix.

    Raises:
        KSQLDBClientException: the server does not answer, or refuses a statement.
    """
    there = {*server.streams(), *server.tables()}
    for statement in statements(prefix, retention_ms):
        kind: Literal["stream", "table"] = "stream" if statement.kind == "STREAM" else "table"
        if statement.name in there:
            yield Piece(kind, statement.name, made=False, warnings=_other_topic(server, statement, prefix))
            continue
        if not dry_run:
            _run(server, statement, kind)
        yield Piece(kind, statement.name, made=True)


def _partitions_of(there: Mapping[str, TopicState], prefix: str) -> int:
    """How many the topics have that ksqlDB joins: as many as the log, else as the largest; 0 without any."""
    log = there.get(prefix + ASSETS_TOPIC)
    joined = [
        there[prefix + topic.name].partitions for topic in TOPICS if topic.joined and prefix + topic.name in there
    ]
    return log.partitions if log is not None else max(joined, default=0)


def _other_topic(server: KsqlDBServer, statement: Statement, prefix: str) -> tuple[str, ...]:
    """A warning where a stream or table reads another topic than those that were set up."""
    topic = server.topic_of(statement.name)
    if topic == statement.topic or statement.topic.removeprefix(prefix) not in {one.name for one in TOPICS}:
        return ()
    warning = (
        f"{statement.name} is on the topic {topic}, not on {statement.topic}. Use the prefix of that topic, "
        "or another ksqlDB for this factory."
    )
    return (warning,)


def _run(server: KsqlDBServer, statement: Statement, kind: str) -> None:
    try:
        server.statement(statement.sql)
    except KSQLDBClientException as error:
        error.args = (f"The {kind} {statement.name} cannot be made. {error}", *error.args[1:])
        raise
