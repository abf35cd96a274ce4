"""One app under supervision: started, started again by its policy, stopped, and taken over from a killed supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from openfactory.concurrency.process_identity import machine, start_of
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.log_files import append_note, open_log
from openfactory.deploy.targets.process.ports import chosen_port
from openfactory.deploy.targets.process.processes import ended, has_group, memory_of, signal_group, started
from openfactory.deploy.targets.process.records import Record

__all__ = ["Supervised"]

# Pauses between an end and the next start, as Docker has them: they double up to the longest, and a run that was long
# enough begins anew.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 60.0
_LONG_RUN = 10.0

# Seconds between two looks at the memory of an app with a limit.
_MEMORY_LOOK = 0.25

# Seconds that a killed process may take to end.
_KILLED = 10.0


class Supervised:
    """The process of a record.

    Args:
        record: the record, which this object keeps up to date.
        layout: files of the supervisor.
        save: called after each change of the record.
        reserved: returns the ports of the other apps.
        superseded: returns whether a newer generation of a record runs.
    """

    def __init__(
        self,
        record: Record,
        layout: Layout,
        save: Callable[[], None],
        reserved: Callable[[], set[int]],
        superseded: Callable[[Record], bool],
    ) -> None:
        self.record = record
        self._layout = layout
        self._save = save
        self._reserved = reserved
        self._superseded = superseded
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._watch: asyncio.Task[None] | None = None
        self._change = asyncio.Lock()  # two commands may want to stop or restart it at once
        self._is_stopped = False

    @property
    def ports(self) -> set[int]:
        """Ports of the app."""
        return {int(port) for port in self.record.ports.values()}

    def start(self, *, take_over: bool) -> None:
        """Start the app for the first time.

        Args:
            take_over: whether another instance has its UUID.

        Raises:
            OSError, subprocess.SubprocessError: it cannot be started.
        """
        wanted = self.record.program.environment
        reserved = self._reserved()
        for name in self.record.program.ports:
            port = chosen_port(int(wanted[name]), reserved)
            self.record.ports[name] = str(port)
            reserved.add(port)
        self._spawn({"APP_TAKE_OVER": "1"} if take_over else {})
        self._supervise()

    def resume(self) -> None:
        """Go on after the end of an earlier supervisor: with its process, or with the policy if that has ended."""
        record = self.record
        if record.state == "exited":
            return
        if record.pid is not None and not record.has_process():
            record.pid = record.start = record.exit_status = None  # the id may be that of another process by now
            self._note("ended while the supervisor did not run")
        self._supervise()

    async def suspend(self) -> None:
        """Stop the app so that `resume` of a later supervisor starts it again, if its policy does."""
        async with self._change:
            self._end_watch()
            if self.record.state != "exited":
                await self._end()
                self.record.state = "restarting"
            self._is_stopped = True

    async def stop(self) -> None:
        """Stop the app within its grace period.

        Raises:
            TimeoutError: it does not end, though it was killed.
        """
        async with self._change:
            self._end_watch()
            await self._end()
            self.record.state = "exited"
            self._is_stopped = True

    async def restart(self) -> bool:
        """Stop the app and start it again, and return whether it was; another command may have stopped it for good.

        Raises:
            TimeoutError: it does not end, though it was killed.
            OSError, subprocess.SubprocessError: it cannot be started again.
        """
        async with self._change:
            if self._is_stopped:
                return False
            self._end_watch()
            try:
                await self._end()
            except TimeoutError:
                self._supervise()
                raise
            self._failures = 0
            self.record.state = "exited"
            self._save()
            self._spawn({})
            self._supervise()
            return True

    def _supervise(self) -> None:
        self._watch = asyncio.create_task(self._keep_running())

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _keep_running(self) -> None:
        while True:
            if self.record.pid is not None:
                await self._wait_and_note_end()
            if not self._starts_again():
                self.record.state = "exited"
                self._save()
                return
            pause = min(_FIRST_PAUSE * 2 ** min(self._failures, 20), _LONGEST_PAUSE)
            self._failures += 1
            self.record.state = "restarting"
            self._save()
            self._note(f"{self._status_text()}; it is started again in {pause:g} s")
            await asyncio.sleep(pause)
            while self._superseded(self.record):  # it gave its UUID to a newer one, and is needed if that one fails
                await asyncio.sleep(_FIRST_PAUSE)
            self.record.restarts += 1
            try:
                self._spawn({})
            except (OSError, subprocess.SubprocessError) as error:
                self.record.exit_status = 127
                self._note(f"cannot be started: {error}")

    async def _wait_and_note_end(self) -> None:
        record = self.record
        pid = record.pid
        assert pid is not None
        memory = asyncio.create_task(self._watch_memory(pid)) if record.program.memory is not None else None
        try:
            await ended(record)
        finally:
            if memory is not None:
                memory.cancel()
        self._note_end(pid)
        if time.time() - (record.started or 0) >= _LONG_RUN:
            self._failures = 0

    def _note_end(self, pid: int) -> None:
        """Note the status of a process that has ended, and end the processes that it has left in its group."""
        signal_group(pid, signal.SIGKILL)  # before its id is free for another process
        status = None
        if self._process is not None and self._process.pid == pid:
            code = self._process.wait()
            status = code if code >= 0 else 128 - code  # as shells report a signal
            self._process = None
        self.record.pid = self.record.start = None
        self.record.exit_status = status

    def _starts_again(self) -> bool:
        policy = self.record.program.restart
        return policy in ("always", "unless-stopped") or (policy == "on-failure" and self.record.exit_status != 0)

    def _status_text(self) -> str:
        status = self.record.exit_status
        return "ended" if status is None else f"ended with status {status}"

    def _spawn(self, more: dict[str, str]) -> None:
        record = self.record
        log = open_log(self._layout.log(record.program.uuid))
        try:
            self._process = started(record.program, record.ports, more, log)
        finally:
            os.close(log)
        record.pid = self._process.pid
        record.start = start_of(self._process.pid)
        record.machine = machine()
        record.started = time.time()
        record.state = "running"
        self._save()

    async def _watch_memory(self, pid: int) -> None:
        limit = self.record.program.memory or 0
        while (used := memory_of(pid)) <= limit:
            await asyncio.sleep(_MEMORY_LOOK)
        self._note(f"uses {used / 2**20:.0f} MiB of memory, and its limit is {limit / 2**20:.0f} MiB; it is killed")
        signal_group(pid, signal.SIGKILL)

    async def _end(self) -> None:
        """End the process and its group: with SIGTERM, and after the grace period with SIGKILL.

        Raises:
            TimeoutError: the process does not end, though it was killed.
        """
        pid = self.record.pid
        if pid is None or not self.record.has_process():
            if pid is not None:
                self._note_end(pid)
            return
        signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + self.record.program.grace
        with suppress(TimeoutError):
            await asyncio.wait_for(ended(self.record), self.record.program.grace)
        while not self.record.has_process() and self._has_others(pid) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if self.record.has_process():
            signal_group(pid, signal.SIGKILL)
            with suppress(TimeoutError):
                await asyncio.wait_for(ended(self.record), _KILLED)
            if self.record.has_process():  # a wait for it would block all other apps
                raise TimeoutError(
                    f"process {pid} was killed, and does not end: it waits for a device or a file server. Make that "
                    "answer, and stop the app again."
                )
        self._note_end(pid)

    def _has_others(self, pid: int) -> bool:
        """Return whether the group of a process that has ended still has others."""
        if self._process is not None and self._process.pid == pid:
            self._process.poll()  # an ended process that is not waited for counts as one of its group
        return has_group(pid)

    def _note(self, text: str) -> None:
        with suppress(OSError):  # the disk may be full
            append_note(self._layout.log(self.record.program.uuid), f"{text}.")
