"""The lock of a project: one deployment at a time changes it."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from openfactory.concurrency.file_lock import FileLock
from openfactory.events.timestamp import current_timestamp
from openfactory.exceptions import OpenFactoryError

__all__ = ["DeploymentRunsError", "Holder", "deployment_lock"]

_LOCK = "lock"
_NOTE = "lock.json"

# Seconds of one try, after which Ctrl-C is seen.
_TRY_SECONDS = 0.2


class Holder(msgspec.Struct, frozen=True):
    """The deployment that has the lock.

    Attributes:
        command: its command, such as `ofa apps up`.
        user: name of its user.
        host: name of its host.
        pid: its process id.
        since: time at which it took the lock.
    """

    command: str
    user: str
    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"`{self.command}` of {self.user}, process {self.pid} on host {self.host}, since {self.since}"


class DeploymentRunsError(OpenFactoryError):
    """Another deployment of the project runs.

    Attributes:
        holder: the other deployment, or None if it has left no note yet.
    """

    def __init__(self, message: str, *, holder: Holder | None) -> None:
        super().__init__(message)
        self.holder = holder


@contextmanager
def deployment_lock(
    folder: Path, command: str, *, wait: bool = True, report: Callable[[str], None] = lambda _: None
) -> Generator[None]:
    """Hold the lock of a project, which the kernel releases too when the process ends.

    Args:
        folder: folder in which the project keeps its files.
        command: the command that takes it, for the one that waits.
        wait: wait for another deployment.
        report: called once with a line about the deployment that is waited for.

    Raises:
        DeploymentRunsError: another deployment runs, and `wait` is false.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        if not lock.acquire(0):
            holder = _read(folder)
            who = str(holder) if holder else f"process {lock.holder() or 'that is not known'}"
            if not wait:
                raise DeploymentRunsError(
                    f"Another deployment of this project runs: {who}. Wait for its end, or leave out --no-wait.",
                    holder=holder,
                )
            report(f"Waiting for another deployment of this project: {who}.")
            while not lock.acquire(_TRY_SECONDS):
                pass
        try:
            _write(folder, command)
            yield
        finally:
            with suppress(OSError):
                (folder / _NOTE).unlink()
            lock.release()
    finally:
        lock.close()


def _write(folder: Path, command: str) -> None:
    holder = Holder(command, _user(), socket.gethostname(), os.getpid(), current_timestamp())
    with suppress(OSError):  # the note is for people; the lock does not need it
        (folder / _NOTE).write_bytes(msgspec.json.encode(holder))


def _read(folder: Path) -> Holder | None:
    try:
        return msgspec.json.decode((folder / _NOTE).read_bytes(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have a user without a name
        return f"user {os.getuid()}"
