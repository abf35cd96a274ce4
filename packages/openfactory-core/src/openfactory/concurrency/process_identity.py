"""The identity of a process, by which another one on the same machine sees whether it still runs.

A process id alone does not tell: it is used again after its process has ended, after the machine has started again, and
in each container.
"""

from __future__ import annotations

import os
from functools import cache

from openfactory.concurrency.boot_clock import boot_id

__all__ = ["is_running", "machine", "start_of"]


@cache
def machine() -> str:
    """Return an id of the running kernel and of the namespace of process ids, or an empty text if it is not known."""
    try:
        return f"{boot_id()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def start_of(pid: int) -> int | None:
    """Return the time at which a process has started, in ticks since the start of the machine; None if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program, in parentheses, may contain anything. State and start are fields 3 and 22.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def is_running(on_machine: str, pid: int, start: int | None) -> bool | None:
    """Return whether a process runs, by its identity; None if that cannot be seen from here."""
    if not on_machine or on_machine != machine() or start is None:
        return None
    return start_of(pid) == start
