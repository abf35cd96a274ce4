"""A run of several processes on one log: an app, its callers, a writer and watchers. A killed one starts again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from foreign_log import read_notes
from history import History, Note, Row, Stop
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.events.event import AssetEvent
from openfactory.exceptions import DeliveryError
from openfactory.kafka import KSQLDBClient
from recording import CLOCK, set_clock
from watches import Watch

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

__all__ = ["FactoryRun", "Role"]

# A command that comes again after more others than this may have been forgotten by the app.
_REPEATED_COMMANDS = 2_000


@dataclass
class Role:
    """One process after another, of one script. Each notes what it does in a file of its own.

    Attributes:
        lives: the processes, the newest last.
        ended: how those ended that were not killed.
    """

    name: str
    script: str
    arguments: tuple[object, ...]
    folder: Path
    start: Start
    environment: dict[str, str]
    lives: list[Worker] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)

    @property
    def worker(self) -> Worker:
        return self.lives[-1]

    @property
    def is_running(self) -> bool:
        return bool(self.lives) and self.worker.process.poll() is None

    def revive(self) -> None:
        """Start it, if it does not run."""
        if self.is_running:
            return
        if not self.lives:
            self.set_clock(0)
        elif (status := self.worker.process.returncode) != -signal.SIGKILL:
            reason = (self.worker.err.strip().splitlines() or ["it wrote nothing"])[-1]
            self.ended[f"status {status}: {reason[:200]}"] += 1
        record = self.folder / f"{self.name}-{len(self.lives)}.jsonl"
        ours = {CLOCK: str(self.folder / f"{self.name}.clock"), "PYTHONPATH": str(Path(__file__).parent)}
        self.lives.append(self.start(self.script, record, *self.arguments, **self.environment, **ours))

    def set_clock(self, seconds: float) -> None:
        """Let the clock of its processes be wrong from now on."""
        set_clock(self.folder / f"{self.name}.clock", seconds)

    def notes(self) -> list[list[Note]]:
        """The notes of each life."""
        return [read_notes(self.folder / f"{self.name}-{life}.jsonl") for life in range(len(self.lives))]


class FactoryRun:
    """The processes of a run, and a client that delivers their commands twice.

    Args:
        start: starts a script of `workers/`.
        url: where the log is.
        folder: where the processes note what they do.
        read_log: reads the log with a foreign program.
        pause: seconds between two writes of a process; by default, as few as each can.
        writers: whether a writer of many events is among them.
    """

    def __init__(
        self,
        start: Start,
        url: str,
        folder: Path,
        chance: random.Random,
        read_log: Callable[[], list[Row]],
        *,
        pause: float | None = None,
        writers: int = 0,
    ) -> None:
        self.chance, self.read_log = chance, read_log
        self.commands: list[AssetEvent] = []
        self.stops: list[Stop] = []
        self.earlier_logs: list[Row] = []
        self.made_anew: list[float] = []
        self.watched = ("CELL", "BOARD", "BENCH") if writers else ("CELL", "BOARD")
        self._url = url
        environment = {"KSQLDB_URL": url}
        pauses = () if pause is None else (pause,)

        def role(name: str, script: str, *arguments: object, **more: str) -> Role:
            return Role(name, script, arguments, folder, start, environment | more)

        self.app = role("app", "recorded_app.py", *pauses, APP_UUID="CELL")
        callers = [
            role(name, "recorded_caller.py", name, chance.random(), *pauses) for name in ("HMI-0", "HMI-1", "HMI-2")
        ]
        makers = [role(f"writer-{n}", "recorded_writer.py", chance.random(), *pauses) for n in range(writers)]
        self.sources = [*callers, *makers]
        self.watchers = [role(f"watcher-{n}", "recorded_watcher.py", *self.watched) for n in range(2)]
        self.client = KSQLDBClient(url)
        self.client.engine.subscribe("CELL", self._take_command)
        for one in (self.watchers[0], self.app, *self.sources):
            one.revive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with suppress(DeliveryError):  # commands that were to come again, while the disk was full
            self.client.close()

    @property
    def roles(self) -> list[Role]:
        return [self.app, *self.sources, *self.watchers]

    def ran(self) -> int:
        """How many methods have been started."""
        return sum("ran" in note for life in self.app.notes() for note in life)

    def _take_command(self, event: AssetEvent) -> None:
        if event.tag == "Method.Command":
            self.commands.append(event)

    def deliver_again(self) -> None:
        """As a network does that is not sure whether a command has arrived."""
        recent = self.commands[-_REPEATED_COMMANDS:]
        for event in self.chance.sample(recent, min(len(recent), 20)):
            self.client.engine.publish(event)

    def end(self, patience: float = 60.0) -> History:
        """Let all end their work, the app as the last, and read what is there."""
        for one in self.roles:
            one.revive()
        self.app.worker.until("running", patience)
        with KSQLDBClient(self._url) as client:
            last_call = self._call(client)
            self._write(client, "GO", "state")
            problems = [text for source in self.sources for text in _ended(source, patience)]
            self.app.worker.process.send_signal(signal.SIGTERM)
            problems += _ended(self.app, patience)
            for uuid in self.watched:
                self._write(client, uuid, "mark")
        for watcher in self.watchers:
            problems += _ended(watcher, patience)
        return History(
            [*self.earlier_logs, *self.read_log()],
            [last_call, *([note for life in role.notes() for note in life] for role in (self.app, *self.sources))],
            [
                Watch(notes, lived=life == len(watcher.lives) - 1)
                for watcher in self.watchers
                for life, notes in enumerate(watcher.notes())
            ],
            self.stops,
            self.made_anew,
            problems,
        )

    def _write(self, client: KSQLDBClient, uuid: str, attribute: str) -> None:
        with Asset(uuid, client) as asset:
            asset.add_attribute(AssetAttribute(id=attribute, value="end", type="Events", tag="End"), timeout=30)

    def _call(self, client: KSQLDBClient) -> list[Note]:
        """Call the last app, which must answer."""
        begin = time.monotonic()
        with Asset("CELL", client) as cell:
            result = cell.call("work", token="end", milliseconds=0, sender_uuid="TEST", timeout=30)
        called = {"called": "end", "outcome": "result", "result": result, "pid": os.getpid(), "timeout": 30}
        return [{"calls": "end", "at": begin}, {**called, "at": begin, "ended": time.monotonic()}]


def _ended(role: Role, patience: float) -> list[str]:
    """Wait until a process has ended by itself; what is wrong with it."""
    try:
        status = role.worker.process.wait(patience)
    except subprocess.TimeoutExpired:
        role.worker.kill()
        return [f"{role.name} did not end in {patience:g} s: {role.worker.all_said}"]
    return [f"{role.name} ended with {status}: {role.worker.all_said}"] if status else []
