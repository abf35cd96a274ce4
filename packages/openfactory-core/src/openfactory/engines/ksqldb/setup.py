"""Creation of the topics, streams and tables of a factory; existing ones stay unchanged."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from openfactory.engines.base import ASSETS_STREAM
from openfactory.engines.kafka_engine.topic_differences import differences
from openfactory.engines.kafka_engine.topics import (
    ASSETS_TOPIC,
    COMPACTION_HOURS,
    RETENTION_HOURS,
    SHORTEST_RETENTION_MS,
    STATE_TOPIC,
    TOPICS,
    TopicState,
    create_topics,
    describe_topics,
)
from openfactory.engines.ksqldb.columns import COLUMNS, foreign_columns
from openfactory.engines.ksqldb.errors import KSQLDBClientException
from openfactory.engines.ksqldb.topology import Statement, check_factory, statements

if TYPE_CHECKING:
    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["Piece", "check_server", "set_up_ksqldb", "set_up_topics"]


class Piece(NamedTuple):
    """One topic, stream or table.

    Attributes:
        made: whether it is created now, or would be in a dry run; False if it existed before.
        warnings: deviations from the expected settings, each with its remedy.
    """

    kind: Literal["topic", "stream", "table"]
    name: str
    made: bool
    warnings: tuple[str, ...] = ()


def check_server(server: KsqlDBServer, prefix: str = "") -> None:
    """Check that a server has no factory with another prefix, before the topics of a factory are created.

    Raises:
        ConfigurationError: it has one.
        KSQLDBClientException: the server does not answer.
    """
    if ASSETS_STREAM in server.streams():
        check_factory(server.topic_of(ASSETS_STREAM), prefix, server.url)


def set_up_topics(
    configuration: Mapping[str, Any],
    *,
    prefix: str = "",
    partitions: int | None = None,
    replication_factor: int = -1,
    retention_hours: float | None = None,
    compaction_hours: float = COMPACTION_HOURS,
    state: bool = False,
    dry_run: bool = False,
) -> Iterator[Piece]:
    """Create the missing topics, and check the existing ones.

    Args:
        configuration: properties of librdkafka, with `bootstrap.servers` and the security settings.
        prefix: prefix of the names of all topics.
        partitions: partitions of each topic, 1 by default. If topics exist already, new topics get their number of
            partitions, and a higher number is a difference.
        replication_factor: replicas of each new topic; -1 uses the default of the broker.
        retention_hours: retention of the log; None uses the default for new topics and does not check existing topics.
        compaction_hours: hours after which new compacted topics delete replaced records.
        state: whether to create the topic of the state keeper too.
        dry_run: only report the topics that would be created.

    Raises:
        EngineUnavailableError: no broker answers.
        TopicError: the broker rejects the request.
    """
    existing = describe_topics(configuration, (*TOPICS, STATE_TOPIC), prefix=prefix)
    count = _partitions_of(existing, prefix) or partitions or 1
    fewer = partitions is not None and partitions < count
    hours = RETENTION_HOURS if retention_hours is None else retention_hours
    with_state = state or prefix + STATE_TOPIC.name in existing
    for topic in (*TOPICS, STATE_TOPIC) if with_state else TOPICS:
        name = prefix + topic.name
        found = existing.get(name)
        if found is None:
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
        warnings = differences(
            topic,
            found,
            partitions=max(partitions or 0, count),
            address=address,
            retention_ms=wanted,
            shortest_ms=SHORTEST_RETENTION_MS,
        )
        if fewer and topic.joined:
            fewer = False  # the same holds for the other topics
            warnings.append(
                f"{name} has {found.partitions} partitions, and partitions cannot be removed. "
                f"Leave out --partitions {partitions}."
            )
        yield Piece("topic", name, made=False, warnings=tuple(warnings))


def set_up_ksqldb(
    server: KsqlDBServer, *, prefix: str = "", retention_ms: Mapping[str, int] | None = None, dry_run: bool = False
) -> Iterator[Piece]:
    """Create the missing streams and tables; their topics must exist.

    Each statement is a request of its own, because ksqlDB validates all statements of a request before it runs the
    first.

    Args:
        server: the ksqlDB server.
        prefix: prefix of the names of all topics.
        retention_ms: retention of each topic in milliseconds, by its name with the prefix.
        dry_run: only report the streams and tables that would be created.

    Raises:
        KSQLDBClientException: the server does not answer, or rejects a statement.
    """
    existing = {*server.streams(), *server.tables()}
    warnings = _other_columns(server, existing, prefix)
    for statement in statements(prefix, retention_ms):
        kind: Literal["stream", "table"] = "stream" if statement.kind == "STREAM" else "table"
        if statement.name in existing:
            warnings += _other_topic(server, statement, prefix)
            yield Piece(kind, statement.name, made=False, warnings=warnings)
            warnings = ()
            continue
        if not dry_run:
            _run(server, statement, kind)
        yield Piece(kind, statement.name, made=True)


def _partitions_of(topics: Mapping[str, TopicState], prefix: str) -> int:
    """Return the number of partitions of the log, or the largest number among the topics that ksqlDB joins.

    The number is 0 if these topics do not exist.
    """
    log = topics.get(prefix + ASSETS_TOPIC)
    joined = [
        topics[prefix + topic.name].partitions for topic in TOPICS if topic.joined and prefix + topic.name in topics
    ]
    return log.partitions if log is not None else max(joined, default=0)


def _other_columns(server: KsqlDBServer, existing: Collection[str], prefix: str) -> tuple[str, ...]:
    """Return a warning if streams or tables have other columns than the programs of a factory expect."""
    try:
        text = foreign_columns({name: server.columns(name) for name in COLUMNS if name in existing}, prefix)
    except KSQLDBClientException as error:
        text = f"The columns of the existing streams and tables are not checked. {error}"
    return (text,) if text else ()


def _other_topic(server: KsqlDBServer, statement: Statement, prefix: str) -> tuple[str, ...]:
    """Return a warning if a stream or table reads a topic outside of this setup."""
    topic = server.topic_of(statement.name)
    if topic == statement.topic or statement.topic.removeprefix(prefix) not in {known.name for known in TOPICS}:
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
        error.args = (f"The {kind} {statement.name} cannot be created. {error}", *error.args[1:])
        raise
