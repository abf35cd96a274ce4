"""Processes for the tests of this folder: started, listened to, and ended by their id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app_processes import freeze_when
from owner_promises import is_held

WORKERS = Path(__file__).with_name("workers")


class Worker:
    """One started process; what it says goes into files, so that nobody has to read for it to go on."""

    def __init__(self, folder: Path, number: int, script: str, *arguments: object, **environment: str) -> None:
        self._said = [folder / f"{number}-{script}.{stream}" for stream in ("out", "err")]
        command = [sys.executable, str(WORKERS / script), *map(str, arguments)]
        with open(self._said[0], "wb") as out, open(self._said[1], "wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def out(self) -> str:
        """What it has said on stdout so far."""
        return self._said[0].read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """What it has said on stderr so far."""
        return self._said[1].read_text(encoding="utf-8", errors="replace")

    def lines(self) -> list[str]:
        """The whole lines it has said on stdout so far."""
        said = self.out
        return said[: said.rfind("\n") + 1].splitlines()

    def until(self, text: str, timeout: float = 60.0) -> None:
        """Wait until it says something, on stdout or stderr."""
        deadline = time.monotonic() + timeout
        while text not in self.out + self.err:
            assert self.process.poll() is None, (
                f"it ended with {self.process.returncode} before {text!r}:\n{self.all_said}"
            )
            assert time.monotonic() < deadline, f"{text!r} was not said in {timeout:g} s, but:\n{self.all_said}"
            time.sleep(0.005)

    def ended(self, timeout: float = 60.0) -> int:
        """Its exit status, as soon as it has ended."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end in {timeout:g} s. It said:\n{self.all_said}")

    def stopped_by(self, signum: int, timeout: float = 60.0) -> tuple[int, float]:
        """Signal it; its exit status, and how long its stop took in seconds."""
        begin = time.monotonic()
        self.process.send_signal(signum)
        status = self.ended(timeout)
        return status, time.monotonic() - begin

    def kill(self) -> None:
        """End it as a power switch would."""
        self.process.kill()
        self.process.wait(60)

    @property
    def all_said(self) -> str:
        return f"--- stdout\n{self.out[-4000:]}\n--- stderr\n{self.err[-4000:]}"


Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start a script of `workers/` with arguments, and environment variables as keywords."""
    folder = tmp_path_factory.mktemp("said")
    workers: list[Worker] = []

    def start_worker(script: str, *arguments: object, **environment: str) -> Worker:
        workers.append(Worker(folder, len(workers), script, *arguments, **environment))
        return workers[-1]

    yield start_worker
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGKILL)
        worker.process.wait(60)


StopHolding = Callable[[Worker, Path], None]


@pytest.fixture
def stop_holding() -> StopHolding:
    """Stop a process that writes without a pause (SIGSTOP) at a moment at which it holds the lock file."""

    return lambda writer, lock: freeze_when(writer.process, lambda: is_held(lock))
