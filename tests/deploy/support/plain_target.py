"""A small target for the tests of a rollout: processes without a supervisor, and a machine that can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from openfactory.deploy.app import App, Release
from openfactory.deploy.environment import releases_of
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.files.schema import AppFile
from openfactory.deploy.problems import Place
from openfactory.deploy.targets.base import Instance, InstanceState, LogLine, Project, Target, TargetError

#: An app of the tests: `WAY` is how it behaves.
APP = '''
import os
import sys
import threading

from openfactory.apps import EventAttribute, OpenFactoryApp, ofa_method
from openfactory.kafka import KSQLDBClient

WAY = os.environ.get("WAY", "")
if WAY == "exit":
    print("the press is not connected", flush=True)
    sys.exit(3)


class Press(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="Press.Status")
    if WAY == "ends later":
        extra = EventAttribute(value=1, tag="Press.Extra")

    @ofa_method()
    def press(self, force: float = 1.0):
        """Press."""
        return force

    if WAY != "smaller":

        @ofa_method()
        def release(self):
            """Open the press."""

    def welcome_banner(self):
        if WAY == "exit after claim":
            print("the oil is missing", flush=True)
            os._exit(4)
        if WAY == "hang":
            threading.Event().wait()

    def main_loop(self):
        if WAY == "ends later":
            threading.Event().wait(0.5)
            print("the belt is torn", flush=True)
            os._exit(5)
        threading.Event().wait()


Press(KSQLDBClient(os.environ["KSQLDB_URL"])).run()
'''


class PlainTarget(Target):
    """Processes that are not started again when they end.

    Attributes:
        calls: the starts, stops and restarts so far.
        is_ready: whether a gateway sends requests to an instance of a release.
    """

    name = "plain"

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self.calls: list[tuple[str, str, int]] = []
        self.is_ready: Callable[[Release], bool] = lambda release: True
        self._running: dict[tuple[str, int], tuple[Release, subprocess.Popen[bytes]]] = {}
        self._lock = threading.Lock()

    def instances(self) -> list[Instance]:
        with self._lock:
            running = sorted(self._running.items())
        return [self._instance(release, process) for _, (release, process) in running]

    def start(self, release: Release) -> Instance:
        self.calls.append(("start", release.uuid, release.generation))
        if release.app.settings.file == "missing.py":
            raise TargetError(f"{release.uuid}: missing.py does not exist. Write it.")
        with self._lock:
            beside = any(uuid == release.uuid for uuid, _ in self._running)
        return self._spawn(release, take_over=beside)

    def stop(self, instance: Instance) -> None:
        self.calls.append(("stop", instance.uuid, instance.generation))
        with self._lock:
            _, process = self._running.pop((instance.uuid, instance.generation), (None, None))
        if process is not None:
            _end(process)

    def restart(self, instance: Instance) -> None:
        self.calls.append(("restart", instance.uuid, instance.generation))
        release, process = self._running[instance.uuid, instance.generation]
        _end(process)
        self._spawn(release, take_over=False)

    def logs(self, uuids: Collection[str] = (), *, follow: bool = False, tail: int | None = None) -> Iterator[LogLine]:
        for file in sorted(self.project.folder.glob("*.log")):
            if not uuids or file.stem in uuids:
                lines = file.read_text().splitlines()
                yield from (LogLine(file.stem, line) for line in (lines if tail is None else lines[-tail:]))

    def apply_routes(self, releases: Sequence[Release]) -> dict[str, str]:
        self.routes = {release.uuid: release.generation for release in releases}
        return {release.uuid: f"http://localhost/{release.name}" for release in releases}

    def kill(self, uuid: str) -> None:
        """Kill the processes of an asset, as a crash does."""
        for (name, _), (_, process) in list(self._running.items()):
            if name == uuid:
                process.kill()
                process.wait()

    def close(self) -> None:
        for _, process in self._running.values():
            _end(process)

    def _spawn(self, release: Release, *, take_over: bool) -> Instance:
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "TMPDIR")}
        environment |= release.variables
        if take_over:
            environment["APP_TAKE_OVER"] = "1"
        file = release.app.place.file.parent / (release.app.settings.file or "")
        with open(self.project.folder / f"{release.uuid}.log", "ab") as log:
            process = subprocess.Popen([sys.executable, file], env=environment, stdout=log, stderr=log)
        with self._lock:
            self._running[release.uuid, release.generation] = release, process
        return self._instance(release, process)

    def _instance(self, release: Release, process: subprocess.Popen[bytes]) -> Instance:
        status = process.poll()
        return Instance(
            release.uuid,
            release.app.settings.uuid,
            release.hash,
            release.generation,
            InstanceState.RUNNING if status is None else InstanceState.EXITED,
            exit_status=status,
            is_ready=self.is_ready(release),
            pid=process.pid,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def app_of(folder: Path, uuid: str, **settings: object) -> App:
    """Return an app of a file."""
    place = Place(folder / "app_test.yml", 2)
    return App(uuid.lower(), place, AppFile.model_validate({"uuid": uuid, "file": "press.py", **settings}))


def release_of(folder: Path, url: str, uuid: str, way: str = "", **settings: object) -> Release:
    """Return the only replica of an app that behaves in a way."""
    keys = {"environment": [f"WAY={way}"], "update": {"monitor": "0s"}, **settings}
    (release,) = releases_of(app_of(folder, uuid, **keys), FactoryEnvironment({"KSQLDB_URL": url}, {}), target="plain")
    return msgspec.structs.replace(release)
