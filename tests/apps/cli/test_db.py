"""`ofa db`: the file of a factory, also while an app writes to it."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.engines.embedded import copies
from openfactory.kafka import KSQLDBClient

Ofa = Callable[..., subprocess.CompletedProcess[str]]

SAMPLES = 600

# Ends of the names of copies that are not whole yet.
COPIES = (".part", ".compact", ".restoring")


@contextmanager
def mill_of(factory: Path) -> Iterator[Asset]:
    with KSQLDBClient(f"sqlite:///{factory}") as client, Asset("mill", client) as mill:
        yield mill


@pytest.fixture
def factory(workshop: Path) -> Path:
    """A factory with 600 samples of a speed, and 3 notes."""
    path = workshop / "factory.db"
    with mill_of(path) as mill:
        mill.add_attribute(AssetAttribute(id="speed", value=0.0, type="Samples", tag="Mill.Speed"))
        mill.add_attribute(AssetAttribute(id="note", value="1", type="Events", tag="Mill.Note"))
        for number in range(1, SAMPLES):
            mill["speed"] = float(number)
        mill["note"] = "2"
        mill["note"] = "3"
        mill.flush()
    return path


def history(factory: Path, attribute: str) -> list[object]:
    with mill_of(factory) as mill:
        return [event.value for event in mill.history(attribute, limit=10**6)]


def failed(found: subprocess.CompletedProcess[str], *texts: str) -> None:
    assert (found.returncode, found.stdout) == (1, "")
    for text in texts:
        assert text in found.stderr


def test_info(ofa: Ofa, factory: Path) -> None:
    found = json.loads(ofa("db", "info", "--json").stdout)
    assert (found["file"], found["schema"], found["wal_bytes"]) == (str(factory), 3, 0)
    assert (found["samples"], found["events"], found["processes"]) == (SAMPLES, 3, [])
    assert found["newest"]["position"] == SAMPLES + 3
    assert found["attributes"][0] == {"asset_uuid": "mill", "id": "speed", "kind": "samples", "events": SAMPLES}
    assert found["bounds"] == {
        "keep_events": 1_000_000,
        "keep_days": None,
        "keep_samples": 1_000_000,
        "keep_samples_days": None,
    }
    assert found["bounds_set_by"] is None
    table = ofa("db", "info").stdout
    assert "samples        600" in table
    assert "no other process" in table


def test_info_names_the_processes_and_the_bounds(ofa_process: Ofa, factory: Path) -> None:
    with KSQLDBClient(f"sqlite:///{factory}?keep_samples_days=7") as client, Asset("mill", client) as mill:
        mill["note"] = "4"
        mill.flush()
        found = json.loads(ofa_process("db", "info", "--json").stdout)
    assert len(found["processes"]) == 1
    assert found["bounds"]["keep_samples_days"] == 7
    assert found["bounds_set_by"]["pid"] == found["processes"][0]


@pytest.mark.parametrize("command", ["info", "prune", "compact", "backup", "restore"])
@pytest.mark.parametrize("url", ["kafka://localhost:9092", "http://ksqldb:8088", "memory://cell"])
def test_a_factory_that_is_not_a_file_is_refused(ofa: Ofa, command: str, url: str) -> None:
    file = ["copy.db"] if command in ("backup", "restore") else []
    failed(ofa("db", command, *file, "--url", url), f"{url} is not a file", "--url sqlite:///factory.db")


@pytest.mark.parametrize("command", ["info", "prune", "compact", "backup"])
def test_no_file_is_created(ofa: Ofa, workshop: Path, command: str) -> None:
    failed(ofa("db", command, *["copy.db"] * (command == "backup")), "does not exist", "ofa run FILE")
    assert list(workshop.iterdir()) == []


def test_prune_removes_what_a_dry_run_shows(ofa: Ofa, factory: Path) -> None:
    shown = json.loads(ofa("db", "prune", "--keep-samples", "100", "--dry-run", "--json").stdout)
    assert (shown["dry_run"], shown["removed"]) == (True, SAMPLES - 100)
    assert shown["attributes"] == [{"asset_uuid": "mill", "id": "speed", "events": SAMPLES - 100}]
    assert (shown["bounds"]["keep_samples"], shown["bounds"]["keep_events"]) == (100, 1_000_000)
    assert len(history(factory, "speed")) == SAMPLES
    done = ofa("db", "prune", "--keep-samples", "100")
    assert done.stdout.startswith("500 events are removed from ")
    assert history(factory, "speed") == [float(number) for number in range(SAMPLES - 100, SAMPLES)]
    assert history(factory, "note") == ["1", "2", "3"]
    assert json.loads(ofa("db", "prune", "--json").stdout)["removed"] == 0  # the bounds were not stored


def test_prune_of_one_event_keeps_the_last_values(ofa: Ofa, factory: Path) -> None:
    assert ofa("db", "prune", "--keep-events", "1").returncode == 0
    assert (history(factory, "speed"), history(factory, "note")) == ([float(SAMPLES - 1)], ["3"])


@pytest.mark.parametrize("option", ["--keep-events=0", "--keep-days=0", "--keep-samples=-1", "--keep-samples-days=x"])
def test_a_bound_that_is_none_is_a_usage_error(ofa: Ofa, factory: Path, option: str) -> None:
    assert ofa("db", "prune", option).returncode == 2
    assert len(history(factory, "speed")) == SAMPLES


def test_backup_and_restore(ofa: Ofa, factory: Path, workshop: Path) -> None:
    assert ofa("db", "backup", "copy.db").stdout.endswith("checked.\n")
    with mill_of(factory) as mill:
        mill["note"] = "after the backup"
        mill.flush()
    done = ofa("db", "restore", "copy.db")
    assert done.returncode == 0, done.stderr
    assert (history(factory, "note"), len(history(factory, "speed"))) == (["1", "2", "3"], SAMPLES)
    [aside] = workshop.glob("factory.db.before-*")
    assert aside.name in done.stdout
    assert history(aside, "note") == ["1", "2", "3", "after the backup"]
    assert not [path.name for path in workshop.iterdir() if path.name.endswith((".part", ".restoring"))]
    assert factory.stat().st_mode & 0o777 == aside.stat().st_mode & 0o777 == 0o660


def test_restore_where_there_was_nothing(ofa: Ofa, factory: Path, workshop: Path) -> None:
    ofa("db", "backup", "copy.db")
    other = workshop / "other.db"
    done = ofa("db", "restore", "copy.db", "--url", f"sqlite:///{other}")
    assert "former" not in done.stdout
    assert history(other, "note") == ["1", "2", "3"]


def test_a_backup_is_read_without_files_beside_it(ofa: Ofa, factory: Path, workshop: Path) -> None:
    disk = workshop / "disk"
    disk.mkdir()
    assert ofa("db", "backup", "disk/copy.db").returncode == 0
    with closing(sqlite3.connect(f"{(disk / 'copy.db').as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT max(id) FROM log").fetchone() == (SAMPLES + 3,)
        assert [file.name for file in disk.iterdir()] == ["copy.db"]  # a read-only disk would have no room for them
    assert ofa("db", "restore", "disk/copy.db").returncode == 0
    assert [file.name for file in disk.iterdir()] == ["copy.db"]
    assert ofa("doctor").returncode == 0


def test_a_backup_while_an_app_writes_is_one_state(ofa_process: Ofa, factory: Path, workshop: Path) -> None:
    ends = threading.Event()

    def write() -> None:
        with mill_of(factory) as mill:
            number = SAMPLES
            while not ends.is_set():
                mill["speed"] = float(number)
                number += 1
                if number % 50 == 0:
                    mill.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = [ofa_process("db", "backup", f"copy{number}.db") for number in range(2)]
    finally:
        ends.set()
        writer.join()
    for number, one in enumerate(done):
        assert one.returncode == 0, one.stderr
        speeds = history(workshop / f"copy{number}.db", "speed")
        assert speeds == [float(speed) for speed in range(len(speeds))]
        assert len(speeds) >= SAMPLES


def test_a_backup_overwrites_nothing(ofa: Ofa, factory: Path, workshop: Path) -> None:
    (workshop / "copy.db").write_text("mine")
    failed(ofa("db", "backup", "copy.db"), "copy.db exists", "Name another file")
    assert (workshop / "copy.db").read_text() == "mine"


@pytest.mark.parametrize("command", ["restore", "compact"])
def test_a_file_that_is_open_is_neither_restored_nor_compacted(
    ofa_process: Ofa, factory: Path, workshop: Path, command: str
) -> None:
    assert ofa_process("db", "backup", "copy.db").returncode == 0
    with mill_of(factory):
        before = factory.read_bytes()
        found = ofa_process("db", command, *["copy.db"] * (command == "restore"))
        failed(found, "is open by process", f"Stop every app and tool that uses the file, then {command} it.")
        assert factory.read_bytes() == before
    assert not list(workshop.glob("factory.db.before-*"))


HOLD = """
import sys
from openfactory.engines.embedded import EmbeddedEngine
engine = EmbeddedEngine(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
engine.close()
"""


@contextmanager
def held_open(factory: Path) -> Iterator[int]:
    """Have another process hold a factory open, and yield its id."""
    command = [sys.executable, "-c", HOLD, f"sqlite:///{factory}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process.pid
        process.communicate()


def kernel_lists(monkeypatch: pytest.MonkeyPatch, fault: OSError | None) -> None:
    """Have the kernel list no locks, as those of other containers, or have its list fail to open."""

    def open_list(*_arguments: object, **_options: object) -> io.StringIO:
        if fault is not None:
            raise fault
        return io.StringIO()

    monkeypatch.setattr("openfactory.concurrency.kernel_locks.open", open_list, raising=False)


@pytest.mark.parametrize("fault", [None, FileNotFoundError("no list"), PermissionError("no access")], ids=repr)
@pytest.mark.parametrize("command", ["restore", "compact"])
def test_a_process_that_the_kernel_does_not_list_is_noticed(
    ofa: Ofa, factory: Path, workshop: Path, command: str, fault: OSError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ofa("db", "backup", "copy.db").returncode == 0
    arguments = ("db", command, *["copy.db"] * (command == "restore"))
    kernel_lists(monkeypatch, fault)
    with held_open(factory):
        before = factory.read_bytes()
        failed(ofa(*arguments), f"{factory} is open by another process", f"that uses the file, then {command} it.")
        assert json.loads(ofa("db", "info", "--json").stdout)["processes"] == [0]
        assert factory.read_bytes() == before
    assert not list(workshop.glob("factory.db.before-*"))
    assert ofa(*arguments).returncode == 0


def test_an_index_that_this_user_may_not_open_is_named(
    ofa: Ofa, factory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_file(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "factory.db-shm":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open(path, *arguments, **options)

    kernel_lists(monkeypatch, None)
    monkeypatch.setattr(Path, "open", open_file)
    failed(ofa("db", "compact"), "factory.db-shm cannot be opened (Permission denied)", "Grant this user access to it.")


@pytest.mark.parametrize("kind", ["text", "foreign", "damaged", "later", "absent"])
def test_a_backup_that_is_no_good_is_refused_before_anything_changes(
    ofa: Ofa, factory: Path, workshop: Path, kind: str
) -> None:
    ofa("db", "backup", "copy.db")
    copy = workshop / "copy.db"
    if kind == "text":
        copy.write_text("no database " * 100)
    elif kind == "absent":
        copy.unlink()
    elif kind == "damaged":
        content = bytearray(copy.read_bytes())
        content[8192:] = b"\x77" * (len(content) - 8192)
        copy.write_bytes(content)
    else:
        with closing(sqlite3.connect(copy)) as connection:
            connection.execute("PRAGMA application_id = 7" if kind == "foreign" else "PRAGMA user_version = 99")
            connection.commit()
    before = factory.read_bytes()
    found = ofa("db", "restore", "copy.db")
    failed(found, "copy.db")
    assert found.stderr.rstrip().endswith(".")
    assert factory.read_bytes() == before
    assert not list(workshop.glob("factory.db.*restor*")) + list(workshop.glob("*.before-*"))


def test_compact_makes_the_file_smaller(ofa: Ofa, factory: Path) -> None:
    with mill_of(factory) as mill:
        for number in range(20_000):
            mill["speed"] = float(number)
        mill.flush()
    assert ofa("db", "prune", "--keep-samples", "10").returncode == 0
    before, notes = factory.stat().st_size, history(factory, "note")
    done = ofa("db", "compact")
    assert done.returncode == 0, done.stderr
    assert factory.stat().st_size < before / 4
    assert history(factory, "note") == notes
    assert ofa("doctor").returncode == 0


def test_no_other_user_can_read_a_copy_before_it_is_whole(factory: Path, workshop: Path) -> None:
    modes = set[int]()

    def look(_stage: str, _part: float) -> None:
        modes.update(file.stat().st_mode & 0o777 for file in workshop.iterdir() if file.suffix in COPIES)

    copies.back_up(factory, workshop / "copy.db", look)
    copies.compact(factory, look)
    copies.restore(factory, workshop / "copy.db", look)
    assert modes == {0o660}


@pytest.mark.parametrize("command", ["backup", "compact", "restore"])
def test_a_disk_without_space_is_told_before_anything_is_written(
    ofa: Ofa, factory: Path, workshop: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ofa("db", "backup", "copy.db")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    file = {"backup": ["new.db"], "restore": ["copy.db"], "compact": []}[command]
    failed(ofa("db", command, *file), "its disk has 0 kB free", "Free space")
    assert not (workshop / "new.db").exists()
    assert len(history(factory, "speed")) == SAMPLES


def test_progress_is_shown_on_a_terminal_only(ofa_terminal: Ofa, ofa: Ofa, factory: Path) -> None:
    assert "copied" in ofa_terminal("db", "backup", "copy.db").stdout
    assert ofa("db", "backup", "other.db").stderr == ""
