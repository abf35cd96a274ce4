"""A run of machines, watchers and commands, in which owners of assets end at random."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from foreign_log import read_notes
from history import Note, Stop
from machines import Machine, Way
from openfactory.assets.asset_class import Asset
from openfactory.assets.factory import Factory
from openfactory.events.event import AssetEvent
from openfactory.exceptions import OpenFactoryError
from openfactory.kafka import KSQLDBClient
from owner_history import OwnerHistory, OwnerWatch
from servers import Proxy

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

__all__ = ["EndsRun"]

_STOP_SECONDS = 30.0


class EndsRun:
    """The processes of a run.

    Args:
        start: starts a script of `workers/`.
        url: the log.
        folder: where the processes note what they do.
        apps: the apps of each machine.
        bound: seconds within which an end must be known.
        ends: number of random ends.
        longest: seconds of the longest freeze.
        proxy: a proxy through which the last machine reaches the log.

    Attributes:
        kinds: number of ends by kind, and of what else has happened.
        outages: times in which the log was away.
        is_away: whether it is away now.
    """

    def __init__(
        self,
        start: Start,
        url: str,
        folder: Path,
        chance: random.Random,
        apps: Iterable[tuple[str, ...]],
        *,
        bound: float,
        ends: int,
        longest: float = 60.0,
        proxy: Proxy | None = None,
    ) -> None:
        self.chance = chance
        self.kinds: Counter[str] = Counter()
        self.outages: list[Stop] = []
        self.is_away = False
        self._start, self._url, self._folder = start, url, folder
        self._bound, self._left, self._longest = bound, ends, longest
        groups = list(apps)
        self._machines = [
            Machine(
                start,
                uuids,
                url if proxy is None or uuids != groups[-1] else f"kafka://{proxy.address}",
                folder,
                chance,
                bound=bound,
                longest=longest,
                was_away=self._was_away,
                proxy=proxy if uuids == groups[-1] else None,
            )
            for uuids in groups
        ]
        self._uuids = [uuid for uuids in groups for uuid in uuids]
        self._watchers: list[tuple[Worker, OwnerWatch]] = []
        self._tokens = 0
        self._commands: list[AssetEvent] = []
        self._deck: list[str] = []
        self.client = KSQLDBClient(url)
        self._assets = [Asset(uuid, self.client) for uuid in self._uuids]
        self.client.engine.subscribe(None, self._take_command)

    def run(self, *more: Way) -> OwnerHistory:
        """Let all ways go to their ends, and read what the processes noted.

        Args:
            more: ways of other things, a broker for example, which go on while `goes_on`.
        """
        ways = [
            *(self._way_of(machine) for machine in self._machines),
            *(self._way_of_watcher(kind, wait) for kind, wait in (("asset", 0.0), ("factory", 0.0), ("asset", 30.0))),
            self._way_of_commands(),
            *more,
        ]
        due = dict.fromkeys(ways, 0.0)
        while due:
            now = time.monotonic()
            for way, at in list(due.items()):
                if at <= now:
                    wait = next(way, None)
                    if wait is None:
                        del due[way]
                    else:
                        due[way] = time.monotonic() + wait
            time.sleep(0.02)
        return self._history()

    @property
    def goes_on(self) -> bool:
        """Whether there are ends to come."""
        return self._left > 0

    def _was_away(self, since: float) -> bool:
        return self.is_away or any(outage.end > since for outage in self.outages)

    def _way_of(self, machine: Machine) -> Way:
        ends = machine.ends()
        yield from machine.started()
        while self.goes_on:
            yield self.chance.uniform(0.5, 6.0)
            if not self.goes_on:
                break
            kind = self._drawn(ends)
            self._left -= 1
            self.kinds[kind] += 1
            yield from ends[kind]()
            machine.note_unexpected_end()
            if machine.life.ended is not None:
                yield from machine.started()
        yield self._bound + 5.0  # what is written of the others has time

    def _drawn(self, kinds: Iterable[str]) -> str:
        """Return a random kind of several; each comes about as often as the others."""
        if not (left := [kind for kind in self._deck if kind in kinds]):
            self._deck += kinds
            self.chance.shuffle(self._deck)
            left = [kind for kind in self._deck if kind in kinds]
        self._deck.remove(left[0])
        return left[0]

    # Watchers and commands

    def _way_of_watcher(self, kind: str, wait: float) -> Way:
        """Start a watcher, and freeze it from time to time."""
        yield wait
        name = f"watcher-{len(self._watchers)} ({kind})"
        record = self._folder / f"watcher-{len(self._watchers)}.jsonl"
        environment = {"KSQLDB_URL": self._url, "PYTHONPATH": str(Path(__file__).parent)}
        worker = self._start("owner_watcher.py", record, kind, *self._uuids, **environment)
        watch = OwnerWatch(name, [], [])
        self._watchers.append((worker, watch))
        while self.goes_on:
            yield self.chance.uniform(20.0, 90.0)
            if self.goes_on:
                begin = time.monotonic()
                worker.process.send_signal(signal.SIGSTOP)
                self.kinds["watcher frozen"] += 1
                yield self.chance.uniform(1.0, self._longest * 2 / 3)
                worker.process.send_signal(signal.SIGCONT)
                watch.stops.append(Stop(worker.pid, begin, time.monotonic()))

    def _way_of_commands(self) -> Way:
        """Send commands, and send some again, as a network does that is not sure whether they have arrived."""
        while self.goes_on:
            yield self.chance.uniform(0.05, 0.3)
            self._tokens += 1
            with suppress(OpenFactoryError):
                self.chance.choice(self._assets).method("work", "TEST", {"token": str(self._tokens)})
                if self._tokens % 10 == 0:
                    for event in self.chance.sample(self._commands[-100:], min(len(self._commands), 5)):
                        self.client.engine.publish(event)

    def _take_command(self, event: AssetEvent) -> None:
        if event.tag == "Method.Command":
            self._commands.append(event)

    # The end of the run

    def _history(self) -> OwnerHistory:
        """End all processes, and read what they noted, and the claims in the log."""
        ended = time.monotonic()
        for asset in self._assets:
            asset.close()
        for machine in self._machines:
            machine.worker.process.send_signal(signal.SIGTERM)
        for machine in self._machines:
            with suppress(subprocess.TimeoutExpired):
                machine.worker.process.wait(_STOP_SECONDS)
        problems = [problem for machine in self._machines for problem in machine.problems]
        for worker, watch in self._watchers:
            if worker.process.poll() is not None:
                problems.append(f"{watch.name} ended: {worker.all_said}")
            worker.kill()
            watch.notes = read_notes(self._folder / f"{watch.name.partition(' ')[0]}.jsonl")
        owners: dict[tuple[str, str], int] = {}
        with Factory(self.client) as factory:
            for uuid in self._uuids:
                for event in factory.history(uuid, "AssetOwner", limit=100_000):
                    claim = json.loads(event.value) if isinstance(event.value, str) else event.value
                    owners.setdefault((uuid, str(claim["epoch"])), claim["pid"])
        self.client.close()
        lives = sorted((life for machine in self._machines for life in machine.lives), key=lambda life: life.started)
        ran: list[Note] = [note for life in lives for note in read_notes(life.record) if "ran" in note]
        return OwnerHistory(
            self._bound,
            lives,
            [watch for _, watch in self._watchers],
            self.outages,
            owners,
            ran,
            ended,
            problems,
        )
