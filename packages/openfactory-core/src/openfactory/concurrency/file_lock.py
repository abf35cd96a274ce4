"""The lock file beside the database: who holds it may write, checkpoint and trim.

SQLite's own lock is not enough: until 3.51.3 a write that races a checkpoint can corrupt the file, and its waiting is
unfair to the many. A lock of the operating system ends with its process, however that ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from openfactory.concurrency.forked_child import reset_in_forked_child

__all__ = ["FileLock"]

if sys.platform == "win32":  # reasoned, not tried
    import msvcrt

    def _take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _try_to_take(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _give_back(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _try_to_take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give_back(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """A lock between processes; the kernel hands it out in turn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._in_process = threading.Lock()
        self._waiting_since: float | None = None
        reset_in_forked_child(self)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def acquire(self, timeout: float | None = None) -> bool:
        """Take the lock.

        Args:
            timeout: how long to try, in seconds; None waits in the kernel's queue, which is fair.

        Returns:
            whether it is taken; always, without a timeout.
        """
        if not self._in_process.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._waiting_since = time.monotonic()
        try:
            taken = self._acquire(timeout)
        except BaseException:
            self._in_process.release()
            raise
        finally:
            self._waiting_since = None
        if not taken:
            self._in_process.release()
            return False
        if hasattr(os, "pwrite"):  # for the text of others' errors
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        return True

    def release(self) -> None:
        """Give the lock back."""
        _give_back(self._descriptor)
        self._in_process.release()

    def waited(self) -> float:
        """For how long this process has been waiting for the lock, in seconds."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def holder(self) -> str:
        """Who took the lock last, for an error's text."""
        try:
            text = self.path.read_text(encoding="ascii").split("\n")[0]
        except (OSError, ValueError):
            text = ""
        return f"process {text}" if text.isdigit() else "another process"

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
        self._descriptor = -1

    def reset_after_fork(self) -> None:
        """The lock is the parent's: a child that kept the descriptor would hold it when the parent is dead."""
        if self._descriptor >= 0:
            self.close()

    def _acquire(self, timeout: float | None) -> bool:
        if timeout is None:
            _take(self._descriptor)
            return True
        deadline = time.monotonic() + timeout
        while True:
            try:
                _try_to_take(self._descriptor)
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.002)
