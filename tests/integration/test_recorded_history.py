"""A run of several processes, one of which is killed again and again, is recorded; then the record is checked."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from factory_run import FactoryRun, Role
from foreign_log import read_file_log
from history import violations
from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start

Eventually = Callable[..., None]


def kill_app(run: FactoryRun, eventually: Eventually) -> None:
    """In the middle of its work; the next one starts when it is missed."""
    before = run.ran()
    eventually(lambda: run.ran() >= before + 40)
    time.sleep(run.chance.uniform(0, 0.02))
    run.app.worker.kill()
    missed = len(run.commands)
    run.deliver_again()
    eventually(lambda: len(run.commands) >= missed + 21)
    run.app.revive()
    run.app.worker.until("running")
    run.deliver_again()


def test_a_run_with_kills_and_commands_that_come_twice_keeps_every_promise(
    start: Start, file_url: str, tmp_path: Path, eventually: Eventually, rounds: Callable[[int, int], int]
) -> None:
    kills = rounds(3, 8)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    read_log = partial(read_file_log, tmp_path / "factory.db")
    with FactoryRun(start, file_url, tmp_path, random.Random(seed), read_log) as run:
        for kill in range(kills):
            kill_app(run, eventually)
            if kill == kills // 2:
                run.watchers[1].revive()
        history = run.end()
    outcomes = Counter(note["outcome"] for note in history.notes("called"))
    print(f"{len(history.log)} events, {run.ran()} executions, {dict(outcomes)}")
    in_time = set(outcomes) - {"CommandTimeout", "CommandExpired", "CommandCancelled"}
    assert in_time == {"result", "CommandFailed", "CommandRejected", "CommandUnknown"}
    assert violations(history) == []


def test_a_command_of_long_ago_that_comes_again_after_a_restart_is_not_run_again(
    start: Start, file_url: str, tmp_path: Path, eventually: Eventually
) -> None:
    app = Role("app", "recorded_app.py", (), tmp_path, start, {"KSQLDB_URL": file_url, "APP_UUID": "CELL"})
    with KSQLDBClient(file_url) as client, Asset("CELL", client) as cell:
        app.revive()
        app.worker.until("running")
        for number in range(1100):
            cell.method("work", "HMI", {"token": f"long-ago-{number}", "milliseconds": 0})
        cell.call("work", token="last", milliseconds=0, sender_uuid="HMI", timeout=20)
        app.worker.stopped_by(signal.SIGTERM)
        app.revive()
        app.worker.until("running")
        first = client.engine.history("CELL", "work_CMD", limit=2000)[0]
        client.engine.publish(first)
        cell.call("work", token="end", milliseconds=0, sender_uuid="HMI", timeout=20)
    ran = Counter(note["ran"] for life in app.notes() for note in life if "ran" in note)
    assert ran == {**{f"long-ago-{number}": 1 for number in range(1100)}, "last": 1, "end": 1}
