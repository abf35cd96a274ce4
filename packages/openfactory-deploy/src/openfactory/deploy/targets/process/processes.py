"""Processes of apps: started, watched, signalled as a group, and found again."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from openfactory.deploy.targets.process.records import Program, Record

__all__ = ["ended", "has_group", "memory_of", "signal_group", "started", "strays"]

# Seconds between looks at a process where the kernel does not tell its end.
_LOOK = 0.1

# Memory that a process may reserve above its limit: stacks of threads count, though most of them are never used. The
# limit itself is for the memory in use, which the supervisor watches; this one bounds what happens between two looks.
_RESERVED = 2**30


def started(program: Program, ports: Mapping[str, str], more: Mapping[str, str], log: int) -> subprocess.Popen[bytes]:
    """Start the process of a program in a session of its own.

    Args:
        program: the program.
        ports: variables with ports, in place of those of the program.
        more: further variables.
        log: descriptor of its log.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be started.
    """
    return subprocess.Popen(
        program.arguments,
        cwd=program.folder,
        env={**program.environment, **ports, **more},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        user=program.uid,
        group=program.gid,
        extra_groups=None if program.gid is None else [],
        preexec_fn=lambda: _limit(program),  # the supervisor has one thread
    )


async def ended(record: Record) -> None:
    """Wait until the process of a record has ended, also one that another supervisor has started."""
    try:
        descriptor = os.pidfd_open(record.pid or 0)
    except (AttributeError, OSError):  # it has ended, or this system tells no ends of processes
        while record.has_process():
            await asyncio.sleep(_LOOK)
        return
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_reader(descriptor, end.set)
    try:
        if record.has_process():  # else the descriptor may be of a later process with this id
            await end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process and all that it has started in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def has_group(pid: int) -> bool:
    """Return whether a process, or one of its group, exists."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process uses, or 0 if they are not known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def strays(logs: Path, known: Collection[int]) -> list[int]:
    """Return the processes that write into a log of this folder and are not known.

    The supervisor was killed before it could note them, or they are of an app that has ended meanwhile.

    Args:
        logs: folder of the logs.
        known: ids of the processes that are known; those of their groups are no strays.
    """
    found = []
    with suppress(OSError):
        processes = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        for pid in processes:
            with suppress(OSError):
                if Path(os.readlink(f"/proc/{pid}/fd/1")).parent == logs and os.getpgid(pid) not in known:
                    found.append(pid)
    return found


def _limit(program: Program) -> None:
    """Limit the child process, before its program begins."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    if program.open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (program.open_files, program.open_files))
    if program.memory is not None and sys.platform == "linux":
        reserved = program.memory + _RESERVED
        resource.setrlimit(resource.RLIMIT_DATA, (reserved, reserved))
