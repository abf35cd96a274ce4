"""A server as a process of its own: started until it answers, stopped, killed, and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from servers.guard import guarded, unguarded

__all__ = ["Server", "ServerFailedError", "is_running"]


class ServerFailedError(RuntimeError):
    """A server did not start, or did not stop; the text ends with what it said last."""


class Server(ABC):
    """One server on 127.0.0.1; as a context manager it runs within the block, and nothing is left of it after.

    Its ports and its folder stay the same from start to start.

    Args:
        data_folder: where its files are, kept at the end; without one they are in a temporary folder, which is not.
    """

    #: How errors and folders call it.
    name: str
    #: So many seconds it may take until it answers, on a machine that is busy with other things.
    start_timeout: ClassVar[float] = 60.0

    def __init__(self, data_folder: Path | None = None) -> None:
        self._folder = data_folder.resolve() if data_folder else None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self) -> None:
        """Write what it needs in its folder; called before each start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """What starts it."""

    def _environment(self) -> Mapping[str, str]:
        """More variables of its environment."""
        return {}

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it does its work by now."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where its files are, `server.log` among them."""
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"openfactory-{self.name}-")
            self._folder = Path(self._temporary.name)
        return self._folder

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ServerFailedError: it does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise ServerFailedError(f"{self.name} does not run. Start it first.")
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has said since its last start; nothing after `close`, when its folder was temporary."""
        if self._folder is None:
            return ""
        try:
            return (self._folder / "server.log").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def start(self) -> None:
        """Start it, again too, and come back when it answers.

        Raises:
            NotOnThisMachineError: the machine lacks what it needs.
            ServerFailedError: it ended, or did not answer in time.
        """
        if self._process is not None:
            raise ServerFailedError(f"{self.name} runs already. Stop it first.")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._prepare()
            self._launch()
            self._until_ready()
        except BaseException:
            self.kill()
            self._remove_temporary()
            raise

    def stop(self, timeout: float = 30.0) -> None:
        """Ask it to stop (SIGTERM) and come back when it has; nothing happens if it does not run.

        Raises:
            ServerFailedError: it did not stop in time, and was killed.
        """
        if self._process is None:
            return
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise ServerFailedError(self._complaint(f"did not stop in {timeout:g} s")) from error
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a power switch would (SIGKILL); nothing happens if it does not run."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        unguarded(self._process.pid)
        self._process = None

    def suspend(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        # Until all its threads have stopped: on a busy machine, one may still answer. It stays to be waited for.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good; the files go too if the folder was temporary."""
        if self._temporary is None:
            self.stop()
        else:
            self.kill()
            self._remove_temporary()

    def _launch(self) -> None:
        # On a thread, which no signal interrupts: a process that is started and not known yet would never be ended.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._start_process).result()

    def _start_process(self) -> None:
        with open(self.folder / "server.log", "wb") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **self._environment()},
                start_new_session=True,  # Ctrl-C in a terminal is for the tests, which stop it in their order
            )
        guarded(self._process.pid)

    def _until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.start_timeout
        while not self._is_ready():
            if self._process.poll() is not None:
                raise ServerFailedError(self._complaint(f"ended with status {self._process.returncode}"))
            if time.monotonic() > deadline:
                raise ServerFailedError(self._complaint(f"did not answer within {self.start_timeout:g} s"))
            time.sleep(0.02)

    def _complaint(self, what: str) -> str:
        tail = "\n".join(self.log.splitlines()[-30:])
        return f"{self.name} {what}. The end of its log may say why:\n{tail or '(it said nothing)'}"

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = self._folder = None


def is_running(pid: int) -> bool:
    """Whether any thread of a process runs; one that has ended and was not waited for (a zombie) does not."""
    return any(_thread_state(task) not in "ZX" for task in Path(f"/proc/{pid}/task").glob("*"))


def _thread_state(task: Path) -> str:
    try:
        # Behind the name of the program, which may hold anything: `1 (java) S 0 …`.
        return (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
