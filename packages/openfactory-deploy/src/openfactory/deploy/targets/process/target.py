"""The target `process`, as commands use it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import ClassVar

import msgspec

from openfactory.deploy.app import Release
from openfactory.deploy.factory_environment import embedded_url
from openfactory.deploy.targets.base import Instance, InstanceState, LogLine, Project, Target, TargetError
from openfactory.deploy.targets.process.base_environment import base_environment
from openfactory.deploy.targets.process.connection import ask
from openfactory.deploy.targets.process.gateway import ProcessGateway
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.log_files import LogReader
from openfactory.deploy.targets.process.messages import Action, Request
from openfactory.deploy.targets.process.ports import chosen_port
from openfactory.deploy.targets.process.programs import ignored_keys, program_of, refused_keys
from openfactory.deploy.targets.process.records import Program, Record, read_records

__all__ = ["ProcessTarget"]

_logger = logging.getLogger("openfactory.deploy")

# Seconds between two looks at logs that are followed.
_LOOK = 0.1

_EVERY_ADDRESS = ("", "0.0.0.0", "::")


class ProcessTarget(Target):
    """Apps as processes of this machine, under a supervisor for each project folder.

    Args:
        project: the apps that are deployed together.
        log_bytes: size at which the log of an app is rotated.
    """

    name: ClassVar[str] = "process"
    shares_logs: ClassVar[bool] = True

    def __init__(self, project: Project, *, log_bytes: int = 10 * 2**20) -> None:
        super().__init__(project)
        self._layout = Layout(project.own_folder)
        self._log_bytes = log_bytes
        self._gateway = ProcessGateway(self._layout, project.name, self._ask)
        self._closed = threading.Event()

    @property
    def default_url(self) -> str:
        """A factory in a file beside the files of the apps."""
        return embedded_url(self._layout.database)

    def secret_path(self, uuid: str, name: str) -> str:
        return str(self._layout.secret_folder(uuid, 1) / name)

    def lacks(self, release: Release) -> dict[str, str]:
        return refused_keys(release) | ignored_keys(release)

    def refuses(self, release: Release) -> dict[str, str]:
        return refused_keys(release)

    def instances(self) -> list[Instance]:
        if not self._records_on_disk():
            return []
        records = self._ask(Request("list"))
        return [_instance(record) for record in self._own(records)]

    def start(self, release: Release) -> Instance:
        program = self._announced(release, program_of(release, self.project.name, self._layout, self._log_bytes))
        records = self._ask(Request("start", program, dict(release.secrets)))
        return next(_instance(record) for record in records if record.key == (program.uuid, program.generation))

    def stop(self, instance: Instance) -> None:
        if self._records_on_disk():
            self._gateway.stop_without_apps(self._ask(self._request("stop", instance)))

    def restart(self, instance: Instance) -> None:
        self._ask(self._request("restart", instance))

    def logs(self, uuids: Collection[str] = (), *, follow: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        self.instances()  # a supervisor that was killed is noticed
        readers: dict[str, LogReader] = {}
        is_first = True
        try:
            while True:
                present = self._uuids(uuids)
                for uuid in [*present, *(gone for gone in list(readers) if gone not in present)]:
                    is_new = uuid not in readers
                    reader = readers.setdefault(uuid, LogReader(self._layout.log(uuid)))
                    lines = deque(reader.lines(), maxlen=tail if is_new and is_first else None)
                    if not follow and (rest := reader.rest()) and tail != 0:
                        lines.append(rest)
                    yield from (LogLine(uuid, text) for text in lines)
                if not follow or self._closed.wait(_LOOK):
                    return
                is_first = False
        finally:
            for reader in readers.values():
                reader.close()

    def apply_routes(self, releases: Sequence[Release]) -> dict[str, str]:
        if not self._records_on_disk():
            return {}
        instances = self.instances()
        uuids = {release.uuid for release in releases}
        own = {instance.uuid: instance.address for instance in instances if instance.address}  # of the newest one
        addresses = {uuid: address for uuid, address in own.items() if uuid in uuids}
        return addresses | self._gateway.apply(releases, instances)

    def urls(self, releases: Sequence[Release]) -> dict[str, str]:
        return self._gateway.urls(releases, self._records_on_disk())

    def _announced(self, release: Release, program: Program) -> Program:
        """Return a program with the port that the gateway knows already, if it replaces another."""
        records = self._records_on_disk()
        if "PORT" not in program.ports or all(record.program.uuid != program.uuid for record in records):
            return program
        reserved = {int(port) for record in records for port in record.ports.values()}
        try:
            port = chosen_port(int(program.environment["PORT"]), reserved)
        except OSError as error:
            raise TargetError(f"{release.uuid} cannot be started: {error}") from error
        if not port or not self._gateway.announce(release, _address(program, port)):
            return program
        return msgspec.structs.replace(program, environment={**program.environment, "PORT": str(port)})

    def _ask(self, request: Request) -> list[Record]:
        return ask(self._layout, request, base_environment())

    def _request(self, action: Action, instance: Instance) -> Request:
        return Request(action, project=self.project.name, uuid=instance.uuid, generation=instance.generation)

    def _own(self, records: Sequence[Record]) -> list[Record]:
        own = [record for record in records if record.program.project == self.project.name]
        return sorted(own, key=lambda record: record.key)

    def _records_on_disk(self) -> list[Record]:
        """Return all records of the supervisor, which is not started if it has no apps.

        A supervisor that runs knows the apps of a damaged file. One that is started puts the file aside.
        """
        try:
            return read_records(self._layout.records)
        except OSError as error:
            raise TargetError(
                f"{self._layout.records} cannot be read ({error}). Run the command as the user who started the apps."
            ) from error
        except msgspec.MsgspecError as error:
            records = self._ask(Request("list"))
            if not self._layout.records.exists():
                _logger.warning(
                    "%s was damaged (%s), and is %s now. The apps that it named do not run any more. Start them with "
                    "`ofa apps up`.", self._layout.records, error, self._layout.damaged_records.name,
                )  # fmt: skip
            return records

    def _uuids(self, wanted: Collection[str]) -> list[str]:
        uuids = dict.fromkeys(record.program.uuid for record in self._own(self._records_on_disk()))
        return [uuid for uuid in uuids if not wanted or uuid in wanted]


def _instance(record: Record) -> Instance:
    program = record.program
    port = {**program.environment, **record.ports}.get("PORT")
    return Instance(
        uuid=program.uuid,
        app=program.app,
        hash=program.hash,
        generation=program.generation,
        state=InstanceState(record.state),
        exit_status=record.exit_status,
        restarts=record.restarts,
        started=record.started,
        program=program.title,
        address=_address(program, port) if port and record.state != "exited" else None,
        pid=record.pid,
    )


def _address(program: Program, port: int | str) -> str:
    host = program.environment.get("OPENFACTORY_HOST", "")
    shown = "127.0.0.1" if host in _EVERY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
