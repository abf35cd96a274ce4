"""Machines of a random run: each runs some apps in one process, which ends in many ways and is started again."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from foreign_log import read_notes
from history import Stop
from owner_history import Life
from recording import CLOCK, set_clock
from servers import Proxy

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

__all__ = ["Machine", "Way"]

#: A way through the run: it yields the seconds until it goes on.
Way = Generator[float]

_START_SECONDS = 90.0
_STOP_SECONDS = 30.0
_POLL = 0.1


class Machine:
    """Some apps that run in one process; after its end another process runs them.

    Args:
        start: starts a script of `workers/`.
        uuids: the apps.
        url: the log, as this machine reaches it.
        folder: where the processes note what they do.
        bound: seconds within which an end must be known.
        longest: seconds of the longest freeze.
        was_away: returns whether the log was away since a time, so that starts and orderly ends may have failed.
        proxy: the proxy through which the machine reaches the log, if it can be cut off.

    Attributes:
        worker: its newest process.
        lives: what is known of each.
        problems: what went wrong.
    """

    def __init__(
        self,
        start: Start,
        uuids: tuple[str, ...],
        url: str,
        folder: Path,
        chance: random.Random,
        *,
        bound: float,
        longest: float,
        was_away: Callable[[float], bool],
        proxy: Proxy | None = None,
    ) -> None:
        self.uuids = uuids
        self.worker: Worker
        self.lives: list[Life] = []
        self.problems: list[str] = []
        self._start, self._url, self._folder, self._chance = start, url, folder, chance
        self._bound, self._longest, self._was_away, self._proxy = bound, longest, was_away, proxy
        self._numbers = count()

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def ends(self) -> dict[str, Callable[[], Way]]:
        """Return the kinds of ends that the process can have."""
        ends: dict[str, Callable[[], Way]] = {
            "SIGTERM": lambda: self._signalled(signal.SIGTERM),
            "SIGKILL": lambda: self._signalled(signal.SIGKILL),
            "SIGKILL, started at once": lambda: self._signalled(signal.SIGKILL, start_at_once=True),
            "os._exit": lambda: self._ordered("exit"),
            "segmentation fault": lambda: self._ordered("segfault"),
            "crash of the main loop": lambda: self._ordered("crash"),
            "frozen for seconds": lambda: self._frozen(self._chance.uniform(1.0, self._bound / 2)),
            "frozen": lambda: self._frozen(self._chance.uniform(1.0, self._longest)),
            "frozen, then killed": self._frozen_and_killed,
            "taken over": self._taken_over,
            "taken over while frozen": lambda: self._taken_over(frozen=True),
            "started again while frozen": self._replaced_while_frozen,
            "second start": self._refused,
            "clock jumped by a day": self._clock_jumped,
        }
        if (proxy := self._proxy) is not None:
            ends["cut off"] = lambda: self._cut_off(proxy)
        return ends

    def started(self, **environment: str) -> Way:
        """Start a process, and wait until its apps run; start it again if the log was away."""
        while True:
            worker, life = self._new(**environment)
            self.worker = worker
            self.lives.append(life)
            yield from self._until_running(worker, life)
            if life.runs is not None or not self._was_away(life.started):
                break
            yield 1.0

    def _new(self, **environment: str) -> tuple[Worker, Life]:
        record = self._folder / f"{self.uuids[0]}-{next(self._numbers)}.jsonl"
        clock = record.with_suffix(".clock")
        set_clock(clock, 0.0)
        ours = {"KSQLDB_URL": self._url, CLOCK: str(clock), "PYTHONPATH": str(Path(__file__).parent)}
        begin = time.monotonic()
        worker = self._start("owned_apps.py", record, *self.uuids, **ours, **environment)
        return worker, Life(worker.pid, self.uuids, begin, record=record)

    def _until_running(self, worker: Worker, life: Life) -> Way:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if len([note for note in read_notes(life.record) if "runs" in note]) == len(self.uuids):
                life.runs = time.monotonic()
                return
            if worker.process.poll() is not None:
                if not self._was_away(life.started):
                    self._problem(f"a start ended with {worker.process.returncode}: {worker.all_said}")
                life.ended, life.kind = time.monotonic(), "start failed"
                return
            yield _POLL
        self._problem(f"a start took more than {_START_SECONDS:g} s: {worker.all_said}")

    def _ended(self, worker: Worker, life: Life, kind: str, status: int) -> Way:
        """Wait until a process has ended."""
        life.kind = kind
        life.ending = begin = time.monotonic()
        while worker.process.poll() is None:
            if time.monotonic() > begin + _STOP_SECONDS:
                self._problem(f"{kind}: no end within {_STOP_SECONDS:g} s: {worker.all_said}")
                worker.kill()
            yield 0.0
        life.ended = time.monotonic()
        if worker.process.returncode != status and not self._was_away(begin):
            self._problem(f"{kind}: status {worker.process.returncode}, not {status}: {worker.all_said}")

    def _until_known(self) -> Way:
        """Wait until others must know the end; the time in which the log is away does not count."""
        yield self._bound + self._chance.uniform(1.5, 5.0)
        while self._was_away(time.monotonic() - self._bound - 1.5):
            yield 1.0

    def _signalled(self, number: int, *, start_at_once: bool = False) -> Way:
        self.worker.process.send_signal(number)
        status = 0 if number == signal.SIGTERM else -number
        yield from self._ended(self.worker, self.life, signal.Signals(number).name, status)
        if not start_at_once:
            yield from self._until_known()

    def _ordered(self, order: str) -> Way:
        new = Path(f"{self.life.record}.new")
        new.write_text(order, encoding="ascii")
        new.rename(f"{self.life.record}.order")
        status = {"exit": 3, "segfault": -signal.SIGSEGV, "crash": 1}[order]
        yield from self._ended(self.worker, self.life, order, status)
        yield from self._until_known()

    def _frozen(self, seconds: float) -> Way:
        begin = self._freeze(self.worker)
        yield seconds
        self._continue(self.worker, self.life, begin)
        yield self._chance.choice((0.0, self._bound))

    def _frozen_and_killed(self) -> Way:
        begin = self._freeze(self.worker)
        yield self._chance.uniform(1.0, self._bound)
        self.worker.process.kill()
        self.life.silences.append(Stop(self.worker.pid, begin, time.monotonic()))
        yield from self._ended(self.worker, self.life, "SIGKILL while frozen", -signal.SIGKILL)
        yield from self._until_known()

    def _freeze(self, worker: Worker) -> float:
        worker.process.send_signal(signal.SIGSTOP)
        return time.monotonic()

    def _continue(self, worker: Worker, life: Life, begin: float) -> None:
        worker.process.send_signal(signal.SIGCONT)
        life.silences.append(Stop(worker.pid, begin, time.monotonic()))

    def _taken_over(self, *, frozen: bool = False) -> Way:
        """Start the apps again with the right to take over; the older process stops with status 1."""
        worker, life = self.worker, self.life
        begin = self._freeze(worker) if frozen else 0.0
        if frozen:
            yield self._chance.uniform(0.2, self._bound * 1.5)
        yield from self.started(APP_TAKE_OVER="1")
        if frozen:
            yield self._chance.uniform(0.0, 5.0)
            self._continue(worker, life, begin)
        yield from self._ended(worker, life, "taken over", 1)

    def _replaced_while_frozen(self) -> Way:
        """Start the apps again when the frozen process is known to have ended; it stops when it goes on."""
        worker, life = self.worker, self.life
        begin = self._freeze(worker)
        yield from self._until_known()
        yield from self.started()
        yield self._chance.uniform(0.0, 5.0)
        self._continue(worker, life, begin)
        yield from self._ended(worker, life, "replaced while frozen", 1)

    def _refused(self) -> Way:
        """Start the apps a second time: the start ends with status 1, and one sentence that names the owner."""
        worker, life = self._new()
        yield from self._ended(worker, life, "refused", 1)
        yield 2.0
        if self._was_away(life.started):
            return
        sentences = [line for line in worker.err.splitlines() if "which has run it since" in line]
        if len(sentences) != 1 or f"process {self.worker.pid} on" not in sentences[0] or read_notes(life.record):
            self._problem(f"a second start was not refused by one sentence: {worker.all_said}")

    def _clock_jumped(self) -> Way:
        set_clock(self.life.record.with_suffix(".clock"), self._chance.choice((-86_400.0, 86_400.0)))
        yield self._bound

    def _cut_off(self, proxy: Proxy) -> Way:
        proxy.cut()
        begin = time.monotonic()
        yield self._chance.uniform(1.0, self._longest / 2)
        proxy.restore()
        self.life.silences.append(Stop(self.worker.pid, begin, time.monotonic()))
        yield self._chance.choice((0.0, self._bound))

    def note_unexpected_end(self) -> None:
        """Take note of an end of the process that nothing has caused."""
        if self.life.ended is None and self.worker.process.poll() is not None:
            self._problem(f"ended by itself with {self.worker.process.returncode}: {self.worker.all_said}")
            self.life.kind, self.life.ending = "ended by itself", time.monotonic()
            self.life.ended = self.life.ending

    def _problem(self, text: str) -> None:
        self.problems.append(f"{self.uuids[0]}: {text}")
