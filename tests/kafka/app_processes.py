"""Apps as processes of their own: started, listened to, frozen at a chosen moment, and ended by their id."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

__all__ = ["AppProcess", "freeze", "freeze_when"]


class AppProcess:
    """An app, or a watcher of it, as a process of its own."""

    def __init__(self, folder: Path, command: Sequence[str | Path], environment: dict[str, str]) -> None:
        self._log = folder / f"{uuid4().hex[:8]}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until(self, text: str, timeout: float = 120.0) -> None:
        """Wait until it says something."""
        deadline = time.monotonic() + timeout
        while text not in self.said:
            assert self.process.poll() is None, f"it ended before {text!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"it did not say {text!r}:\n{self.said}"
            time.sleep(0.02)

    def ends(self) -> int:
        """Wait for its end; its exit status."""
        return self.process.wait(120)

    def stop(self) -> int:
        """Stop it as an operator would; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.ends()

    def freeze(self) -> None:
        """Freeze it; the peers of its connections do not notice it soon."""
        freeze(self.process)

    def thaw(self) -> None:
        """Let it go on after it was frozen."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power switch would."""
        self.process.kill()
        self.ends()


def freeze_when(process: subprocess.Popen[bytes], condition: Callable[[], bool], timeout: float = 60.0) -> None:
    """Freeze a process (SIGSTOP) at a moment at which a condition holds; it goes on between two attempts."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        freeze(process)
        if condition():
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    raise AssertionError("the condition never held when the process was frozen")


def freeze(process: subprocess.Popen[bytes]) -> None:
    """Stop a process (SIGSTOP), and return when all its threads have stopped; it stays to be waited for."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
