"""Ends the servers of a process that has ended without doing so: killed, interrupted, or by an error at its exit.

`guarded` starts this file as a process of its own, which reads from a pipe that ends with the process that started it,
however that ends. (Linux can signal a child at its parent's death too, but means the thread that started it.)
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading

__all__ = ["guarded", "unguarded"]

_lock = threading.Lock()
_guard: subprocess.Popen[bytes] | None = None


def guarded(pid: int) -> None:
    """Have a server, which leads a process group, killed when this process ends."""
    _tell(f"+{pid}\n")


def unguarded(pid: int) -> None:
    """The server has ended; its number may be another's from now on."""
    _tell(f"-{pid}\n")


def _tell(line: str) -> None:
    global _guard
    with _lock:
        if _guard is None:
            atexit.register(_leave)
            _guard = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                start_new_session=True,  # Ctrl-C in a terminal reaches the whole group of the tests
            )
        assert _guard.stdin is not None
        _guard.stdin.write(line.encode())


def _leave() -> None:
    """Let the guard end, at the end of this process."""
    if _guard is not None:
        with _guard:  # it closes the pipe, and waits
            pass


def _main() -> None:
    alive: set[int] = set()
    for line in sys.stdin:
        (alive.add if line.startswith("+") else alive.discard)(int(line[1:]))
    for pid in alive:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    _main()
