"""Where the embedded engine keeps its data: URLs of one file, and places that cannot be."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from openfactory.engines import open_engine
from openfactory.engines.embedded import EmbeddedEngine
from openfactory.events.event import new_event
from openfactory.events.registration import Registration
from openfactory.exceptions import ConfigurationError, EngineUnavailableError, OpenFactoryError
from openfactory.testing import eventually


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://factory.db", "Write sqlite:///factory.db for a path relative to the working directory"),
        ("sqlite://srv/factory.db", "Write sqlite:///srv/factory.db for a path"),
        ("sqlite://", "does not name a file. Write sqlite:///factory.db"),
        ("sqlite:///", "does not name a file"),
        ("sqlite:///data/", "does not name a file"),
        ("sqlite:///:memory:", "Write memory://"),
    ],
)
def test_a_url_that_names_no_file_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_engine(url)
    assert url in str(caught.value)
    assert said in str(caught.value)


def test_urls_that_mean_one_file_share_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.db").symlink_to(tmp_path / "factory.db")
    with (
        open_engine("sqlite:///factory.db") as one,
        open_engine(f"sqlite:///{tmp_path}/factory.db") as two,
        open_engine("sqlite:///link.db") as three,
    ):
        assert one.engine is two.engine is three.engine


def refused(url: str) -> EngineUnavailableError:
    with pytest.raises(EngineUnavailableError) as caught:
        EmbeddedEngine(url)
    assert isinstance(caught.value, (OpenFactoryError, ConnectionError))
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    error = refused(f"sqlite:///{tmp_path}/nosuch/factory.db")
    assert error.address == f"{tmp_path}/nosuch/factory.db"
    assert f"Create the folder {tmp_path}/nosuch first" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/proc/factory.db", "/dev/null/factory.db"])
def test_a_place_that_cannot_be_written_says_so(path: str) -> None:
    error = refused(f"sqlite:///{path}")
    assert error.address == path
    assert path in str(error)
    assert "in KSQLDB_URL" in str(error)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "factory.db").mkdir()
    assert "Name a file in KSQLDB_URL that this user may write." in str(refused(f"sqlite:///{tmp_path}/factory.db"))


@pytest.mark.parametrize(
    "content", [b"these are the notes of somebody else\n" * 100, b"SQLite format 3\x00 but no more"]
)
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    error = refused(f"sqlite:///{path}")
    assert str(path) in str(error)
    assert "another file in KSQLDB_URL" in str(error)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("setup", ["CREATE TABLE mine (id)", "PRAGMA user_version = 3", "PRAGMA application_id = 7"])
def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path, setup: str) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute(setup)
    connection.commit()
    connection.close()
    content = path.read_bytes()
    error = refused(f"sqlite:///{path}")
    assert "is a database of another program. Name another file in KSQLDB_URL." in str(error)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "factory.db"
    EmbeddedEngine(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    error = str(refused(f"sqlite:///{path}"))
    assert "99" in error
    assert "pip install --upgrade openfactory-core" in error


_FORMER_VIEWS = """
DROP VIEW asset_to_uns_map;
CREATE VIEW asset_to_uns_map AS SELECT asset_uuid, uns_id, uns_levels, updated_at FROM uns;
DROP VIEW assets_uns;
CREATE VIEW assets_uns AS
SELECT assets.key AS asset_uuid_key, uns.uns_id || '|' || assets.id AS uns_key, uns.uns_id AS uns_id,
       assets.asset_uuid AS asset_uuid, assets.id AS id, assets.value AS value, assets.type AS type, assets.tag AS tag,
       assets.timestamp AS timestamp
FROM assets JOIN uns ON uns.asset_uuid = assets.asset_uuid
WHERE uns.uns_id IS NOT NULL;
ALTER TABLE log DROP COLUMN attributes;
PRAGMA user_version = 1;
"""


def test_a_file_with_the_former_columns_gets_the_present_ones_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "factory.db"
    registration = Registration("MILL", "Device", "mill-7", {}, "ACME/mill", {"line": "7"})
    with open_engine(f"sqlite:///{path}") as reference:
        reference.engine.register(registration)
        reference.engine.deregister("SAW")
        reference.engine.flush()
        events = reference.engine.history("MILL")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(_FORMER_VIEWS)
        connection.execute("UPDATE uns SET updated_at = 1795963983256 WHERE asset_uuid = 'MILL'")
    for _ in range(2):
        with open_engine(f"sqlite:///{path}") as reference:
            engine = reference.engine
            assert engine.history("MILL") == events
            assert (engine.types(), engine.uns_map()) == ({"MILL": "Device"}, {"MILL": "ACME/mill"})
            [place] = engine.query("SELECT * FROM asset_to_uns_map WHERE asset_uuid = 'MILL'")
            assert place == {
                "ASSET_UUID": "MILL",
                "UNS_ID": "ACME/mill",
                "UNS_LEVELS": {"line": "7"},
                "UPDATED_AT": "2026-11-29T14:53:03.256",
            }
            assert engine.query("SELECT key FROM assets_uns WHERE id = 'line'") == [{"KEY": "ACME/mill|line"}]


def test_a_file_of_the_first_version_is_read_and_written_on(tmp_path: Path) -> None:
    path = tmp_path / "factory.db"
    EmbeddedEngine(f"sqlite:///{path}").close()
    connection = sqlite3.connect(path)
    connection.executescript("""
        ALTER TABLE log DROP COLUMN attributes;
        PRAGMA user_version = 1;
        INSERT INTO log (asset, attr, value, type, tag, ts) VALUES ('MILL', 'x', '1', 'Events', 'Test', 't');
    """)
    connection.close()
    first, second = (EmbeddedEngine(f"sqlite:///{path}") for _ in range(2))
    first.publish(new_event("MILL", "x", 2, "Events", "Test", "t", {"line": 7})).wait()
    assert [(event.value, event.attributes) for event in second.history("MILL")] == [(1, None), (2, {"line": 7})]
    first.close()
    second.close()


_FORMER_LAST = """
DROP VIEW last;
CREATE VIEW last AS
SELECT log.asset, log.attr, log.value, log.type, log.tag, log.ts, log.id FROM latest JOIN log ON log.id = latest.id;
"""


@pytest.mark.parametrize("former", ["", _FORMER_LAST])
def test_the_register_is_not_read_once_for_each_asset(tmp_path: Path, former: str) -> None:
    path = tmp_path / "factory.db"
    EmbeddedEngine(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(former)
    engine = EmbeddedEngine(f"sqlite:///{path}")
    engine.register(Registration("MILL", "Device"))
    engine.flush()
    assert engine.types() == {"MILL": "Device"}
    with closing(sqlite3.connect(path)) as connection:
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN SELECT asset_uuid, type FROM assets_type")]
    engine.close()
    assert [step for step in plan if step.startswith("SCAN")] == ["SCAN latest"]


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "factory.db").touch()
    EmbeddedEngine(f"sqlite:///{tmp_path}/factory.db").close()


def test_a_path_too_long_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    first, second = (EmbeddedEngine(f"sqlite:///{folder}/factory.db") for _ in range(2))
    heard: list[object] = []
    second.subscribe("MILL", lambda event: heard.append(event.value))
    for n in range(20):
        first.publish(new_event("MILL", "x", n, "Events", "Test"))
        eventually(partial(heard.__contains__, n))
    first.close()
    second.close()


@pytest.fixture(params=[0o077, 0o022, 0o000], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_owner_and_group_may_use_what_the_engine_makes_and_nobody_else(tmp_path: Path) -> None:
    long = tmp_path / ("long" * 25)
    for folder in (tmp_path, long):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o2770)  # the group of the folder is that of the files
        engine = EmbeddedEngine(f"sqlite:///{folder}/factory.db")
        engine.subscribe("MILL", print)
        engine.publish(new_event("MILL", "x", 1, "Events", "Test")).wait()
        made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("factory.db*")}
        subscribers = {stat.S_IMODE(path.stat().st_mode) for path in (folder / "factory.db.wake").iterdir()}
        engine.close()
        assert made.pop("factory.db.wake") == 0o2770
        assert made == {f"factory.db{part}": 0o660 for part in ("", "-wal", "-shm", ".lock")}
        assert subscribers == {0o660}


@pytest.mark.usefixtures("umask")
def test_a_file_keeps_the_permissions_that_it_was_given(tmp_path: Path) -> None:
    EmbeddedEngine(f"sqlite:///{tmp_path}/factory.db").close()
    for name in ("factory.db", "factory.db.lock"):
        (tmp_path / name).chmod(0o640)
    EmbeddedEngine(f"sqlite:///{tmp_path}/factory.db").close()
    for name in ("factory.db", "factory.db.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


# A process with a process id that another has too, as in two containers: it hears 20 events, and says how it was told.
SAME_PID = """
import os, sys, time
os.getpid = lambda: 1
from openfactory.engines.embedded import EmbeddedEngine
delays = []
engine = EmbeddedEngine(sys.argv[1])
engine.subscribe("MILL", lambda event: delays.append(time.monotonic() - event.value))
print("listens", flush=True)
while len(delays) < 20:
    time.sleep(0.01)
print(sorted(delays)[10])
engine.close()
"""


@pytest.mark.parametrize("length", ["short", "long" * 25], ids=["socket", "udp"])
def test_processes_of_two_containers_with_one_process_id_are_both_woken(tmp_path: Path, length: str) -> None:
    folder = tmp_path / length
    folder.mkdir()
    engine = EmbeddedEngine(url := f"sqlite:///{folder}/factory.db")
    with ExitStack() as ended:
        command = [sys.executable, "-c", SAME_PID, url]
        watchers = [ended.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(2)]
        for watcher in watchers:
            ended.callback(watcher.kill)
        for watcher in watchers:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "listens\n"
        assert len(list((folder / "factory.db.wake").iterdir())) == 2
        while any(watcher.poll() is None for watcher in watchers):
            engine.publish(new_event("MILL", "x", time.monotonic(), "Samples", "Test")).wait()
            time.sleep(0.02)
        delays = [float(watcher.stdout.read()) for watcher in watchers if watcher.stdout is not None]
    engine.close()
    assert max(delays) < 0.1  # a process that is not woken looks by itself, every 0.25 s
