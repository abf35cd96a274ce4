"""`ofa setup-kafka`: the topics, streams and tables of a factory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.output import print_table
from openfactory.engines.kafka_engine.topics import (
    COMPACTION_HOURS,
    RETENTION_HOURS,
    TOPICS,
    check_prefix,
    describe_topics,
)
from openfactory.engines.ksqldb.setup import Piece, set_up_ksqldb, set_up_topics
from openfactory.engines.ksqldb.topology import statements
from openfactory.exceptions import OpenFactoryError
from openfactory.settings import environment
from openfactory.settings.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from openfactory.doctor.factory import Factory

__all__ = ["setup_kafka"]

# A statement may wait for those before it, and a server that has just been started for itself.
_STATEMENT_SECONDS = 60.0
_RETRIES = 3
_RETRY_SECONDS = 1.0


@click.command("setup-kafka")
@click.option("--broker", metavar="HOST:PORT", help="The Kafka broker.  [default: that of $KSQLDB_URL, $KAFKA_BROKER]")
@click.option("--ksqldb-server", metavar="URL", help="The ksqlDB server, if there is one.  [default: $KSQLDB_URL]")
@click.option("--prefix", help="What stands before the names of all topics.  [default: that of $KSQLDB_URL, none]")
@click.option(
    "--partitions", type=click.IntRange(min=1), help="Of each topic.  [default: as many as there are already, 1]"
)
@click.option(
    "--replication-factor",
    type=click.IntRange(min=1),
    help="How many brokers have each topic.  [default: what the brokers say]",
)
@click.option(
    "--retention-hours",
    type=click.FloatRange(min=-1),
    help=f"For how long events are kept, -1 for ever.  [default: {RETENTION_HOURS:g}]",
)
@click.option(
    "--compaction-hours",
    type=click.FloatRange(min=0, min_open=True),
    default=COMPACTION_HOURS,
    show_default=True,
    help="After how long the registers forget what was replaced.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
def setup_kafka(
    broker: str | None,
    ksqldb_server: str | None,
    prefix: str | None,
    partitions: int | None,
    replication_factor: int | None,
    retention_hours: float | None,
    compaction_hours: float,
    dry_run: bool,
) -> None:
    """Make a factory's topics, streams and tables.

    The topics are on Kafka; the streams and tables on its ksqlDB, where there is one.

    What is there stays as it is, so it may be run again at any time. Where a topic that is there is not as it should
    be, the command that alters it is printed.

    Events that are older than --retention-hours are gone. Without a ksqlDB, so is what an asset said of itself only
    then: keep them for longer than an attribute stays as it is.
    """
    place = _place(broker, ksqldb_server, prefix)
    pieces: list[Piece] = []
    with _progress(len(TOPICS) + (len(statements()) if place.ksqldb_url else 0)) as advance:
        for piece in set_up_topics(
            place.kafka,
            prefix=place.prefix,
            partitions=partitions,
            replication_factor=replication_factor or -1,
            retention_hours=retention_hours,
            compaction_hours=compaction_hours,
            dry_run=dry_run,
        ):
            pieces.append(piece)
            advance(piece)
        for piece in _ksqldb_pieces(place, dry_run):
            pieces.append(piece)
            advance(piece)
    _report(pieces, place, dry_run)
    for warning in (*(text for one in pieces for text in one.warnings), *_advice(place)):
        click.echo(f"Warning: {warning}", err=True)


def _place(broker: str | None, ksqldb_server: str | None, prefix: str | None) -> Factory:
    """The servers that the options name, else the environment.

    Raises:
        Failure: no broker is named.
    """
    from openfactory.doctor.factory import Factory  # it knows every engine, which no other command needs

    url = environment("KSQLDB_URL") or ""
    named = Factory.of(url) if urlsplit(url).scheme in ("http", "https", "kafka") else None
    address = broker or (named.bootstrap_servers if named else environment("KAFKA_BROKER"))
    if not address:
        raise Failure("No Kafka broker is named. Give --broker host:9092, or set KAFKA_BROKER.")
    if ksqldb_server and urlsplit(ksqldb_server).scheme not in ("http", "https"):
        raise Failure(f"--ksqldb-server {ksqldb_server!r} is no address of a ksqlDB server. Write http://host:8088.")
    return Factory(
        url,
        named.credentials if named else Credentials.from_environment(),
        bootstrap_servers=address,
        ksqldb_url=ksqldb_server or (named.ksqldb_url if named else None),
        prefix=check_prefix(prefix) if prefix is not None else named.prefix if named else "",
    )


def _ksqldb_pieces(place: Factory, dry_run: bool) -> Iterator[Piece]:
    if place.ksqldb_url is None:
        return
    from openfactory.engines.ksqldb.server import KsqlDBServer

    # What it warns of while it asks again is the error in the end, or over.
    logging.getLogger("openfactory.ksqlDB").addHandler(logging.NullHandler())
    retention = {name: state.retention_ms for name, state in describe_topics(place.kafka, prefix=place.prefix).items()}
    with KsqlDBServer(
        place.ksqldb_url,
        max_retries=_RETRIES,
        retry_delay=_RETRY_SECONDS,
        timeout=_STATEMENT_SECONDS,
        credentials=place.credentials,
    ) as server:
        yield from set_up_ksqldb(server, prefix=place.prefix, retention_ms=retention, dry_run=dry_run)


def _advice(place: Factory) -> list[str]:
    """Settings of the ksqlDB that only who starts it can change; nothing where it does not tell them."""
    if place.ksqldb_url is None:
        return []
    from openfactory.doctor.ksqldb import examine_settings, ksqldb_server

    try:
        with ksqldb_server(place) as server:
            return [f"{one.found} {one.remedy}" for one in examine_settings(server) if one.status == "advice"]
    except OpenFactoryError:
        return []  # all that was asked for is made


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Piece], None]]:
    """A bar on a terminal, and nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda piece: bar.update(task, advance=1, description=f"{piece.kind} {piece.name}")


def _ignore(piece: Piece) -> None:
    """Nobody looks."""


def _report(pieces: list[Piece], place: Factory, dry_run: bool) -> None:
    made = "to be made" if dry_run else "made"
    print_table(("what", "name", "state"), [(one.kind, one.name, made if one.made else "was there") for one in pieces])
    new = sum(one.made for one in pieces)
    servers = place.bootstrap_servers if place.ksqldb_url is None else f"{place.bootstrap_servers} and its ksqlDB"
    click.echo(f"\n{new} {made}, {len(pieces) - new} were there, on {servers}.")
