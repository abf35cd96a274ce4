"""Notes of a process that outlive it, and a clock that a test moves while the process runs."""

from __future__ import annotations

import json
import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

__all__ = ["CLOCK", "LIFE", "Notes", "follow_clock", "set_clock"]

#: Names the file with the seconds by which the clock of a process is wrong, as a float of 8 bytes.
CLOCK = "RECORDED_CLOCK"

#: The beginning of this process, which no other life of its role has: a process id may come again in a long run.
LIFE = f"{time.monotonic():.3f}"


class Notes:
    """A file of JSON lines. A note is the kernel's, and safe from a kill, before the process goes on."""

    def __init__(self, file: str | Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, **note: Any) -> None:
        # Time on the clock that all processes of the machine share. A torn line before this one stands alone.
        os.write(self._file, b"\n" + json.dumps({"at": time.monotonic()} | note).encode() + b"\n")


def set_clock(file: Path, seconds: float) -> None:
    """Let the clock of the processes that follow a file be wrong from now on; what they have mapped stays."""
    with open(file, "r+b" if file.exists() else "wb") as clock:
        clock.write(struct.pack("d", seconds))


def follow_clock() -> None:
    """Let `time` tell the time that a test wants, if it names a file with the difference."""
    if CLOCK not in os.environ:
        return
    with open(os.environ[CLOCK], "rb") as file:
        shift = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    true_time, true_time_ns, true_gmtime = time.time, time.time_ns, time.gmtime

    def shift_seconds() -> float:
        seconds: float = struct.unpack_from("d", shift)[0]
        return seconds

    time.time = lambda: true_time() + shift_seconds()
    time.time_ns = lambda: true_time_ns() + int(shift_seconds() * 1e9)
    time.gmtime = lambda seconds=None, /: true_gmtime(time.time() if seconds is None else seconds)
