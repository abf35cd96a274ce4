"""`ofa setup-kafka`: the topics, streams and tables of a factory."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.output import print_table
from openfactory.apps.cli.progress import shown_progress
from openfactory.engines.kafka_engine.topics import (
    COMPACTION_HOURS,
    RETENTION_HOURS,
    TOPICS,
    check_prefix,
    describe_topics,
)
from openfactory.engines.ksqldb.setup import Piece, check_server, set_up_ksqldb, set_up_topics
from openfactory.engines.ksqldb.topology import statements
from openfactory.engines.location import HTTP, Location, Servers, scheme_of
from openfactory.exceptions import OpenFactoryError
from openfactory.settings import environment
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from openfactory.doctor.factory import Factory
    from openfactory.engines.ksqldb.server import KsqlDBServer

__all__ = ["setup_kafka"]

# Long enough for a server that is still starting, or that has earlier statements to run.
_STATEMENT_SECONDS = 60.0
_RETRIES = 3
_RETRY_SECONDS = 1.0

_OF_SEVERAL_PARTITIONS = (
    "With several partitions, set partitioner=murmur2_random in other programs that write with librdkafka: otherwise "
    "the events of an asset are in two partitions without a common order, and ksqlDB leaves some out of "
    "assets_stream_uns."
)


@click.command("setup-kafka")
@click.option(
    "--broker", metavar="HOST:PORT", help="The Kafka broker.  [default: that of $KSQLDB_URL, else $KAFKA_BROKER]"
)
@click.option(
    "--ksqldb-server", metavar="URL", help="The ksqlDB server, if the factory has one.  [default: $KSQLDB_URL]"
)
@click.option("--prefix", help="Prefix of the topic names.  [default: that of $KSQLDB_URL, else empty]")
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    help="Partitions of each topic. With several, other programs that write with librdkafka need "
    "partitioner=murmur2_random.  [default: those of existing topics, else 1]",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(min=1),
    help="Brokers that store each topic.  [default: set by the brokers]",
)
@click.option(
    "--retention-hours",
    type=click.FloatRange(min=-1),
    help=f"Hours for which events are kept, -1 for ever.  [default: {RETENTION_HOURS:g}]",
)
@click.option(
    "--compaction-hours",
    type=click.FloatRange(min=0, min_open=True),
    default=COMPACTION_HOURS,
    show_default=True,
    help="Hours after which replaced records of compacted topics are deleted.",
)
@click.option(
    "--state", is_flag=True, help="Create the topic of the state keeper too, which spares a start the whole log."
)
@click.option("--dry-run", is_flag=True, help="Show what would be created, and create nothing.")
def setup_kafka(
    broker: str | None,
    ksqldb_server: str | None,
    prefix: str | None,
    partitions: int | None,
    replication_factor: int | None,
    retention_hours: float | None,
    compaction_hours: float,
    state: bool,
    dry_run: bool,
) -> None:
    """Create the topics, streams and tables of a factory.

    It creates the topics on Kafka, and the streams and tables on ksqlDB if the factory has one.

    Existing topics, streams and tables are not changed, so that the command can be run again at any time. If an
    existing topic has unsuitable settings, the command that changes them is printed.

    Events older than --retention-hours are deleted. Without ksqlDB, an attribute that has not been written since then
    is lost too: choose more hours than the longest time between two writes of an attribute.
    """
    factory = _factory(broker, ksqldb_server, prefix)
    pieces: list[Piece] = []
    with _ksqldb(factory) as server, shown_progress() as progress:
        total = len(TOPICS) + state + (len(statements()) if server else 0)
        if server is not None:
            check_server(server, factory.prefix)
        for piece in set_up_topics(
            factory.kafka,
            prefix=factory.prefix,
            partitions=partitions,
            replication_factor=replication_factor or -1,
            retention_hours=retention_hours,
            compaction_hours=compaction_hours,
            state=state,
            dry_run=dry_run,
        ):
            pieces.append(piece)
            progress(f"{piece.kind}s", len(pieces) / total)
        for piece in () if server is None else _ksqldb_pieces(factory, server, dry_run):
            pieces.append(piece)
            progress(f"{piece.kind}s", len(pieces) / total)
    _report(pieces, factory, dry_run)
    if partitions is not None and partitions > 1:
        click.echo(_OF_SEVERAL_PARTITIONS)
    for warning in (*(text for piece in pieces for text in piece.warnings), *_advice(factory)):
        click.echo(f"Warning: {warning}", err=True)


def _factory(broker: str | None, ksqldb_server: str | None, prefix: str | None) -> Factory:
    """Return the servers of the options, and those of the environment where an option is missing.

    Raises:
        Failure: the options and the environment name no broker, or the URL of ksqlDB is not valid.
    """
    from openfactory.doctor.factory import Factory  # it imports every engine, which no other command needs

    location = Location.of(environment("KSQLDB_URL") or "")
    resolved = Servers(broker).resolve("" if broker else location.url)
    broker = resolved.bootstrap_servers
    if not broker:
        raise Failure("The Kafka broker is not set. Give --broker host:9092, or set KAFKA_BROKER.")
    if ksqldb_server and scheme_of(ksqldb_server) not in HTTP:
        raise Failure(
            f"--ksqldb-server {redacted(ksqldb_server)!r} is not the URL of a ksqlDB server. Write http://host:8088."
        )
    return Factory(
        location.url,
        resolved.credentials,
        bootstrap_servers=broker,
        ksqldb_url=ksqldb_server or location.ksqldb_url,
        prefix=check_prefix(location.options.get("prefix", "") if prefix is None else prefix),
    )


@contextmanager
def _ksqldb(factory: Factory) -> Generator[KsqlDBServer | None]:
    """Yield a client of the factory's ksqlDB, or None if the factory uses Kafka alone."""
    if factory.ksqldb_url is None:
        yield None
        return
    from openfactory.engines.ksqldb.server import KsqlDBServer

    # Its warnings between retries are not printed: after the last retry, the problem is an error.
    logging.getLogger("openfactory.ksqlDB").addHandler(logging.NullHandler())
    with KsqlDBServer(
        factory.ksqldb_url,
        max_retries=_RETRIES,
        retry_delay=_RETRY_SECONDS,
        timeout=_STATEMENT_SECONDS,
        credentials=factory.credentials,
    ) as server:
        yield server


def _ksqldb_pieces(factory: Factory, server: KsqlDBServer, dry_run: bool) -> Iterator[Piece]:
    topics = describe_topics(factory.kafka, prefix=factory.prefix)
    retention = {name: state.retention_ms for name, state in topics.items()}
    yield from set_up_ksqldb(server, prefix=factory.prefix, retention_ms=retention, dry_run=dry_run)


def _advice(factory: Factory) -> list[str]:
    """Return advice on settings of ksqlDB, which can be changed only where the server is started.

    The list is empty if the server does not report its settings.
    """
    if factory.ksqldb_url is None:
        return []
    from openfactory.doctor.ksqldb import examine_settings, ksqldb_server

    try:
        with ksqldb_server(factory) as server:
            return [f"{item.found} {item.remedy}" for item in examine_settings(server) if item.status == "advice"]
    except OpenFactoryError:
        return []  # the command has succeeded without it


def _report(pieces: list[Piece], factory: Factory, dry_run: bool) -> None:
    created = "to be created" if dry_run else "created"
    print_table(
        ("kind", "name", "state"),
        [(piece.kind, piece.name, created if piece.made else "unchanged") for piece in pieces],
    )
    new = sum(piece.made for piece in pieces)
    servers = factory.bootstrap_servers if factory.ksqldb_url is None else f"{factory.bootstrap_servers} and its ksqlDB"
    click.echo(f"\n{new} {created}, {len(pieces) - new} unchanged, on {servers}.")
