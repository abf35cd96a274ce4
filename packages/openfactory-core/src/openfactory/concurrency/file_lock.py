"""The lock file beside the database; its owner may write, checkpoint and trim.

SQLite's own lock is not enough: before 3.51.3, a write that races a checkpoint can corrupt the file, and waiting is
unfair when many processes write. The operating system releases this lock when its process ends, even if it is killed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from openfactory.concurrency.forked_child import reset_in_forked_child
from openfactory.concurrency.group_access import create_for_group
from openfactory.concurrency.kernel_locks import kernel_locks

__all__ = ["FileLock"]

if sys.platform == "win32":  # not tested
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """A lock between processes, which the kernel grants in order of arrival."""

    def __init__(self, path: Path) -> None:
        self.path = path
        create_for_group(path)
        self._descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        self._in_process = threading.Lock()
        self._waiting_since: float | None = None
        reset_in_forked_child(self)

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def acquire(self, timeout: float | None = None) -> bool:
        """Acquire the lock.

        Args:
            timeout: seconds to try; None waits in the kernel's queue, which is fair.

        Returns:
            whether the lock was acquired; always True without a timeout.
        """
        if not self._in_process.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self._waiting_since = time.monotonic()
        try:
            acquired = self._acquire(timeout)
        except BaseException:
            self._in_process.release()
            raise
        finally:
            self._waiting_since = None
        if not acquired:
            self._in_process.release()
            return False
        if hasattr(os, "pwrite"):  # `holder` reads it in other processes
            with suppress(OSError):  # the disk may be full
                os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        return True

    def release(self) -> None:
        """Release the lock."""
        _unlock(self._descriptor)
        self._in_process.release()

    def waited(self) -> float:
        """Return for how many seconds this process has been waiting for the lock."""
        since = self._waiting_since
        return 0.0 if since is None else time.monotonic() - since

    def holder(self) -> int | None:
        """Return the id of the other process that holds the lock, or None if it is not known.

        The kernel knows it, also if the holder is another program. It does not tell about processes of other
        containers. Without such a kernel, it is the process that has acquired the lock last.
        """
        try:
            holders = self._holders_by_kernel()
        except OSError:
            holders = self._last_holder()
        return next((pid for pid in holders if pid != os.getpid()), None)

    def close(self) -> None:
        """Close the lock file."""
        os.close(self._descriptor)
        self._descriptor = -1

    def reset_after_fork(self) -> None:
        """Close the parent's descriptor; with it, the child would still own the lock after the parent has ended."""
        if self._descriptor >= 0:
            self.close()

    def _holders_by_kernel(self) -> list[int]:
        return [lock.process for lock in kernel_locks(os.fstat(self._descriptor)) if lock.kind == "FLOCK"]

    def _last_holder(self) -> list[int]:
        try:
            text = self.path.read_text(encoding="ascii").split("\n")[0]
        except (OSError, ValueError):
            return []
        return [int(text)] if text.isdigit() else []

    def _acquire(self, timeout: float | None) -> bool:
        if timeout is None:
            _lock(self._descriptor)
            return True
        deadline = time.monotonic() + timeout
        while True:
            try:
                _try_lock(self._descriptor)
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.002)
