"""The clock of a machine since its boot, which runs while a process is frozen, and which no program sets."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

__all__ = ["boot_id", "boot_seconds"]

# On Linux it also runs while the machine sleeps. Elsewhere `monotonic` counts since the boot too.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)

#: Return the seconds since the boot of the machine, the same for all its processes.
boot_seconds: Callable[[], float] = time.monotonic if _CLOCK is None else partial(time.clock_gettime, _CLOCK)


@cache
def boot_id() -> str:
    """Return the id of this boot, or an empty text if the system has no id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
