"""Retention by attribute and kind, and histories of one attribute, whatever part of the log is indexed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from logging import LogRecord
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openfactory.engines import Engine, open_engine
from openfactory.engines.embedded import EmbeddedEngine, upkeep
from openfactory.engines.embedded.bounds import Bounds
from openfactory.engines.embedded.database import MemoryDatabase
from openfactory.engines.embedded.insertion import insert_event
from openfactory.engines.embedded.position_index import extend_index
from openfactory.engines.embedded.queries import read_history
from openfactory.engines.embedded.removal import Removal, cutoffs_of, share_of_each, too_old
from openfactory.engines.shared import HistoryQuery
from openfactory.events.event import AssetEvent, new_event
from openfactory.events.period import Period

Eventually = Callable[..., None]

# Attributes whose number is odd are samples.
WRITES = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=80)

TIMES = [
    "2026-11-21T08:30:00.000Z",
    "2026-11-21T08:31:00.000Z",
    "2026-11-21T08:32:00.000Z",
    "2026-11-21T09:31:00+01:00",  # the second again
    "2026-11-21 08:31:30",
    "no time",
    "2026-11-21T08:3x:00.000Z",
]


def database_of(writes: list[tuple[int, bool]], times: list[str] = TIMES[:1]) -> MemoryDatabase:
    """A database with events, indexed after those of which it is said."""
    database = MemoryDatabase()
    for number, (attribute, is_indexed) in enumerate(writes):
        kind = "Samples" if attribute % 2 else "Events"
        with database.writing() as connection:
            insert_event(connection, new_event("MILL", f"a{attribute}", number, kind, "T", times[number % len(times)]))
        if is_indexed:
            extend_index(database, 1 + number % 7)
    return database


def rows(database: MemoryDatabase) -> list[tuple[str, int]]:
    with database.reading() as connection:
        return connection.execute("SELECT attr, CAST(value AS INTEGER) FROM log ORDER BY id").fetchall()


def apply(database: MemoryDatabase, bounds: Bounds, most: int, old: tuple[int, int] | None = None) -> None:
    while extend_index(database, 50):
        pass
    with database.reading() as connection:
        cutoffs = cutoffs_of(connection, bounds, old or too_old(connection, bounds))
        removal = Removal(connection, cutoffs)
    while removal:
        removal.step(database, most)


def query(
    database: MemoryDatabase,
    attribute: str | None,
    limit: int = 1_000,
    since: str | None = None,
    until: str | None = None,
) -> list[AssetEvent]:
    period = Period.of(since, until)
    with database.reading() as connection:
        return read_history(connection, HistoryQuery("MILL", attribute, None, period, limit))


@given(writes=WRITES, events=st.integers(1, 40), samples=st.integers(1, 40), most=st.integers(1, 9))
def test_no_more_is_removed_than_the_bounds_tell_and_no_last_value(
    writes: list[tuple[int, bool]], events: int, samples: int, most: int
) -> None:
    database = database_of(writes)
    before = rows(database)
    for _ in range(2):  # the second time there is nothing to do
        apply(database, Bounds(events, None, samples, None), most)
        after = rows(database)
        for is_sample, number in ((1, samples), (0, events)):
            counts = Counter(attribute for attribute, _ in before if int(attribute[1]) % 2 == is_sample)
            kept = Counter(attribute for attribute, _ in after if int(attribute[1]) % 2 == is_sample)
            assert min(number, counts.total()) <= kept.total() <= number + number // 10 + len(counts)
            share = share_of_each(counts.values(), number)
            for attribute in counts:
                values = [value for name, value in before if name == attribute]
                left = [value for name, value in after if name == attribute]
                assert left == values[len(values) - len(left) :]  # the oldest go
                assert len(left) >= max(1, min(share, len(values)))
                assert [event.value for event in query(database, attribute)] == left
    with database.reading() as connection:
        assert connection.execute("SELECT count(*) FROM latest JOIN log USING (id)").fetchone() == (
            len({attribute for attribute, _ in before}),
        )


@given(writes=WRITES, more=WRITES, most=st.integers(1, 9))
def test_the_last_value_stays_until_the_next_when_all_events_are_too_old(
    writes: list[tuple[int, bool]], more: list[tuple[int, bool]], most: int
) -> None:
    database = database_of(writes)
    for further in ([], more):
        for attribute, _ in further:
            kind = "Samples" if attribute % 2 else "Events"
            with database.writing() as connection:
                insert_event(connection, new_event("MILL", f"a{attribute}", -1, kind, "T"))
        last = dict(rows(database))
        apply(database, Bounds(), most, (10_000, 10_000))
        assert sorted(rows(database)) == sorted(last.items())
        for attribute_id, value in last.items():
            assert [event.value for event in query(database, attribute_id)] == [value]


@given(
    writes=WRITES,
    times=st.lists(st.sampled_from(TIMES), min_size=1, max_size=9),
    since=st.none() | st.sampled_from(TIMES[:4]),
    until=st.none() | st.sampled_from(TIMES[:4]),
    limit=st.integers(1, 30),
)
def test_a_history_is_the_same_whatever_is_indexed(
    writes: list[tuple[int, bool]], times: list[str], since: str | None, until: str | None, limit: int
) -> None:
    database = database_of(writes, times)
    everything = query(database, None)
    period = Period.of(since, until)
    for attribute in ("a0", "a1", "absent"):
        expected = [one for one in everything if one.id == attribute and period.contains(one.timestamp)]
        assert query(database, attribute, limit, since=since, until=until) == expected[-limit:]


@given(counts=st.lists(st.integers(1, 50), max_size=8), number=st.integers(1, 200))
def test_the_share_of_each_is_the_least_that_keeps_the_number(counts: list[int], number: int) -> None:
    share = share_of_each(counts, number)
    kept = [sum(min(count, each) for count in counts) for each in (share, share - 1)]
    assert kept[0] >= min(number, sum(counts))
    assert kept[1] < min(number, sum(counts)) or not counts


def test_a_row_of_a_foreign_program_that_is_not_utf8_stops_no_upkeep() -> None:
    database = database_of([(1, False)] * 50)
    with database.writing() as connection:
        connection.execute("""
            INSERT INTO log VALUES (90, CAST(x'ff' AS TEXT), CAST(x'fe' AS TEXT), '1', 'Samples', 't', 't', NULL)
        """)
    apply(database, Bounds(5, None, 5, None), 10)
    assert len(query(database, "a1")) < 20


DISK_FULL = "CREATE TRIGGER disk_full BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
UNREADABLE = "UPDATE positions SET distances = 'x' || distances WHERE last = (SELECT max(last) FROM positions)"


@pytest.mark.parametrize(
    ("fault", "mend", "steps"),
    [
        (DISK_FULL, "DROP TRIGGER disk_full", 0),
        (DISK_FULL, "DROP TRIGGER disk_full", 2),
        (DISK_FULL, "DROP TRIGGER disk_full", 4),
        (UNREADABLE, "UPDATE positions SET distances = trim(distances, 'x')", 0),
    ],
    ids=["first step", "middle step", "last step", "choice"],
)
def test_a_step_of_a_removal_that_has_failed_is_made_up_for(fault: str, mend: str, steps: int) -> None:
    database = database_of([(1, False)] * 100)
    while extend_index(database, 50):
        pass
    with database.reading() as connection:
        removal = Removal(connection, cutoffs_of(connection, Bounds(10, None, 10, None), (0, 0)))
    for _ in range(steps):
        assert removal.step(database, 20) == 20
    with database.writing() as connection:
        connection.execute(fault)
    for _ in range(2):
        with pytest.raises((sqlite3.IntegrityError, msgspec.DecodeError)):
            removal.step(database, 20)
    with database.writing() as connection:
        connection.execute(mend)
    while removal:
        removal.step(database, 20)
    assert [value for _, value in rows(database)] == [event.value for event in query(database, "a1")]
    assert len(rows(database)) == 10


@pytest.fixture
def quick_upkeep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time between two looks of the upkeep, which is 20 seconds."""
    monkeypatch.setattr(upkeep, "_SECONDS_BETWEEN_LOOKS", 0.05)


def write(engine: Engine, attribute: str, count: int, kind: str = "Samples") -> None:
    for number in range(count):
        engine.publish(new_event("MILL", attribute, number, kind, "Test"))
        if number % 500 == 0:
            engine.flush()
    engine.flush()


def number_of(engine: Engine, attribute: str) -> int:
    return len(engine.history("MILL", attribute, limit=100_000))


def test_a_chatty_sample_deletes_no_notes_and_no_samples_of_its_neighbours(url: str, eventually: Eventually) -> None:
    with open_engine(f"{url}?keep_events=1000&keep_samples=300") as reference:
        engine = reference.engine
        write(engine, "note", 400, "Events")
        write(engine, "rare", 50)
        write(engine, "chatty", 5_000)
        eventually(lambda: number_of(engine, "chatty") < 2_500)
        assert (number_of(engine, "note"), number_of(engine, "rare")) == (400, 50)


@pytest.mark.usefixtures("quick_upkeep")
def test_lower_bounds_take_effect_while_nothing_is_written(file_url: str, eventually: Eventually) -> None:
    with open_engine(file_url) as reference:
        write(reference.engine, "chatty", 5_000)
        write(reference.engine, "note", 10, "Events")
    with open_engine(f"{file_url}?keep_samples=200") as reference:
        eventually(lambda: number_of(reference.engine, "chatty") == 200)
        assert number_of(reference.engine, "note") == 10


@pytest.mark.thorough
def test_lower_bounds_take_effect_within_a_minute(file_url: str, eventually: Eventually) -> None:
    with open_engine(file_url) as reference:
        write(reference.engine, "chatty", 5_000)
    with open_engine(f"{file_url}?keep_samples=200") as reference:
        eventually(lambda: number_of(reference.engine, "chatty") == 200, timeout=60)


@pytest.mark.usefixtures("quick_upkeep")
def test_the_bounds_of_the_process_that_opened_the_file_last_count_for_all(
    file_url: str, eventually: Eventually, logged: list[LogRecord]
) -> None:
    def lines(text: str) -> list[str]:
        return [record.getMessage() for record in logged if text in record.getMessage()]

    first, other = EmbeddedEngine(f"{file_url}?keep_events=900"), EmbeddedEngine(file_url)
    write(first, "chatty", 900)
    assert not lines("bounds")
    second = EmbeddedEngine(f"{file_url}?keep_events=50&keep_days=9")
    eventually(lambda: number_of(other, "chatty") == 50)
    [now] = lines("are now keep_events=50&keep_days=9&keep_samples=50&keep_samples_days=9")
    assert "keep_events=900" in now
    assert now.endswith("Give all processes the same options in KSQLDB_URL.")
    eventually(lambda: len(lines("do not count")) == 1)
    for engine in (first, second, other):
        engine.close()
    with open_engine(file_url) as reference:  # without bounds of its own, it follows those of the file
        write(reference.engine, "chatty", 3_000)
        eventually(lambda: number_of(reference.engine, "chatty") < 1_000)


FORMER = """
DROP TABLE positions;
DROP TABLE indexed;
DROP TABLE bounds;
DROP TABLE committed;
CREATE TRIGGER drop_superseded AFTER UPDATE ON latest WHEN old.id <= (SELECT up_to FROM trimmed) BEGIN
    DELETE FROM log WHERE id = old.id;
END;
UPDATE trimmed SET up_to = 500;
DELETE FROM log WHERE id BETWEEN 2 AND 500;
PRAGMA user_version = 2;
"""


@pytest.mark.usefixtures("quick_upkeep")
def test_a_file_of_the_former_version_is_opened_and_indexed_while_it_is_used(
    tmp_path: Path, file_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_INDEXED_AT_REST", 100)
    with open_engine(file_url) as reference:
        write(reference.engine, "rare", 1, "Events")
        write(reference.engine, "chatty", 2_000)
    with closing(sqlite3.connect(tmp_path / "factory.db", isolation_level=None)) as connection:
        connection.executescript(FORMER)

    def indexed() -> Any:
        with closing(sqlite3.connect(tmp_path / "factory.db")) as connection:
            return connection.execute("SELECT up_to FROM indexed").fetchone()[0]

    with open_engine(file_url) as reference:
        engine = reference.engine
        assert (number_of(engine, "rare"), number_of(engine, "chatty")) == (1, 1_501)
        eventually(lambda: indexed() > 1_900)
        assert (number_of(engine, "rare"), number_of(engine, "chatty")) == (1, 1_501)
        write(engine, "rare", 1, "Events")
        assert number_of(engine, "rare") == 2
