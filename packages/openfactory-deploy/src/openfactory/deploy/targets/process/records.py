"""Programs that the supervisor runs, and the records that it keeps of them on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from openfactory.concurrency.process_identity import exists, is_running, machine
from openfactory.deploy.own_files import write_own_file

__all__ = ["Program", "Record", "read_records", "write_records"]


class Program(msgspec.Struct, frozen=True):
    """A release as the supervisor runs it.

    Attributes:
        project: name of its project.
        app: UUID of its app.
        uuid: UUID of its asset.
        hash: hash of its release.
        generation: number of its release.
        title: file or command, for people.
        arguments: the program and its arguments.
        folder: working directory.
        environment: all environment variables, without secrets.
        ports: names of the variables with ports of this machine; another port is free if theirs is taken.
        restart: when it is started again: `no`, `on-failure`, `always`, `unless-stopped`.
        grace: seconds between SIGTERM and SIGKILL.
        uid: user id, or None for that of the supervisor.
        gid: group id, or None for that of the supervisor.
        memory: bytes that it may use, or None.
        open_files: number of files that it may open, or None.
        log_bytes: size at which its log is rotated.
    """

    project: str
    app: str
    uuid: str
    hash: str
    generation: int
    title: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    ports: list[str] = []
    restart: str = "unless-stopped"
    grace: float = 10.0
    uid: int | None = None
    gid: int | None = None
    memory: int | None = None
    open_files: int | None = None
    log_bytes: int = 10 * 2**20


class Record(msgspec.Struct):
    """A program and its process.

    Attributes:
        program: the program.
        ports: variables with the ports that it has, in place of those of its release.
        state: `running`, `restarting` or `exited`.
        pid: id of its process while it runs.
        start: start of that process in ticks of the machine, which with `machine` tells it from later ones of its id.
        machine: id of the running kernel.
        started: time of the last start in seconds since 1970.
        exit_status: status of the last end; None before it, and if the supervisor did not see it.
        restarts: number of restarts by the policy.
        stopping: whether a command has asked for its end.
    """

    program: Program
    ports: dict[str, str] = {}
    state: Literal["running", "restarting", "exited"] = "running"
    pid: int | None = None
    start: int | None = None
    machine: str = ""
    started: float | None = None
    exit_status: int | None = None
    restarts: int = 0
    stopping: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """UUID and generation, by which there is one process at most."""
        return self.program.uuid, self.program.generation

    def has_process(self) -> bool:
        """Return whether the process of this record still runs."""
        if self.pid is None:
            return False
        running = is_running(self.machine, self.pid, self.start)
        return exists(self.pid) if running is None and not machine() else bool(running)


def read_records(file: Path) -> list[Record]:
    """Return the records in a file, which need not exist.

    Raises:
        OSError: the file cannot be read.
        msgspec.MsgspecError: the file is damaged.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    return msgspec.json.decode(content, type=list[Record])


def write_records(file: Path, records: Iterable[Record]) -> None:
    """Replace the records in a file at once, so that a reader finds the old ones or the new ones."""
    write_own_file(file, msgspec.json.format(msgspec.json.encode(list(records))))
