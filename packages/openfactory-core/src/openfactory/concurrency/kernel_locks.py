"""The locks of a file, as Linux knows them: also those of other programs."""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = ["KernelLock", "kernel_locks"]


class KernelLock(NamedTuple):
    """A lock that a process holds on a file.

    Attributes:
        kind: `FLOCK` for a lock on the whole file, `POSIX` or `OFDLCK` for a lock on some of its bytes.
        process: id of the process; 0 or less if it runs in another container.
        first: first byte of the lock.
    """

    kind: str
    process: int
    first: int


def kernel_locks(status: os.stat_result) -> list[KernelLock]:
    """Return the locks that processes hold on a file. Locks that they wait for are not included.

    Args:
        status: status of the file.

    Raises:
        OSError: the kernel does not list its locks.
    """
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with open("/proc/locks", encoding="ascii") as lines:
        # 1: FLOCK  ADVISORY  WRITE 4711 fe:00:9986118 0 EOF; a process that waits has an arrow after the number
        locks = [line.split() for line in lines]
    return [KernelLock(kind, int(pid), int(first)) for _, kind, _, _, pid, place, first, *_ in locks if place == file]
