"""A run of several processes, one of which is killed again and again, is recorded; then the record is checked."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

CALLERS = ("HMI-0", "HMI-1", "HMI-2")
Eventually = Callable[..., None]


class Row(NamedTuple):
    """One event of the log, as a foreign program reads it."""

    position: int
    asset: str
    attribute: str
    value: Any
    type: str
    tag: str


@dataclass
class History:
    """What is in the log, and what each process says that it did and saw."""

    log: list[Row]
    ran: list[str] = field(default_factory=list)  # a token for each start of a method
    records: list[list[dict[str, Any]]] = field(default_factory=list)  # of each writer: calls and acknowledged writes
    heard: list[tuple[int, dict[str, list[list[Any]]]]] = field(default_factory=list)  # from which position, and what


def violations(history: History) -> list[str]:
    """What in a history breaks a promise; nothing, in a good one."""
    return [*lost_writes(history), *wrong_orders(history), *misheard(history), *wrong_commands(history)]


def lost_writes(history: History) -> Iterable[str]:
    """Every acknowledged write is in the log, once, in the order in which its writer was told."""
    places: dict[tuple[str, str, Any], list[int]] = defaultdict(list)
    for row in history.log:
        if isinstance(row.value, str):
            places[row.asset, row.attribute, row.value].append(row.position)
    for record in history.records:
        last = 0
        for said in record:
            if "acknowledged" not in said:
                continue
            at = places[said["asset"], said["attribute"], said["acknowledged"]]
            if len(at) != 1 or at[0] != said.get("position", at[0]):
                yield f"{said} is in the log at {at}"
            elif at[0] <= last:
                yield f"{said} stands before what the same writer wrote earlier"
            last = at[0] if at else last


def wrong_orders(history: History) -> Iterable[str]:
    """Positions rise without a gap: nothing was taken out."""
    positions = [row.position for row in history.log]
    if positions != list(range(1, len(positions) + 1)):
        yield f"the log has {len(positions)} events up to position {positions[-1]}"


def misheard(history: History) -> Iterable[str]:
    """Every watcher heard of each asset the end of its log, from before it said that it watches, in that order."""
    for since, heard in history.heard:
        for asset, events in heard.items():
            rows = [row for row in history.log if row.asset == asset and row.type != "Method"]
            told = [[row.attribute, row.value] for row in rows][-len(events) :] if events else []
            if events != told:
                wrong = next(n for n, (one, other) in enumerate(zip(events, told, strict=True)) if one != other)
                yield f"of {asset} a watcher heard {events[wrong]} where {told[wrong]} stands"
            if len(events) < sum(row.position > since for row in rows):
                yield f"of {asset} a watcher missed something after {since}"


def wrong_commands(history: History) -> Iterable[str]:
    """Each command ran at most once, has one outcome, and its caller was told no other."""
    ran = Counter(history.ran)
    yield from (f"{token} ran {count} times" for token, count in ran.items() if count > 1)
    token_of, outcomes = told_outcomes(history.log)
    outcome_of: dict[str, tuple[str, Any, str]] = {}
    for id, token in token_of.items():
        if len(outcomes[id]) != 1:
            yield f"{token} ({id}) has the outcomes {sorted(outcomes[id])}"
        outcome_of[token] = min(outcomes[id], default=("none", None, ""))
    for said in (said for record in history.records for said in record if "called" in said):
        token = said["called"]
        status, result, error = outcome_of.pop(token, ("never sent", None, ""))
        expected = {"CommandFailed": "failed", "CommandRejected": "rejected", "result": "succeeded"}.get(
            said["outcome"]
        )
        if expected not in (None, status) or (expected == "succeeded" and result != said["result"]):
            yield f"{token} was {status} in the log, and its caller was told {said}"
        if (status in ("succeeded", "failed") and ran[token] != 1) or (
            status == "rejected" and "before the app's start" not in error and ran[token]
        ):
            yield f"{token} was {status} and ran {ran[token]} times"
    yield from (f"{token} was sent by nobody" for token in outcome_of)


def told_outcomes(log: list[Row]) -> tuple[dict[str, str], dict[str, set[tuple[str, Any, str]]]]:
    """The token of each correlation id, and the outcomes that replies tell of it."""
    tokens: dict[str, str] = {}
    outcomes: dict[str, set[tuple[str, Any, str]]] = defaultdict(set)
    for row in log:
        if row.tag == "Method.Command":
            command = json.loads(row.value)
            tokens[command["header"]["correlation_id"]] = command["arguments"]["token"]
        elif row.tag == "Method.Reply":
            reply = json.loads(row.value)
            outcomes[reply["correlation_id"]].add((reply["status"], reply["result"], reply["error"] or ""))
    return tokens, outcomes


def read_log(file: Path) -> list[Row]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT id, asset, attr, value, type, tag FROM log ORDER BY id").fetchall()
    return [Row(id, asset, attr, json.loads(value), type, tag) for id, asset, attr, value, type, tag in rows]


def read_record(file: Path) -> list[dict[str, Any]]:
    """What a process noted; a kill tears the line that it writes, where that crosses a page of memory."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


# The run


class Run:
    """The processes, what ends one of them, and what delivers its commands twice."""

    def __init__(self, start: Start, client: KSQLDBClient, folder: Path, chance: random.Random) -> None:
        self.start, self.client, self.folder, self.chance = start, client, folder, chance
        self.commands: list[AssetEvent] = []
        self.notes = folder / "app.jsonl"
        self.watchers: list[tuple[int, Worker]] = []
        client.engine.subscribe("CELL", self.take_command)
        self.app = self.start_app()
        self.callers = [self.start_caller(name) for name in CALLERS]

    def take_command(self, event: AssetEvent) -> None:
        if event.tag == "Method.Command":
            self.commands.append(event)

    def start_app(self) -> Worker:
        return self.start("recorded_app.py", self.notes, KSQLDB_URL=self.client.ksqldb_url, APP_UUID="CELL")

    def start_caller(self, name: str) -> Worker:
        record = self.folder / f"{name}.jsonl"
        return self.start("recorded_caller.py", name, self.chance.random(), record, KSQLDB_URL=self.client.ksqldb_url)

    def start_watcher(self) -> None:
        watcher = self.start("recorded_watcher.py", "CELL", "BOARD", KSQLDB_URL=self.client.ksqldb_url)
        watcher.until("watching")
        self.watchers.append((self.client.engine.snapshot().position, watcher))

    def ran(self) -> list[str]:
        return [said["ran"] for said in read_record(self.notes) if "ran" in said] if self.notes.exists() else []

    def deliver_again(self) -> None:
        """As a network does that is not sure whether a command has arrived."""
        for event in self.chance.sample(self.commands, min(len(self.commands), 20)):
            self.client.engine.publish(event)

    def kill_app(self, eventually: Eventually) -> None:
        """In the middle of its work; the next one starts when it is missed."""
        before = len(self.ran())
        eventually(lambda: len(self.ran()) >= before + 40)
        time.sleep(self.chance.uniform(0, 0.02))
        self.app.kill()
        missed = len(self.commands)
        self.deliver_again()
        eventually(lambda: len(self.commands) >= missed + 21)
        self.app = self.start_app()
        self.app.until("running")
        self.deliver_again()

    def end(self) -> History:
        with Asset("GO", self.client) as go:
            go.add_attribute(AssetAttribute(id="state", value="end", type="Events", tag="State"))
        for caller in self.callers:
            assert caller.ended() == 0, caller.all_said
        status, _ = self.app.stopped_by(signal.SIGTERM)
        assert status == 0, self.app.all_said
        for uuid in ("CELL", "BOARD"):
            with Asset(uuid, self.client) as asset:
                asset.add_attribute(AssetAttribute(id="mark", value="end", type="Events", tag="Mark"))
        assert [watcher.ended() for _, watcher in self.watchers] == [0] * len(self.watchers)
        records = [self.notes, *(self.folder / f"{name}.jsonl" for name in CALLERS)]
        return History(
            read_log(self.folder / "factory.db"),
            self.ran(),
            [read_record(record) for record in records],
            [(since, json.loads(watcher.lines()[-1])) for since, watcher in self.watchers],
        )


def test_a_run_with_kills_and_commands_that_come_twice_keeps_every_promise(
    start: Start, file_url: str, tmp_path: Path, eventually: Eventually, rounds: Callable[[int, int], int]
) -> None:
    kills = rounds(3, 8)
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    with KSQLDBClient(file_url) as client:
        run = Run(start, client, tmp_path, random.Random(seed))
        run.start_watcher()
        for kill in range(kills):
            run.kill_app(eventually)
            if kill == kills // 2:
                run.start_watcher()
        history = run.end()
    outcomes = Counter(said["outcome"] for record in history.records for said in record if "called" in said)
    print(f"{len(history.log)} events, {len(history.ran)} executions, {dict(outcomes)}")
    assert set(outcomes) == {"result", "CommandFailed", "CommandRejected", "CommandTimeout"}
    assert violations(history) == []


def test_a_command_of_long_ago_that_comes_again_after_a_restart_is_not_run_again(
    start: Start, file_url: str, tmp_path: Path, eventually: Eventually
) -> None:
    notes = tmp_path / "app.jsonl"
    environment = {"KSQLDB_URL": file_url, "APP_UUID": "CELL"}
    with KSQLDBClient(file_url) as client, Asset("CELL", client) as cell:
        app = start("recorded_app.py", notes, **environment)
        app.until("running")
        for number in range(1100):
            cell.method("work", "HMI", {"token": f"long-ago-{number}", "milliseconds": 0})
        cell.call("work", token="last", milliseconds=0, sender_uuid="HMI", timeout=20)
        app.stopped_by(signal.SIGTERM)
        start("recorded_app.py", notes, **environment).until("running")
        first = client.engine.history("CELL", "work_CMD", limit=2000)[0]
        client.engine.publish(first)
        cell.call("work", token="end", milliseconds=0, sender_uuid="HMI", timeout=20)
    ran = Counter(said["ran"] for said in read_record(notes) if "ran" in said)
    assert ran == {**{f"long-ago-{number}": 1 for number in range(1100)}, "last": 1, "end": 1}


# The checker


def good_history() -> History:
    """A short history that keeps every promise."""

    def command(position: int, id: str, token: str) -> Row:
        value = json.dumps({"header": {"correlation_id": id}, "arguments": {"token": token}})
        return Row(position, "CELL", "work_CMD", value, "OpenFactory", "Method.Command")

    def reply(position: int, id: str, status: str, result: Any = None, error: str | None = None) -> Row:
        value = json.dumps({"correlation_id": id, "status": status, "result": result, "error": error})
        return Row(position, "CELL", "work_REPLY", value, "OpenFactory", "Method.Reply")

    log = [
        command(1, "i", "a"),
        Row(2, "BOARD", "last", "one", "Events", "Last"),
        reply(3, "i", "succeeded", "done a"),
        command(4, "i", "a"),
        reply(5, "i", "succeeded", "done a"),
        command(6, "j", "b"),
        reply(7, "j", "rejected", None, "no"),
        Row(8, "BOARD", "last", "two", "Events", "Last"),
    ]
    acknowledged = {"asset": "BOARD", "attribute": "last"}
    record: list[dict[str, Any]] = [
        {"called": "a", "outcome": "result", "result": "done a"},
        {"acknowledged": "one", "position": 2, **acknowledged},
        {"called": "b", "outcome": "CommandRejected"},
        {"acknowledged": "two", **acknowledged},
    ]
    return History(log, ["a"], [record], [(1, {"BOARD": [["last", "one"], ["last", "two"]]})])


def forge_lost_write(history: History) -> None:
    history.log[1] = history.log[1]._replace(value="another")


def forge_wrong_position(history: History) -> None:
    history.records[0][1]["position"] = 3


def forge_order(history: History) -> None:
    history.records[0][1], history.records[0][3] = history.records[0][3], history.records[0][1]


def forge_hole(history: History) -> None:
    del history.log[3]


def forge_second_run(history: History) -> None:
    history.ran.append("a")


def forge_run_of_rejected(history: History) -> None:
    history.ran.append("b")


def forge_success_without_run(history: History) -> None:
    history.ran.clear()


def forge_silence(history: History) -> None:
    history.log[6] = history.log[6]._replace(tag="Note")


def forge_second_outcome(history: History) -> None:
    history.log[4] = history.log[4]._replace(value=history.log[4].value.replace("done a", "done b"))


def forge_told_otherwise(history: History) -> None:
    history.records[0][0]["result"] = "done b"


def forge_missed_event(history: History) -> None:
    del history.heard[0][1]["BOARD"][0]


def forge_order_heard(history: History) -> None:
    history.heard[0][1]["BOARD"].reverse()


def test_the_checker_finds_nothing_in_a_good_history() -> None:
    assert violations(good_history()) == []


@pytest.mark.parametrize(
    "forge",
    [
        forge_lost_write,
        forge_wrong_position,
        forge_order,
        forge_hole,
        forge_second_run,
        forge_run_of_rejected,
        forge_success_without_run,
        forge_silence,
        forge_second_outcome,
        forge_told_otherwise,
        forge_missed_event,
        forge_order_heard,
    ],
)
def test_the_checker_finds_what_is_forged(forge: Callable[[History], None]) -> None:
    history = good_history()
    forge(history)
    assert violations(history)
