"""The embedded engine when writing fails or cannot go on: everything is reported, and nothing is forgotten."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import LogRecord
from pathlib import Path

import pytest

from openfactory.assets import Asset, AssetAttribute, AssetEvent
from openfactory.engines import Engine
from openfactory.engines.embedded import EmbeddedEngine
from openfactory.engines.embedded.insertion import write_batch
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import DeliveryError, DeliveryTimeout, EngineUnavailableError
from openfactory.kafka import KSQLDBClient

Eventually = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "factory.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = EmbeddedEngine(f"sqlite:///{path}")
    yield engine
    engine.close()


def event(value: object, id: str = "x") -> AssetEvent:
    return new_event("MILL", id, value, "Events", "Test")


def values(engine: Engine) -> list[object]:
    return [event.value for event in engine.history("MILL", "x", limit=100_000)]


def foreign_tool(path: Path, sql: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


def refuse_bad_values(path: Path) -> None:
    """From now on an event whose value is "bad" cannot be written."""
    refuse = "BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END"
    foreign_tool(path, f"CREATE TRIGGER refuse BEFORE INSERT ON log WHEN new.value = '\"bad\"' {refuse}")


@contextmanager
def lock_held(path: Path) -> Iterator[int]:
    """Let another process, of another program, hold the lock. Yield its id."""
    hold = "import fcntl, sys; lock = open(sys.argv[1]); fcntl.flock(lock, fcntl.LOCK_EX); print(); sys.stdin.read()"
    command = [sys.executable, "-u", "-S", "-c", hold, f"{path}.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield holder.pid
        finally:
            holder.stdin.close()


def test_an_event_that_fails_is_reported_by_its_receipt_and_by_the_flush(
    engine: Engine, path: Path, logged: list[LogRecord]
) -> None:
    refuse_bad_values(path)
    receipt = engine.publish(event("bad"))
    with pytest.raises(DeliveryError, match="refused on purpose") as caught:
        receipt.wait()
    assert [event.value for event in caught.value.events] == ["bad"]
    assert receipt.settled
    assert receipt.error is caught.value
    assert receipt.position is None
    with pytest.raises(DeliveryError, match=r"1 events? .*MILL\.x.*refused on purpose") as caught:
        engine.flush()
    assert [event.value for event in caught.value.events] == ["bad"]
    assert ["MILL.x" in record.getMessage() for record in logged] == [True]
    assert engine.health().counters["failed"] == 1


def test_after_a_failure_is_told_writing_goes_on(engine: Engine, path: Path) -> None:
    refuse_bad_values(path)
    engine.publish(event("bad"))
    with pytest.raises(DeliveryError):
        engine.flush()
    engine.publish(event("good"))
    engine.flush()
    assert values(engine) == ["good"]


def test_a_close_reports_what_could_not_be_written(path: Path) -> None:
    engine = EmbeddedEngine(f"sqlite:///{path}")
    refuse_bad_values(path)
    engine.publish(event("bad"))
    with pytest.raises(DeliveryError, match="refused on purpose"):
        engine.close()
    engine.close()


def test_a_failed_write_of_an_attribute_is_taken_back(path: Path, eventually: Eventually) -> None:
    with Asset("MILL", KSQLDBClient(f"sqlite:///{path}")) as mill:
        mill.add_attribute(AssetAttribute(id="x", value="good", type="Events", tag="Test"))
        refuse_bad_values(path)
        mill.x = "bad"
        eventually(lambda: mill.x.value == "good")
        with pytest.raises(DeliveryError, match=r"MILL\.x"):
            mill.flush()
        with pytest.raises(DeliveryError):
            mill.add_attribute(AssetAttribute(id="y", value="bad", type="Events", tag="Test"))
        assert mill.y.value == "UNAVAILABLE"
        assert "y" not in mill
        with pytest.raises(DeliveryError):
            mill.flush()


def test_publishing_does_not_wait_for_the_disk(engine: Engine, path: Path) -> None:
    with lock_held(path):
        receipts = [engine.publish(event(n)) for n in range(1000)]
        assert engine.health().queued == 1000
        assert not any(receipt.settled for receipt in receipts)
    engine.flush()
    assert values(engine) == list(range(1000))


def test_what_is_not_acknowledged_in_time_is_a_timeout_that_names_the_holder(
    engine: Engine, path: Path, eventually: Eventually
) -> None:
    engine.publish(event("first")).wait()
    with lock_held(path) as holder:
        receipt = engine.publish(event("waits"))
        eventually(lambda: not engine.health().connected)
        assert f"process {holder} holds factory.db.lock" in engine.health().reason
        with pytest.raises(DeliveryTimeout, match=r"1 published events? .*holds factory\.db\.lock") as caught:
            engine.flush(timeout=0.05)
        assert caught.value.pending == 1
        with pytest.raises(DeliveryTimeout, match=r"0\.05 s"):
            receipt.wait(timeout=0.05)
    engine.flush()
    assert values(engine) == ["first", "waits"]
    assert engine.health().connected


def test_a_close_that_cannot_write_says_so_in_time(path: Path) -> None:
    engine = EmbeddedEngine(f"sqlite:///{path}")
    with lock_held(path):
        engine.publish(event("waits"))
        started = time.monotonic()
        with pytest.raises(DeliveryTimeout, match=r"1 published events? "):
            engine.close(timeout=0.3)
        assert time.monotonic() - started < 20


def test_a_full_queue_makes_publish_wait(engine: Engine, path: Path, eventually: Eventually) -> None:
    text = "x" * 240 * 1024  # 300 of them are more than the 64 MiB that may wait

    def write() -> None:
        for _ in range(300):
            engine.publish(event(text))

    writer = threading.Thread(target=write)
    with lock_held(path):
        writer.start()
        eventually(lambda: engine.health().queued * len(text) > 63 * 2**20)
        writer.join(0.3)
        assert writer.is_alive()
        assert engine.health().queued * len(text) < 66 * 2**20
    writer.join(30)
    assert not writer.is_alive()
    engine.flush(60)
    assert len(values(engine)) == 300


@pytest.mark.parametrize("registers", [False, True], ids=["event", "registration"])
def test_a_full_disk_is_named(engine: Engine, path: Path, registers: bool) -> None:
    assert isinstance(engine, EmbeddedEngine)
    engine.publish(event("before it")).wait()
    with engine._database.writing() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 10}")  # as on a disk without room
    if registers:  # several statements in one transaction, which SQLite itself ends
        engine.register(Registration("MILL", "Device", uns_id="ACME/mill", uns_levels={"x": "y" * 200_000}))
    else:
        engine.publish(event("x" * 200_000))
    with pytest.raises(DeliveryError, match=r"The disk of .*factory\.db is full\. Free space on it"):
        engine.flush()
    engine.publish(event("after it")).wait()
    assert values(engine) == ["before it", "after it"]


def test_a_watcher_that_cannot_be_woken_is_told_and_can_try_again(engine: Engine, path: Path) -> None:
    folder = path.with_name("factory.db.wake")
    shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(EngineUnavailableError, match=r"factory\.db cannot be watched \(.*\)\. Name a file in"):
            engine.subscribe("MILL", lambda _: None)
    folder.mkdir()
    engine.subscribe("MILL", lambda _: None).close()


def remove(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


@pytest.mark.parametrize("lose", [remove, replace])
@pytest.mark.parametrize("part", ["", "-wal", "-shm", ".lock"])
def test_no_write_is_acknowledged_after_a_file_of_the_database_was_lost(
    engine: Engine, path: Path, part: str, lose: Callable[[Path], None]
) -> None:
    engine.publish(event("written")).wait()
    lose(Path(f"{path}{part}"))
    receipt = engine.publish(event("lost"))
    with pytest.raises(DeliveryError, match=rf"factory\.db{part}.* was removed or replaced while it was open\. Stop"):
        engine.flush()
    assert isinstance(receipt.error, DeliveryError)
    assert not engine.health().connected
    assert f"factory.db{part}" in engine.health().reason
    engine.publish(event("lost, too"))
    with pytest.raises(DeliveryError, match="was removed or replaced while it was open"):
        engine.flush()


def test_no_write_is_acknowledged_after_the_wal_was_truncated(engine: Engine, path: Path) -> None:
    for n in range(50):
        engine.publish(event(n)).wait()
    os.truncate(f"{path}-wal", 0)
    engine.publish(event("lost"))
    with pytest.raises(DeliveryError, match=r"a part of factory\.db, was removed or replaced while it was open"):
        engine.flush()


def test_a_file_that_is_lost_during_a_commit_fails_it(
    engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.publish(event("written")).wait()

    def write_and_lose(*arguments: object) -> object:
        runs = write_batch(*arguments)  # type: ignore[arg-type]
        Path(f"{path}-wal").unlink()
        return runs

    monkeypatch.setattr("openfactory.engines.embedded.writer.write_batch", write_and_lose)
    engine.publish(event("lost"))
    with pytest.raises(DeliveryError, match="was removed or replaced while it was open"):
        engine.flush()


def test_other_files_in_the_folder_change_nothing(engine: Engine, path: Path) -> None:
    for n in range(20):
        (path.parent / f"{n}.txt").write_text("a note")
        engine.publish(event(n)).wait()
    for n in range(20):
        (path.parent / f"{n}.txt").unlink()
        engine.publish(event(n)).wait()
    assert engine.health().connected


def test_a_foreign_tool_that_writes_for_a_moment_costs_nothing(engine: Engine, path: Path) -> None:
    tool = sqlite3.connect(path, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    receipt = engine.publish(event("waits"))
    with pytest.raises(DeliveryTimeout):
        receipt.wait(0.2)
    tool.execute("COMMIT")
    tool.close()
    receipt.wait()
    assert values(engine) == ["waits"]


@pytest.mark.parametrize(
    "value", ["'{no JSON'", "x'00ff'", "NULL", "NaN", "'NaN'"], ids=["no JSON", "blob", "null", "name", "NaN"]
)
def test_a_foreign_tool_cannot_write_what_is_no_event(engine: Engine, path: Path, value: str) -> None:
    row = f"VALUES ('ROBOT', 'x', {value}, 'Events', 'Test', '2026-11-21T07:30:00.000Z')"
    with pytest.raises(sqlite3.Error):
        foreign_tool(path, f"INSERT INTO log (asset, attr, value, type, tag, ts) {row}")
    engine.publish(event("after it")).wait()
    assert values(engine) == ["after it"]
    assert engine.types() == {}


def test_a_stray_entry_among_the_subscribers_fails_nothing_that_is_committed(engine: Engine, path: Path) -> None:
    path.with_name(f"{path.name}.wake").joinpath("stray.sock").mkdir()
    receipt = engine.publish(event("stands"))
    assert receipt.wait() == 1
    engine.flush()
    assert receipt.error is None
    assert values(engine) == ["stands"]
