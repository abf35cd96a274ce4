"""A writer may be killed at any moment: what it was told is written is there, the file is sound, watchers go on."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

Rounds = Callable[[int, int], int]

WRITERS = ("W-0", "W-1", "W-2")


@pytest.fixture
def client(file_url: str) -> Iterator[KSQLDBClient]:
    with KSQLDBClient(f"{file_url}?keep_events=1000000000") as client:  # all of them, however fast the machine is
        yield client


def note(values: list[Any], subject: str, message: Any) -> None:
    values.append(message["VALUE"])


def reaches(values: list[Any], count: int) -> bool:
    return len(values) >= count


@pytest.fixture
def heard(client: KSQLDBClient) -> Iterator[dict[str, list[Any]]]:
    """What callbacks in this process hear of each writer."""
    heard: dict[str, list[Any]] = {uuid: [] for uuid in WRITERS}
    with ExitStack() as assets:
        for uuid, values in heard.items():
            asset = assets.enter_context(Asset(uuid, client))
            asset.subscribe_to_attribute("number", partial(note, values))
        yield heard


def integrity(file: Path) -> str:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def acknowledged(writer: Worker) -> int:
    """The last number that a writer was told is written."""
    lines = writer.lines()
    return int(lines[-1]) if lines else 0


def written(writer: Worker) -> int:
    """How many events a writer was told are written."""
    lines = writer.lines()
    return int(lines[-1]) - int(lines[0]) + 1 if lines else 0


def kill_at_some_moment(writer: Worker, chance: random.Random, events: int | None) -> None:
    """Kill a writer once it has written so many events; without a number also while it starts or opens the file."""
    if events is None and chance.random() < 0.3:
        time.sleep(max(writer.started + chance.uniform(0, 0.3) - time.monotonic(), 0))
    else:
        deadline = time.monotonic() + 60
        while written(writer) < (events or 1) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.06))
    writer.kill()


def killed_writers(
    start: Start, client: KSQLDBClient, file: Path, kills: int, events: int | None = None
) -> dict[str, int]:
    """Writers that are killed and started again; the last number that each was told is written."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)

    def start_writer(uuid: str) -> Worker:
        return start("writer.py", uuid, chance.random(), KSQLDB_URL=client.ksqldb_url)

    writers = {uuid: start_writer(uuid) for uuid in WRITERS}
    promised = dict.fromkeys(WRITERS, 0)
    for _ in range(kills):
        uuid = chance.choice(WRITERS)
        kill_at_some_moment(writers[uuid], chance, events)
        promised[uuid] = max(promised[uuid], acknowledged(writers[uuid]))
        rows = client.query("SELECT value FROM assets WHERE asset_uuid = ? AND id = 'number'", uuid)
        assert int(rows[0]["VALUE"]) >= promised[uuid] if rows else promised[uuid] == 0
        assert integrity(file) == "ok"
        writers[uuid] = start_writer(uuid)
    for uuid, writer in writers.items():
        writer.kill()
        promised[uuid] = max(promised[uuid], acknowledged(writer))
    with Asset("END", client) as end:
        end.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
    assert integrity(file) == "ok"
    return promised


def logged_by(client: KSQLDBClient, uuid: str) -> list[int]:
    return [event.value for event in client.engine.history(uuid, "number", limit=10**7)]


@pytest.mark.thorough  # in each run test_recorded_history.py kills writers and checks what watchers heard
def test_kills_lose_nothing_and_stop_no_watcher(
    start: Start,
    tmp_path: Path,
    client: KSQLDBClient,
    heard: dict[str, list[Any]],
    eventually: Callable[..., None],
    rounds: Rounds,
) -> None:
    watcher = start("watcher.py", KSQLDB_URL=client.ksqldb_url)
    watcher.until("watching")
    promised = killed_writers(start, client, tmp_path / "factory.db", kills=rounds(15, 50))
    assert watcher.ended() == 0
    seen = json.loads(watcher.lines()[-1])
    positions = [event[6] for event in seen]
    assert positions == sorted(set(positions))
    for uuid in WRITERS:
        logged = logged_by(client, uuid)
        assert logged == list(range(len(logged)))  # nothing is missing, doubled or out of order
        assert len(logged) > promised[uuid]
        assert [event[2] for event in seen if event[0] == uuid] == logged
        eventually(partial(reaches, heard[uuid], len(logged)))
        assert heard[uuid] == logged
        print(f"{uuid}: {len(logged)} events, {promised[uuid]} acknowledged")


def test_kills_while_the_log_is_trimmed_leave_the_newest_events(
    start: Start, file_url: str, tmp_path: Path, rounds: Rounds
) -> None:
    with KSQLDBClient(f"{file_url}?keep_events=1500") as client:
        # A writer trims after 1,000 events of its own: each is killed about then.
        promised = killed_writers(start, client, tmp_path / "factory.db", kills=rounds(4, 15), events=1_000)
    with closing(sqlite3.connect(f"file:{tmp_path}/factory.db?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT id, asset, CAST(value AS INTEGER) FROM log ORDER BY id").fetchall()
    print(f"{rows[-1][0]} events, {len(rows)} kept")
    assert len(rows) < rows[-1][0]
    assert len(rows) >= 1500
    newest = rows[-150:]
    assert [position for position, _, _ in newest] == list(range(newest[0][0], newest[0][0] + 150))
    for uuid in WRITERS:  # each loses its oldest
        values = [value for _, asset, value in rows if asset == uuid]
        assert values == list(range(min(values, default=0), max(values, default=-1) + 1))
        assert max((value for _, asset, value in rows if asset == uuid), default=0) >= promised[uuid]


def test_a_factory_whose_first_opening_was_killed_opens(start: Start, tmp_path: Path, rounds: Rounds) -> None:
    chance = random.Random(7)
    for number in range(rounds(5, 12)):
        folder = tmp_path / str(number)
        folder.mkdir()
        url = f"sqlite:///{folder}/factory.db"
        writer = start("writer.py", "W-0", number, KSQLDB_URL=url)
        deadline = time.monotonic() + 20
        while not (folder / "factory.db.lock").exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.01))
        writer.kill()
        with KSQLDBClient(url) as client, Asset("W-0", client) as asset:
            asset.add_attribute(AssetAttribute(id="note", value="x", type="Events", tag="Note"))
            assert asset["note"].value == "x"
        assert integrity(folder / "factory.db") == "ok"
