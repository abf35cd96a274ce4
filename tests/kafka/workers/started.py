"""Processes for the tests of this folder: started, listened to, and ended by their id."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Worker", "started"]

_FOLDER = Path(__file__).parent


class Worker:
    """A script of this folder as a process; what it says goes into files, so that it never waits for a reader."""

    def __init__(self, folder: Path, script: str, *arguments: object, **environment: str) -> None:
        self._said = [folder / f"{script}-{time.monotonic_ns()}.{stream}" for stream in ("out", "err")]
        with open(self._said[0], "wb") as out, open(self._said[1], "wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(_FOLDER / script), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )

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
        """Wait until it says something on stdout."""
        deadline = time.monotonic() + timeout
        while text not in self.out:
            assert self.process.poll() is None, f"it ended before {text!r}:\n{self.err[-4000:]}"
            assert time.monotonic() < deadline, f"{text!r} was not said in {timeout:g} s:\n{self.err[-4000:]}"
            time.sleep(0.01)

    def ended(self, timeout: float = 60.0) -> int:
        """Its exit status, as soon as it has ended."""
        return self.process.wait(timeout)


@contextmanager
def started(folder: Path) -> Iterator[Any]:
    """Start scripts with arguments, and environment variables as keywords; what runs at the end is killed."""
    workers: list[Worker] = []

    def start(script: str, *arguments: object, **environment: str) -> Worker:
        workers.append(Worker(folder, script, *arguments, **environment))
        return workers[-1]

    try:
        yield start
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
            worker.process.wait(60)
