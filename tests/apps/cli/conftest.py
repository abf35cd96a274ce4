"""Real commands on real files: `ofa`, and apps that run beside it as processes."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner

from openfactory.apps.cli import root
from openfactory.apps.cli.completion import COMPLETE_VARIABLE
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient
from openfactory.settings import VARIABLES

OFA = [sys.executable, "-P", "-m", "openfactory.apps.cli"]

PRESS = '''
import os
import threading

from openfactory.apps import EventAttribute, OpenFactoryApp, SampleAttribute, ofa_method
from openfactory.kafka import KSQLDBClient


class Press(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="App.Status")
    closed = EventAttribute(value=True, tag="Press.Closed")
    count = EventAttribute(value=0, tag="Press.Count")
    axes = EventAttribute(value=[], tag="Press.Axes")
    place = EventAttribute(value={}, tag="Press.Place")
    strokes = EventAttribute(tag="Press.Strokes")
    note = EventAttribute(value="two\\nlines \\x1b[31mred", tag="Press.Note")
    force = SampleAttribute(value=2.5, tag="Press.Force")

    @ofa_method(description="Press", param_description={"force": "in newton"})
    def press(self, force: float, times: int = 1):
        self.force = force
        return {"force": force, "times": times}

    @ofa_method()
    def release(self):
        """Open the press."""

    @ofa_method()
    def jam(self):
        raise RuntimeError("it is jammed")

    @ofa_method()
    def sleep(self, seconds: float):
        threading.Event().wait(seconds)

    def main_loop(self):
        threading.Event().wait()


app = Press(KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")))
app.run()
'''


def environment(more: dict[str, str]) -> dict[str, str]:
    """What a command sees: no setting of the machine, and warnings that are errors."""
    mine = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**mine, "PYTHONWARNINGS": "error", **more}


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """The working directory of the commands."""
    return tmp_path


@pytest.fixture
def ofa(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `ofa` in the workshop to its end, without a process of its own: `ofa("asset", "ls")`."""

    def run(*arguments: str, folder: Path = workshop, **more: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            for name, value in more.items():
                patch.setenv(name, value)
            found = CliRunner().invoke(root.ofa, arguments, prog_name="ofa", complete_var=COMPLETE_VARIABLE)
        logging.disable(logging.NOTSET)  # what a completion switches off, for its process
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return subprocess.CompletedProcess(arguments, found.exit_code, found.stdout, found.stderr)

    return run


@pytest.fixture
def ofa_process(workshop: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `ofa` in the workshop to its end as a process, as a terminal does: `ofa_process("run", "mill.py")`."""

    def run(
        *arguments: str,
        folder: Path = workshop,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int | IO[str] = subprocess.PIPE,
        **more: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*OFA, *arguments],
            cwd=folder,
            env=environment(more),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            encoding="utf-8",
            timeout=180,
        )

    return run


@pytest.fixture
def ofa_terminal(workshop: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `ofa` in the workshop on a terminal of 160 columns: `ofa_terminal("doctor", COLUMNS="50")`."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        main, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        mine = {name: value for name, value in environment({}).items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
        command = [*OFA, *arguments]
        with subprocess.Popen(command, cwd=workshop, env=mine | more, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            said = b""
            with suppress(OSError):  # the way in which Linux says that the other end is closed
                while piece := os.read(main, 65536):
                    said += piece
            os.close(main)
            status = process.wait(180)
        return subprocess.CompletedProcess(arguments, status, said.decode().replace("\r\n", "\n"), "")

    return run


Start = Callable[..., subprocess.Popen[bytes]]


@contextmanager
def processes() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *command: str | Path, log: str = "app.log", **more: str) -> subprocess.Popen[bytes]:
        with (folder / log).open("wb") as output:
            process = subprocess.Popen(
                [*OFA, *command[1:]] if command[0] == "ofa" else command,
                cwd=folder,
                env=environment({"PYTHONUNBUFFERED": "1"} | more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a command in a folder, its output in a file there: `start(folder, "ofa", "run", "press.py")`."""
    with processes() as start:
        yield start


@pytest.fixture(scope="module")
def press_workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which a press runs, for all tests of a module."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "press.py").write_text(PRESS, encoding="utf-8")
    with processes() as start:
        app = start(folder, "ofa", "run", "press.py")
        deadline = time.monotonic() + 60
        while "Starting the main loop" not in (said := (folder / "app.log").read_text(encoding="utf-8")):
            assert app.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        with Asset("press", KSQLDBClient(f"sqlite:///{folder}/factory.db")) as press:
            assert press.wait_until("avail", "AVAILABLE", timeout=60)  # it is written after the line, on a thread
        yield folder
