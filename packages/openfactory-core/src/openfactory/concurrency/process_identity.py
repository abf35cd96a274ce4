"""The identity of a process, by which another one on the same machine sees whether it still runs.

A process id alone does not tell: it is used again after its process has ended, after the machine has started again, and
in each container.
"""

from __future__ import annotations

import os
from functools import cache

from openfactory.concurrency.boot_clock import boot_id

__all__ = ["exists", "is_running", "machine", "start_of"]

# Place of the start among the fields from the state on.
_START = 19


@cache
def machine() -> str:
    """Return an id of the running kernel and of the namespace of process ids, or an empty text if it is not known."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return ""
    boot = boot_id()
    return f"{boot}/{namespace}" if boot else ""  # other machines have a namespace with the same number


def start_of(pid: int) -> int | None:
    """Return the time at which a process has started, in ticks since the start of the machine; None if it has ended."""
    fields = _fields_of(pid)
    return None if fields is None or _is_dead(fields) else int(fields[_START])


def is_running(on_machine: str, pid: int, start: int | None) -> bool | None:
    """Return whether a process runs, by its identity; None if that cannot be seen from here."""
    if not on_machine or on_machine != machine() or start is None:
        return None
    fields = _fields_of(pid)
    if fields is None:
        return None if exists(pid) else False
    return not _is_dead(fields) and int(fields[_START]) == start


def _fields_of(pid: int) -> list[bytes] | None:
    """Return the fields of a process in `/proc` from its state on, or None if they cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()  # the name before, in parentheses, may contain anything
    except OSError:
        return None


def _is_dead(fields: list[bytes]) -> bool:
    return fields[0] in (b"Z", b"X")


def exists(pid: int) -> bool:
    """Return whether a process exists, also one that this user may not look at."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
