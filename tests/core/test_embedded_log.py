"""The embedded engine's log: what a file keeps, what is trimmed, and what a subscriber that lags is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from logging import LogRecord
from pathlib import Path

import pytest

from openfactory.assets import Asset, AssetAttribute, AssetEvent
from openfactory.concurrency.file_lock import FileLock
from openfactory.engines import Engine, open_engine
from openfactory.engines.embedded import EmbeddedEngine
from openfactory.engines.embedded.checkpoints import Checkpoints
from openfactory.engines.embedded.database import FileDatabase
from openfactory.engines.embedded.files import lock_of
from openfactory.engines.embedded.insertion import insert_event
from openfactory.engines.embedded.location import EmbeddedLocation
from openfactory.events.event import new_event
from openfactory.kafka import CaseInsensitiveDict, KSQLDBClient

Eventually = Callable[..., None]


@pytest.fixture
def short(url: str) -> Iterator[Engine]:
    """An engine that keeps hardly anything."""
    with open_engine(f"{url}?keep_events=100") as reference:
        yield reference.engine


def write(engine: Engine, count: int, *, start: int = 0, timestamp: str | None = None) -> None:
    for n in range(start, start + count):
        engine.publish(new_event("MILL", "n", n, "Samples", "Test", timestamp))
        if n % 500 == 0:
            engine.flush()
    engine.flush()


def numbers(engine: Engine) -> list[object]:
    return [event.value for event in engine.history("MILL", "n", limit=100_000)]


def test_a_file_keeps_everything(file_url: str) -> None:
    engine = EmbeddedEngine(file_url)
    write(engine, 100)
    last = engine.snapshot(["MILL"])
    engine.close()
    engine = EmbeddedEngine(file_url)
    assert engine.snapshot(["MILL"]) == last
    assert numbers(engine) == list(range(100))
    assert engine.publish(new_event("MILL", "n", 100, "Samples", "Test")).wait() > last.position
    engine.close()


def test_memory_ends_with_its_engine() -> None:
    with open_engine("memory://short-lived") as reference:
        write(reference.engine, 1)
    with open_engine("memory://short-lived") as reference:
        assert reference.engine.snapshot().events == {}


def test_names_in_memory_are_apart() -> None:
    with open_engine("memory://one") as one, open_engine("memory://two") as two, open_engine("memory://") as nameless:
        write(one.engine, 1)
        assert two.engine.snapshot().events == nameless.engine.snapshot().events == {}


def test_the_log_is_trimmed_and_the_latest_values_are_not(short: Engine, eventually: Eventually) -> None:
    short.publish(new_event("MILL", "rare", "once", "Events", "Test"))
    write(short, 5000)
    eventually(lambda: len(numbers(short)) < 2500)
    kept = numbers(short)
    assert kept == list(range(5000 - len(kept), 5000))
    assert len(kept) >= 100
    latest = {event.id: event.value for event in short.snapshot(["MILL"]).events["MILL"]}
    assert latest == {"rare": "once", "n": 4999}
    assert short.query("SELECT value FROM assets WHERE id = 'rare'") == [{"VALUE": "once"}]
    assert [event.value for event in short.history("MILL", "rare")] == ["once"]


def test_positions_are_never_used_twice(file_url: str) -> None:
    newest = 0
    for start in range(0, 6000, 2000):
        engine = EmbeddedEngine(f"{file_url}?keep_events=1")
        write(engine, 2000, start=start)
        position = engine.snapshot(["MILL"]).position
        assert position == newest + 2000
        newest = position
        engine.close()


DAY = 86_400.0


@pytest.fixture
def turn_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Turns the clock of this machine by some days, back or forth."""
    turned = 0.0
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + turned)

    def turn(days: float) -> None:
        nonlocal turned
        turned += days * DAY

    return turn


def test_old_events_are_trimmed_by_the_time_of_their_commits(
    url: str, turn_clock: Callable[[float], None], eventually: Eventually
) -> None:
    with open_engine(f"{url}?keep_days=30") as reference:
        engine = reference.engine
        for start in (0, 2_000, 4_000):
            write(engine, 2_000, start=start)
            turn_clock(20)
        write(engine, 2_000, start=6_000)
        eventually(lambda: numbers(engine) == list(range(4_000, 8_000)))


@pytest.mark.parametrize("timestamp", ["0001-01-01T00:00:00.000Z", "1970-01-01T00:00:07.000Z", "2099-01-01T00:00:00Z"])
def test_the_clock_of_a_device_decides_nothing_about_how_long_events_stay(
    url: str, turn_clock: Callable[[float], None], eventually: Eventually, timestamp: str
) -> None:
    with open_engine(f"{url}?keep_days=30") as reference:
        engine = reference.engine
        for start in (0, 1_500):
            write(engine, 1_500, start=start, timestamp=timestamp)
        assert numbers(engine) == list(range(3_000))
        turn_clock(31)
        for start in (3_000, 4_000, 5_000):
            write(engine, 1_000, start=start, timestamp=timestamp)
        eventually(lambda: numbers(engine) == list(range(3_000, 6_000)))


@pytest.mark.parametrize("days", [-20_000, 20_000])
def test_a_clock_that_is_right_again_trims_by_the_right_time(
    url: str, turn_clock: Callable[[float], None], eventually: Eventually, days: float
) -> None:
    with open_engine(f"{url}?keep_days=30") as reference:
        engine = reference.engine
        write(engine, 1_000)
        turn_clock(days)
        write(engine, 1_000, start=1_000)
        turn_clock(-days)
        write(engine, 1_000, start=2_000)
        if days < 0:  # with a clock that is ahead, all seems old
            assert numbers(engine) == list(range(3_000))
        turn_clock(31)
        for start in (3_000, 4_000, 5_000):
            write(engine, 1_000, start=start)
        eventually(lambda: numbers(engine) == list(range(3_000, 6_000)))


def test_a_file_with_keep_days_can_be_opened_without_and_counts_on(
    file_url: str, turn_clock: Callable[[float], None], eventually: Eventually
) -> None:
    for options, start in (("", 0), ("?keep_days=30", 1_000), ("", 2_000)):
        with open_engine(file_url + options) as reference:
            write(reference.engine, 1_000, start=start)
    turn_clock(31)
    with open_engine(f"{file_url}?keep_days=30") as reference:
        for start in (3_000, 4_000):
            write(reference.engine, 1_000, start=start)
        eventually(lambda: len(numbers(reference.engine)) < 5_000)
        kept = numbers(reference.engine)
        assert kept == list(range(5_000 - len(kept), 5_000))
        assert len(kept) >= 2_000


@pytest.mark.parametrize(
    "options", ["keep_days=1000000", "keep_days=1e308", "keep_days=1e-9", "keep_events=1", "synchronous=full"]
)
def test_no_option_makes_writing_fail(url: str, options: str) -> None:
    """Housekeeping never fails what has been written."""
    with open_engine(f"{url}?{options}") as reference:
        write(reference.engine, 2500)
        assert reference.engine.health().counters["failed"] == 0
        assert [event.value for event in reference.engine.snapshot(["MILL"]).events["MILL"]] == [2499]


def test_a_subscriber_behind_the_log_is_told_and_goes_on_from_where_it_read(
    short: Engine, eventually: Eventually
) -> None:
    write(short, 5000)
    eventually(lambda: len(numbers(short)) < 2500)
    gaps: list[int] = []
    heard: list[object] = []

    def read_again() -> int:
        gaps.append(short.snapshot(["MILL"]).position)
        return gaps[-1]

    short.subscribe("MILL", lambda event: heard.append(event.value), read_again, from_position=10)
    write(short, 10, start=5000)
    eventually(lambda: 5009 in heard)
    assert len(gaps) == 1
    assert heard == list(range(5000, 5010))


def test_a_subscriber_behind_the_log_that_cannot_read_again_hears_what_is_left(
    short: Engine, eventually: Eventually
) -> None:
    write(short, 5000)
    eventually(lambda: len(numbers(short)) < 2500)
    heard: list[int] = []
    short.subscribe(None, lambda event: None)  # the engine follows the log already
    short.subscribe("MILL", lambda event: heard.append(event.value), from_position=0)
    write(short, 1, start=5000)
    eventually(lambda: 5000 in heard)
    assert heard == list(range(heard[0], 5001))
    assert 100 <= len(heard) < 2500


def test_a_subscriber_that_fails_to_read_again_stops_nobody(
    short: Engine, eventually: Eventually, logged: list[LogRecord]
) -> None:
    write(short, 5000)
    eventually(lambda: len(numbers(short)) < 2500)

    def fail() -> int:
        raise RuntimeError("on purpose")

    heard: list[object] = []
    short.subscribe("MILL", lambda event: None, fail, from_position=10)
    short.subscribe("MILL", lambda event: heard.append(event.value))
    write(short, 1, start=5000)
    eventually(lambda: heard)
    assert any(record.exc_info for record in logged)


def test_an_asset_that_lags_gets_the_latest_values_and_a_line(
    short: Engine, url: str, eventually: Eventually, logged: list[LogRecord]
) -> None:
    go_on, blocked = threading.Event(), threading.Event()

    def hold_up(event: AssetEvent) -> None:
        blocked.set()
        go_on.wait(60)

    heard: list[tuple[str, object]] = []

    def note(subject: str, message: CaseInsensitiveDict) -> None:
        heard.append((subject, message["VALUE"]))

    with Asset("MILL", KSQLDBClient(f"{url}?keep_events=100")) as mill:
        mill.add_attribute(AssetAttribute(id="rare", value="before", type="Events", tag="Test"))
        mill.add_attribute(AssetAttribute(id="same", value="as ever", type="Events", tag="Test"))
        short.publish(new_event("MILL", "n", -1, "Samples", "Test"))
        eventually(lambda: "n" in mill)
        mill.subscribe_to_messages(note)
        short.subscribe("OTHER", hold_up)
        short.publish(new_event("OTHER", "x", 1, "Events", "Test"))
        blocked.wait(10)
        short.publish(new_event("MILL", "rare", "meanwhile", "Events", "Test"))
        write(short, 5000)
        eventually(lambda: len(numbers(short)) < 2500)
        go_on.set()
        eventually(lambda: ("MILL.n", 4999) in heard)
        assert (mill.rare.value, mill.same.value, mill.n.value) == ("meanwhile", "as ever", 4999)
    assert ("MILL.rare", "meanwhile") in heard
    assert ("MILL.same", "as ever") not in heard
    counted = [value for subject, value in heard if subject == "MILL.n"]
    assert counted == sorted(set(counted), key=int)  # type: ignore[arg-type]
    assert any("lags" in record.getMessage() and "keep_events" in record.getMessage() for record in logged)


def test_the_file_is_one_that_sqlite_tools_can_read(file_url: str, tmp_path: Path) -> None:
    engine = EmbeddedEngine(file_url)
    write(engine, 3)
    engine.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factory.db", "factory.db.lock", "factory.db.wake"]
    assert list((tmp_path / "factory.db.wake").iterdir()) == []


def test_the_upkeep_takes_the_lock_after_a_step_only_for_a_checkpoint(tmp_path: Path) -> None:
    database = FileDatabase(EmbeddedLocation.of(f"sqlite:///{tmp_path}/factory.db"))
    with database.writing() as connection:
        for _ in range(30):
            insert_event(connection, new_event("MILL", "image", "x" * 200_000, "Events", "Test"))
    checkpoints, before = Checkpoints(database.path), database.path.stat().st_size
    lock = FileLock(lock_of(database.path))
    with lock:  # as another process holds it for a commit
        step = threading.Thread(target=checkpoints.after_step, args=(database, 1_999))
        step.start()
        step.join(30)
        assert not step.is_alive()
    lock.close()
    assert database.path.stat().st_size == before
    checkpoints.after_step(database, 1)
    assert database.path.stat().st_size > before + 6_000_000
    database.close(5)
