"""`ofa db`: the file of a factory: facts, bounds, backup, restore and compaction."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openfactory.apps.cli.failure import Failure
from openfactory.apps.cli.options import json_option, url_option
from openfactory.apps.cli.output import print_json, print_table
from openfactory.apps.cli.progress import shown_progress
from openfactory.apps.cli.target import default_url, file_of, require_file
from openfactory.engines.embedded.files import size_text
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.settings.redaction import redacted

if TYPE_CHECKING:
    from openfactory.engines.embedded.database import FileDatabase
    from openfactory.engines.embedded.inspection import DatabaseFacts

__all__ = ["db"]

# Number of attributes that a table lists.
_LISTED = 10

# Seconds to wait for the lock at the end.
_CLOSE_SECONDS = 5.0


@click.group()
def db() -> None:
    """Look after the file of a factory.

    The commands work on the file that KSQLDB_URL names; if it is not set, on factory.db in the working directory.
    Commands that take long show their progress on a terminal.
    """


@db.command()
@url_option
@json_option
def info(url: str | None, as_json: bool) -> None:
    """Show the size of the file, its events, and the bounds of its log.

    The attributes with the most events are listed; --json lists all.

    \b
    --json: {"file", "schema", "bytes", "wal_bytes", "free_bytes", "samples", "events", "indexed",
             "oldest", "newest", "bounds": {"keep_events", "keep_days", "keep_samples", "keep_samples_days"},
             "bounds_set_by", "processes", "attributes": [{"asset_uuid", "id", "kind", "events"}, …]}
    with "oldest" and "newest" as {"position", "timestamp"} or null, "bounds_set_by" as {"pid", "host", "at"} or null,
    and "processes" as the ids of the processes that have the file open, 0 for an unknown one
    """
    from openfactory.engines.embedded.exclusion import processes_of
    from openfactory.engines.embedded.inspection import facts_of

    location, path = _file(url)
    processes = processes_of(path)
    with _opened(location) as database:
        facts = facts_of(database)
    if as_json:
        print_json(_as_json(path, facts, processes))
    else:
        _print(path, facts, processes)


@db.command()
@click.option("--keep-events", type=click.IntRange(min=1), help="Number of events to keep, as in the URL.")
@click.option("--keep-days", type=click.FloatRange(min=0, min_open=True), help="Days of events to keep.")
@click.option("--keep-samples", type=click.IntRange(min=1), help="Number of samples to keep.  [default: --keep-events]")
@click.option(
    "--keep-samples-days",
    type=click.FloatRange(min=0, min_open=True),
    help="Days of samples to keep.  [default: --keep-days]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@url_option
@json_option
def prune(
    keep_events: int | None,
    keep_days: float | None,
    keep_samples: int | None,
    keep_samples_days: float | None,
    dry_run: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Remove the events that exceed the bounds, now.

    Bounds that are not given are those of the file. They are applied once, and not stored. The attributes with the most
    events lose their oldest; the last event of each attribute always stays. Apps may go on writing.

    \b
    --json: {"dry_run", "removed", "bounds": {…}, "attributes": [{"asset_uuid", "id", "events"}, …]}
    with "bounds" as in `ofa db info --json`
    """
    from openfactory.engines.embedded.bounds import Bounds, bounds_of, read_bounds
    from openfactory.engines.embedded.pruning import excess_of
    from openfactory.engines.embedded.pruning import prune as prune_database

    location, path = _file(url)
    with _opened(location) as database, shown_progress() as progress:
        with database.reading() as connection:
            bounds = location.bounds or bounds_of(read_bounds(connection))
        bounds = Bounds(
            keep_events or bounds.events,
            keep_days or bounds.days,
            keep_samples or keep_events or bounds.samples,
            keep_samples_days or keep_days or bounds.samples_days,
        )
        excess = excess_of(database, bounds, progress)
        removed = excess.total if dry_run else prune_database(database, excess, progress)
    rows = sorted(((*attribute, count) for attribute, count in excess.counts.items()), key=lambda row: -row[2])
    if as_json:
        attributes = [dict(zip(("asset_uuid", "id", "events"), row, strict=True)) for row in rows]
        print_json({"dry_run": dry_run, "removed": removed, "bounds": bounds.options(), "attributes": attributes})
        return
    click.echo(f"{removed:,} events {'would be' if dry_run else 'are'} removed from {path}, with {bounds}.")
    if rows:
        click.echo()
        print_table(("uuid", "id", "events"), [(row[0], row[1], f"{row[2]:,}") for row in rows[:_LISTED]])
        _print_rest(len(rows))


@db.command()
@click.argument("target", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@url_option
def backup(target: Path, url: str | None) -> None:
    """Copy the factory to FILE, as it is at this moment.

    Apps may go on writing. The copy is checked before it gets its name. An existing FILE is not overwritten.
    """
    from openfactory.engines.embedded.copies import back_up

    _, path = _file(url)
    with shown_progress() as progress:
        size = back_up(path, target.absolute(), progress)
    click.echo(f"{path} is copied to {target}: {size_text(size)}, checked.")


@db.command()
@click.argument("source", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@url_option
def restore(source: Path, url: str | None) -> None:
    """Put the backup FILE in the place of the factory.

    Stop all apps and tools that use the factory first: while one has its file open, nothing is changed. The backup is
    checked, and stays where it is. The former file of the factory is kept beside it under another name.
    """
    from openfactory.engines.embedded.copies import restore as restore_database

    _, path = _file(url, must_exist=False)
    with shown_progress() as progress:
        aside = restore_database(path, source.absolute(), progress)
    kept = "" if aside is None else f" The former file is {aside.name}; remove it when you do not need it any more."
    click.echo(f"{path} is restored from {source}.{kept}")


@db.command()
@url_option
def compact(url: str | None) -> None:
    """Write the file anew without its free pages, so that it becomes as small as its content.

    Stop all apps and tools that use the factory first. While apps run, it is not needed: they write new events to the
    free pages. The disk needs space for the new file beside the old one.
    """
    from openfactory.engines.embedded.copies import compact as compact_database

    _, path = _file(url)
    with shown_progress() as progress:
        before, after = compact_database(path, progress)
    click.echo(f"{path} had {size_text(before)} and has {size_text(after)}.")


def _file(url: str | None, *, must_exist: bool = True) -> tuple[EmbeddedLocation, Path]:
    """Return the location of a factory in a file, and the file.

    Raises:
        Failure: the URL does not name a file, or the file does not exist.
        ConfigurationError: the URL is not valid.
    """
    url = url or default_url()
    path = file_of(url)
    if path is None:
        raise Failure(
            f"{redacted(url)} is not a file. `ofa db` works on factories in a file: --url sqlite:///factory.db. "
            "For a Kafka, use the tools of its brokers."
        )
    if must_exist:
        require_file(path)
    return EmbeddedLocation.of(url), path


@contextmanager
def _opened(location: EmbeddedLocation) -> Generator[FileDatabase]:
    from openfactory.engines.embedded.database import FileDatabase

    database = FileDatabase(location)
    try:
        yield database
    finally:
        database.close(_CLOSE_SECONDS)


def _as_json(path: Path, facts: DatabaseFacts, processes: list[int]) -> dict[str, Any]:
    ends = {
        name: None if end is None else dict(zip(("position", "timestamp"), end, strict=True))
        for name, end in (("oldest", facts.oldest), ("newest", facts.newest))
    }
    stored = facts.origin
    return {
        "file": str(path),
        "schema": facts.schema,
        "bytes": facts.size,
        "wal_bytes": facts.wal,
        "free_bytes": facts.free,
        "samples": facts.samples,
        "events": facts.events,
        "indexed": facts.indexed,
        **ends,
        "bounds": facts.bounds.options(),
        "bounds_set_by": None if stored is None else {"pid": stored.pid, "host": stored.host, "at": stored.at},
        "processes": processes,
        "attributes": [one._asdict() for one in facts.attributes],
    }


def _print(path: Path, facts: DatabaseFacts, processes: list[int]) -> None:
    newest = facts.newest[0] if facts.newest else 0
    part = facts.indexed / newest if newest else 1.0
    others = ", ".join(str(process) if process else "unknown" for process in processes)
    rows = [
        ("file", str(path)),
        ("size", f"{size_text(facts.size)}, of which {size_text(facts.free)} are free for new events"),
        ("WAL", size_text(facts.wal)),
        ("schema", f"version {facts.schema}"),
        ("samples", f"{facts.samples:,}"),
        ("events", f"{facts.events:,}"),
        ("attributes", f"{len(facts.attributes):,}"),
        *((name, f"{end[1]} at position {end[0]:,}") for name, end in _ends(facts)),
        ("history index", f"{part:.0%} of the positions; apps complete it while they run"),
        ("bounds", f"{facts.bounds}, {f'from {facts.origin.origin}' if facts.origin else 'the default'}"),
        ("open in", f"processes {others}" if others else "no other process"),
    ]
    print_table(("fact", "value"), rows)
    if facts.attributes:
        click.echo()
        top = [(one.asset_uuid, one.id, one.kind, f"{one.events:,}") for one in facts.attributes[:_LISTED]]
        print_table(("uuid", "id", "kind", "events"), top)
        _print_rest(len(facts.attributes))


def _ends(facts: DatabaseFacts) -> list[tuple[str, tuple[int, str]]]:
    return [(name, end) for name, end in (("oldest", facts.oldest), ("newest", facts.newest)) if end]


def _print_rest(number: int) -> None:
    if number > _LISTED:
        click.echo(f"and {number - _LISTED:,} more; --json lists all")
