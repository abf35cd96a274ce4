"""Starts and ends the processes of the web benchmark."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from web_load import HOST, answer_of, wait_for_first_answer

__all__ = ["Server", "Taken", "Writer", "start_to_first_answer"]

_END_SECONDS = 30

_numbers = count()


class Taken(NamedTuple):
    """What a server has taken since it started, and when it said so."""

    updates: int
    processor_seconds: float
    at: float


class Server:
    """One of the servers, which answers from here on.

    Args:
        kind: `app`, the same on another server as `app-on-waitress`, `bare`,
            or `bare-by-hand` and `bare-made` with a thread that takes updates.
        database: the file of the engine.
        environment: variables beside those of this process.
    """

    def __init__(self, kind: str, database: Path, environment: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self.port = _free_port()
        begun = time.perf_counter()
        self._process = _start(
            kind, database, stdout=subprocess.DEVNULL, environment={**(environment or {}), "PORT": str(self.port)}
        )
        try:
            wait_for_first_answer(self.port, lambda: self._process.poll() is not None)
        except BaseException:
            _end(self._process)
            raise
        self.start_seconds = time.perf_counter() - begun

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _end(self._process)

    def taken(self) -> Taken:
        """What it has taken of updates by now."""
        said = answer_of(self.port, "/taken")
        return Taken(said["updates"], said["seconds"], time.perf_counter())


class Writer:
    """The process that writes updates to a file while it is asked to."""

    def __init__(self, database: Path) -> None:
        self._process = _start("write", database, stdout=subprocess.PIPE)
        try:
            self._answer()  # it is ready
        except BaseException:
            _end(self._process)
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        _end(self._process)

    @contextmanager
    def writing(self) -> Generator[None]:
        """While this is open, it writes."""
        self._tell()
        yield
        self._tell()
        self._answer()

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("The process that writes ended; its error stands above.")


def start_to_first_answer(kind: str, folder: Path) -> float:
    """How many seconds a server takes on a new file, with bytecode as installed packages have theirs."""
    bytecode = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    with Server(kind, folder / f"{next(_numbers)}.db", bytecode) as server:
        return server.start_seconds


def _start(
    kind: str, database: Path, *, stdout: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("web_programs.py")), kind, str(database)]
    variables = {**os.environ, **(environment or {})}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, text=True, env=variables)


def _end(process: subprocess.Popen[str]) -> None:
    """A process ends when its standard input does."""
    try:
        process.communicate(timeout=_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
