"""A database does not survive a fork: a child may not use what its parent has open, and harms nobody by ending."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, StopHolding, Worker


def logged(url: str, uuid: str) -> list[int]:
    with KSQLDBClient(url) as client:
        return [event.value for event in client.engine.history(uuid, "number")]


def assert_sound(file: Path) -> None:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_a_child_that_uses_its_parents_engine_is_refused_with_a_sentence(
    start: Start, file_url: str, tmp_path: Path
) -> None:
    process = start("forking.py", "with_the_engine_open", KSQLDB_URL=file_url)
    assert process.ended() == 0
    said = process.lines()
    for what in ("write", "flush", "query", "open"):
        (line,) = [line for line in said if line.startswith(f"{what}: ")]
        assert "EngineClosedError" in line
        assert "was opened before this process was forked" in line
        assert "Start processes with spawn" in line
    assert "connected: False" in said
    assert "child ended with 0" in said
    assert said[-1] == "parent wrote 100"
    assert logged(file_url, "PARENT") == list(range(101))
    assert logged(file_url, "CHILD") == []
    assert_sound(tmp_path / "factory.db")


def test_a_child_that_is_forked_while_an_event_is_delivered_ends(start: Start, file_url: str) -> None:
    process = start("forking.py", "during_a_delivery", KSQLDB_URL=file_url)
    assert process.ended() == 0
    assert process.lines()[1:] == ["child ended with 0", "parent wrote 1"]


def test_what_is_closed_before_a_fork_is_opened_by_both_after_it(start: Start, file_url: str, tmp_path: Path) -> None:
    process = start("forking.py", "before_it_is_opened", KSQLDB_URL=file_url)
    assert process.ended() == 0
    assert process.lines() == ["child ended with 0", "parent wrote 99"]
    assert logged(file_url, "CHILD") == list(range(100))
    assert logged(file_url, "PARENT") == [0, *range(100)]
    assert_sound(tmp_path / "factory.db")


def test_children_that_end_or_are_terminated_do_not_stop_the_app(start: Start, file_url: str) -> None:
    app = start("forking.py", "app", KSQLDB_URL=file_url, APP_UUID="FORKS")
    app.until("going on")
    assert "child ended with 0" in app.out
    assert "pool computed [1, 2, 3]" in app.out
    assert "child is alive: False" in app.out
    assert "Received SIGTERM" not in app.err  # the app itself was sent none
    with KSQLDBClient(file_url) as client, Asset("FORKS", client) as asset:
        assert asset["avail"].value == "AVAILABLE"
        assert asset.type == "OpenFactoryApp"
        status, _ = app.stopped_by(signal.SIGTERM)
        assert status == 0
        assert asset.wait_until("avail", "UNAVAILABLE", timeout=60)
        assert asset.type == "UNAVAILABLE"


@pytest.fixture
def parent(start: Start, file_url: str) -> Iterator[Worker]:
    """A process that writes without a pause and has a child; the child is ended at the end."""
    process = start("forking.py", "leaves_a_child", KSQLDB_URL=file_url)
    process.until("child")
    child = int(process.lines()[0].split()[1])
    yield process
    os.kill(child, signal.SIGKILL)


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_lock(
    parent: Worker, file_url: str, tmp_path: Path, start: Start, stop_holding: StopHolding
) -> None:
    stop_holding(parent, tmp_path / "factory.db.lock")
    parent.kill()
    start("writer.py", "OTHER", 1, KSQLDB_URL=file_url).until("\n", timeout=60)
    assert logged(file_url, "OTHER")
