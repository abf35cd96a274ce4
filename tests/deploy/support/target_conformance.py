"""The promises of a target: a subclass names a target and inherits the tests.

The apps of these tests are a program of Python's standard library, `REPORTER`. It reports from inside, in its log.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from openfactory.deploy.app import Release
from openfactory.deploy.factory_environment import FactoryEnvironment
from openfactory.deploy.targets.base import Instance, InstanceState, Project, Target, TargetError
from releases_for_tests import releases_on

#: Reports its environment in one line, then does the task in `TASK`, and ends at SIGTERM with status 0.
REPORTER = r"""
import hashlib, json, os, signal, sys, time

def say(**facts):
    print(json.dumps(facts), flush=True)

def secrets():
    for name, path in os.environ.items():
        if name.endswith("_FILE") and os.path.isfile(path):
            with open(path, "rb") as file:
                yield name, hashlib.sha256(file.read()).hexdigest()

def storages():
    for name, store in json.loads(os.environ.get("STORAGE") or "{}").items():
        folder = store["mount_point"] if os.path.isdir(store["mount_point"]) else store["local_path"]
        with open(os.path.join(folder, os.environ["APP_UUID"]), "a") as file:
            file.write("seen\n")
        yield name

signal.signal(signal.SIGTERM, lambda *_: (say(stopped=True), os._exit(0)))
task, _, number = os.environ.get("TASK", "").partition(":")
say(environment=dict(os.environ), secrets=dict(secrets()), storages=list(storages()), ids=[os.getuid(), os.getgid()])
if task == "exit":
    sys.exit(int(number))
if task == "fill":
    filled = bytearray(os.urandom(1)) * (int(number) * 2**20)
    say(filled=len(filled))
if task == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(deaf=True)
count = 0
while True:
    if task == "count":
        say(count=count)
        count += 1
    time.sleep(0.02)
"""

#: Seconds in which a busy machine does what takes moments on an idle one.
PATIENCE = 90.0

T = TypeVar("T")

_SECRET = "correct horse battery staple"

Settings = dict[str, Any]


class TargetConformance:
    """The conformance suite of a target: a test for each of its promises.

    Derive a class whose name begins with `Test`, and override the fixtures `target`, `program` and, where another user
    can be taken, `runtime_ids`; and `kill_app`, if the target does not know process ids.
    """

    #: Whether logs that are followed have what an app writes while it is being stopped.
    logs_until_the_end = True

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        """The project of the test."""
        return Project("hall-2", tmp_path)

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        """The target under test. When the test ends, all that still runs is stopped, and the target closed."""
        raise NotImplementedError(f"{type(self).__name__} does not name a target. Override the fixture target.")

    @pytest.fixture
    def program(self) -> Settings:
        """The keys of an app that run `REPORTER`: `command`, and `image` on targets with containers."""
        raise NotImplementedError(f"{type(self).__name__} does not name a program. Override the fixture program.")

    @pytest.fixture
    def missing_program(self) -> Settings:
        """The keys of an app whose program does not exist."""
        raise NotImplementedError(f"{type(self).__name__} does not name a program. Override missing_program.")

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int] | None:
        """User and group for an app, or None where it cannot be another one."""
        return None

    def target_of(self, project: Project) -> Target:
        """Return another target of the same kind, on the same engine or machine."""
        raise NotImplementedError(f"{type(self).__name__} has only one target. Override target_of.")

    def kill_app(self, target: Target, instance: Instance) -> None:
        """Kill the app of an instance with SIGKILL."""
        assert instance.pid is not None
        os.kill(instance.pid, signal.SIGKILL)

    def releases(
        self, target: Target, settings: Settings, environment: Mapping[str, str] | None = None
    ) -> list[Release]:
        """Return the replicas of an app with the given keys."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        keys = {"uuid": "MILL-1", "stop_grace_period": "5s", **settings, "environment": variables}
        factory = FactoryEnvironment({"KSQLDB_URL": "memory://none", "OPENFACTORY_LOG_BACKEND": "text"}, {})
        return releases_on(target, factory, **keys)

    def release(self, target: Target, settings: Settings, generation: int = 1, **environment: str) -> Release:
        """Return the only replica of an app with the given keys."""
        (release,) = self.releases(target, settings, environment)
        return msgspec.structs.replace(release, generation=generation)

    # --- Start and environment

    def test_nothing_runs_at_first(self, target: Target) -> None:
        assert target.instances() == []
        assert list(target.logs()) == []

    def test_an_instance_has_the_facts_of_its_release(self, target: Target, program: Settings) -> None:
        release = self.release(target, program, generation=3)
        started = target.start(release)
        assert (started.uuid, started.app, started.generation, started.hash) == ("MILL-1", "MILL-1", 3, release.hash)
        (running,) = until(lambda: running_in(target))
        assert (running.uuid, running.app, running.generation, running.hash) == ("MILL-1", "MILL-1", 3, release.hash)
        assert running.restarts == 0
        assert abs(time.time() - (running.started or 0)) < PATIENCE
        report_of(target, "MILL-1")  # before that, it would be deaf to the signal that ends the test

    def test_an_app_finds_the_environment_of_its_release(self, target: Target, program: Settings) -> None:
        odd = {"ODD": "a 'b' \"c\" %d $E {{f}} \\", "EQUALS": "a=b=c", "UMLAUT": "ü"}
        release = self.release(target, program, 1, **odd)
        target.start(release)
        inside = report_of(target, "MILL-1")["environment"]
        assert inside["APP_UUID"] == "MILL-1"
        assert inside["DOCKER_SERVICE"] == "mill-1"
        assert {name: inside.get(name) for name in odd} == odd
        # Swarm replaces its templates.
        literal = {name: value for name, value in release.environment.items() if "{{." not in value}
        assert {name: inside.get(name) for name in literal} == literal
        assert inside["APP_GENERATION"] == "1"
        assert "APP_TAKE_OVER" not in inside

    def test_an_app_does_not_find_the_settings_of_the_deployer(
        self, target: Target, program: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KAFKA_BROKER", "elsewhere:9092")
        monkeypatch.setenv("OF_THE_SHELL", "1")
        target.start(self.release(target, program))
        inside = report_of(target, "MILL-1")["environment"]
        assert not {"KAFKA_BROKER", "OF_THE_SHELL"} & inside.keys()

    def test_a_second_start_is_refused(self, target: Target, program: Settings) -> None:
        first = target.start(self.release(target, program))
        report_of(target, "MILL-1")
        with pytest.raises(TargetError, match="MILL-1"):
            target.start(self.release(target, program))
        (running,) = until(lambda: running_in(target))
        assert (running.pid, running.restarts) == (first.pid or running.pid, 0)

    def test_two_starts_at_once_give_one_instance(self, target: Target, program: Settings) -> None:
        release = self.release(target, program)
        outcomes = at_once(lambda: target.start(release), 4)
        assert sum(isinstance(outcome, Instance) for outcome in outcomes) == 1, outcomes
        assert all(isinstance(outcome, Instance | TargetError) for outcome in outcomes), outcomes
        assert len(target.instances()) == 1
        report_of(target, "MILL-1")

    def test_starts_at_once_of_several_apps_lose_none(self, target: Target, program: Settings) -> None:
        uuids = [f"MILL-{number}" for number in range(4)]
        releases = iter([self.release(target, program | {"uuid": uuid}) for uuid in uuids])
        lock = threading.Lock()

        def start() -> Instance:
            with lock:
                release = next(releases)
            return target.start(release)

        outcomes = at_once(start, len(uuids))
        assert all(isinstance(outcome, Instance) for outcome in outcomes), outcomes
        assert [instance.uuid for instance in target.instances()] == uuids
        for uuid in uuids:
            report_of(target, uuid)

    def test_a_failed_start_leaves_nothing(self, target: Target, missing_program: Settings) -> None:
        release = self.release(target, missing_program | {"secrets": {"password": _SECRET}})
        for _ in range(2):  # what the first left behind would give the second another error
            with pytest.raises(TargetError, match=r"\.$") as caught:
                target.start(release)
            assert "exists" not in str(caught.value)
        assert target.instances() == []
        assert self.left_by(target) == []

    def test_replicas_are_whole_assets(self, target: Target, program: Settings) -> None:
        for release in self.releases(target, program | {"deploy": {"replicas": 3}}):
            target.start(release)
        instances = target.instances()
        assert [(instance.uuid, instance.app) for instance in instances] == [
            (f"MILL-1-{number}", "MILL-1") for number in (1, 2, 3)
        ]
        for instance in instances:
            inside = report_of(target, instance.uuid)["environment"]
            assert inside["APP_UUID"] == instance.uuid
            assert inside.get("SWARM_REPLICAS", "1") == "1"  # else the app would append another number

    def test_an_app_writes_into_its_storage(self, target: Target, program: Settings, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir(mode=0o777)
        store = {"type": "local", "local_path": str(folder), "mount_point": f"/mnt/{tmp_path.name}-of-container"}
        target.start(self.release(target, program | {"storage": {"parts": store}}))
        assert report_of(target, "MILL-1")["storages"] == ["parts"]
        assert (folder / "MILL-1").read_text() == "seen\n"

    def test_a_storage_whose_folder_is_missing_is_refused(
        self, target: Target, program: Settings, tmp_path: Path
    ) -> None:
        store = {"type": "local", "local_path": str(tmp_path / "absent"), "mount_point": "/mnt/parts-of-test"}
        with pytest.raises(TargetError, match="absent"):
            target.start(self.release(target, program | {"storage": {"parts": store}}))
        assert target.instances() == []
        assert not (tmp_path / "absent").exists()
        assert self.left_by(target) == []

    def test_a_secret_is_in_a_file_and_nowhere_else(self, target: Target, program: Settings) -> None:
        release = self.release(target, program | {"secrets": {"db_password": _SECRET}})
        target.start(release)
        report = report_of(target, "MILL-1")
        assert report["secrets"]["DB_PASSWORD_FILE"] == hashlib.sha256(_SECRET.encode()).hexdigest()
        assert _SECRET not in json.dumps(report["environment"])
        assert report["environment"]["DB_PASSWORD_FILE"].endswith("/db_password")
        assert _SECRET not in str(target.instances())
        assert not any(_SECRET in line.text for line in target.logs())

    def test_an_app_runs_as_its_user(
        self, target: Target, program: Settings, runtime_ids: tuple[int, int] | None
    ) -> None:
        if runtime_ids is None:
            release = self.release(target, program | {"runtime_uid": 1200, "runtime_gid": 1200})
            assert "runtime_uid" in target.lacks(release)
            return
        uid, gid = runtime_ids
        secret = {"password": _SECRET}
        target.start(self.release(target, program | {"runtime_uid": uid, "runtime_gid": gid, "secrets": secret}))
        report = report_of(target, "MILL-1")
        assert report["ids"] == [uid, gid]
        assert report["secrets"].keys() >= {"PASSWORD_FILE"}

    def test_a_memory_limit_ends_an_app_that_exceeds_it(self, target: Target, program: Settings) -> None:
        limit = {"deploy": {"resources": {"limits": {"memory": "128Mi"}}}, "restart": "no"}
        release = self.release(target, program | limit, TASK="fill:1024")
        assert not any("memory" in key for key in target.lacks(release))
        target.start(release)
        (ended,) = until(lambda: in_state(target, InstanceState.EXITED))
        assert ended.exit_status not in (0, None)

    def test_an_app_below_its_memory_limit_runs(self, target: Target, program: Settings) -> None:
        limit = {"deploy": {"resources": {"limits": {"memory": "256Mi"}}}, "restart": "no"}
        target.start(self.release(target, program | limit, TASK="fill:32"))
        until(lambda: any("filled" in facts for facts in facts_of(target, "MILL-1")))
        time.sleep(1)
        assert [instance.state for instance in target.instances()] == [InstanceState.RUNNING]

    # --- Ends and restarts

    @pytest.mark.parametrize(
        ("policy", "status", "again"),
        [("no", 3, False), ("on-failure", 0, False), ("on-failure", 3, True), ("always", 0, True)],
    )
    def test_a_restart_policy_decides_after_an_exit(
        self, target: Target, program: Settings, policy: str, status: int, again: bool
    ) -> None:
        target.start(self.release(target, program | {"restart": policy}, TASK=f"exit:{status}"))
        if again:
            until(lambda: [instance for instance in target.instances() if instance.restarts >= 1])
            until(lambda: len(reports_of(target, "MILL-1")) >= 2)
        else:
            (ended,) = until(lambda: in_state(target, InstanceState.EXITED))
            assert (ended.exit_status, ended.restarts) == (status, 0)
            time.sleep(2)
            assert len(reports_of(target, "MILL-1")) == 1

    def test_a_killed_app_comes_back(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program))
        report_of(target, "MILL-1")
        (running,) = until(lambda: running_in(target))
        self.kill_app(target, running)
        until(lambda: len(reports_of(target, "MILL-1")) == 2)
        (back,) = until(lambda: running_in(target))
        assert back.restarts == 1
        assert (back.hash, back.generation) == (running.hash, running.generation)

    def test_a_stop_leaves_nothing(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program | {"secrets": {"password": _SECRET}}))
        report_of(target, "MILL-1")
        target.stop(started)
        assert target.instances() == []
        assert list(target.logs()) == []
        assert self.left_by(target) == []
        target.stop(started)  # it is gone already
        target.start(self.release(target, program))
        report_of(target, "MILL-1")

    def test_an_app_ends_by_itself_when_it_is_stopped(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program))
        report_of(target, "MILL-1")
        lines: list[str] = []
        follower = Follower(target, lines)
        until(lambda: lines)
        begun = time.monotonic()
        target.stop(started)
        assert time.monotonic() - begun < PATIENCE
        if self.logs_until_the_end:
            until(lambda: any("stopped" in line for line in lines))
        follower.end()

    def test_a_deaf_app_is_killed_after_its_grace_period(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program | {"stop_grace_period": "1s"}, TASK="deaf"))
        until(lambda: any("deaf" in facts for facts in facts_of(target, "MILL-1")))
        begun = time.monotonic()
        target.stop(started)
        assert time.monotonic() - begun > 0.9
        assert target.instances() == []

    def test_an_exited_instance_can_be_stopped(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program | {"restart": "no"}, TASK="exit:3"))
        until(lambda: in_state(target, InstanceState.EXITED))
        target.stop(started)
        assert target.instances() == []
        assert self.left_by(target) == []

    def test_a_restart_runs_the_same_release_again(self, target: Target, program: Settings) -> None:
        release = self.release(target, program)
        started = target.start(release)
        report_of(target, "MILL-1")
        target.restart(started)
        until(lambda: len(reports_of(target, "MILL-1")) == 2)
        (running,) = until(lambda: running_in(target))
        assert (running.hash, running.generation) == (release.hash, 1)

    # --- Replacement

    def test_a_replacement_runs_beside_the_old_instance_until_it_is_up(self, target: Target, program: Settings) -> None:
        old = target.start(self.release(target, program, VERSION="1"))
        report_of(target, "MILL-1")
        seen: list[tuple[str, int]] = []

        def is_up(new: Instance) -> None:
            until(lambda: len(running_in(target)) == 2)
            seen.extend((instance.uuid, instance.generation) for instance in target.instances())
            until(lambda: any(environment.get("VERSION") == "2" for environment in environments_of(target)))

        release = self.release(target, program, 2, VERSION="2")
        new = target.replace(old, release, is_up)
        assert seen == [("MILL-1", 1), ("MILL-1", 2)]
        assert (new.generation, new.hash) == (2, release.hash)
        (running,) = until(lambda: running_in(target))
        assert (running.generation, running.hash, running.restarts) == (2, release.hash, 0)

    def test_only_a_replacement_takes_the_uuid_over(self, target: Target, program: Settings) -> None:
        old = target.start(self.release(target, program, VERSION="1"))
        report_of(target, "MILL-1")
        inside: list[dict[str, str]] = []

        def is_up(new: Instance) -> None:
            inside.extend(until(lambda: [seen for seen in environments_of(target) if seen.get("VERSION") == "2"]))

        target.replace(old, self.release(target, program, 2, VERSION="2"), is_up)
        assert (inside[0]["APP_TAKE_OVER"], inside[0]["APP_GENERATION"]) == ("1", "2")

    def test_a_replacement_that_fails_is_gone_and_the_old_instance_runs(
        self, target: Target, program: Settings
    ) -> None:
        old = target.start(self.release(target, program, VERSION="1"))
        report_of(target, "MILL-1")
        (running,) = until(lambda: running_in(target))

        def is_up(new: Instance) -> None:
            until(
                lambda: [
                    instance
                    for instance in target.instances()
                    if instance.generation == 2 and instance.state is not InstanceState.RUNNING
                ]
            )
            raise TargetError("it exits. Correct it.")

        with pytest.raises(TargetError, match="it exits"):
            target.replace(old, self.release(target, program, 2, TASK="exit:3", VERSION="2"), is_up)
        (left,) = until(lambda: running_in(target))
        assert (left.generation, left.restarts, left.pid, left.started) == (1, 0, running.pid, running.started)
        assert len(target.instances()) == 1

    # --- Other projects

    def test_instances_of_another_project_are_neither_seen_nor_touched(
        self, target: Target, program: Settings, tmp_path: Path
    ) -> None:
        other = self.target_of(Project("hall-3", target.project.folder))
        release = self.release(other, program | {"uuid": "LATHE-1"})
        strange = other.start(release)
        try:
            report_of(other, "LATHE-1")
            mine = target.start(self.release(target, program))
            assert [instance.uuid for instance in target.instances()] == ["MILL-1"]
            assert [instance.uuid for instance in other.instances()] == ["LATHE-1"]
            report_of(target, "MILL-1")
            assert {line.uuid for line in target.logs()} == {"MILL-1"}
            target.stop(mine)
            (running,) = until(lambda: running_in(other))
            assert running.restarts == 0
        finally:
            other.stop(strange)
            other.close()

    def test_instances_are_found_by_a_later_command(self, target: Target, program: Settings) -> None:
        """The orphans of a deployment: no command remembers them, and their labels still tell."""
        release = self.release(target, program)
        target.start(release)
        report_of(target, "MILL-1")
        later = self.target_of(target.project)
        try:
            (found,) = until(lambda: running_in(later))
            assert (found.uuid, found.hash) == ("MILL-1", release.hash)
            later.stop(found)
        finally:
            later.close()
        assert target.instances() == []

    # --- Logs

    def test_logs_begin_with_the_last_lines_that_are_asked_for(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program, TASK="count"))
        until(lambda: len(counts_of(target.logs())) > 5)
        last = counts_of(target.logs(["MILL-1"], tail=3))
        assert len(last) == 3
        assert last == list(range(last[0], last[0] + 3))
        assert last[-1] >= 5
        assert list(target.logs(["MILL-1"], tail=0)) == []

    def test_logs_are_those_of_the_assets_that_are_asked_for(self, target: Target, program: Settings) -> None:
        for uuid in ("MILL-1", "MILL-2"):
            target.start(self.release(target, program | {"uuid": uuid}))
        for uuid in ("MILL-1", "MILL-2"):
            report_of(target, uuid)
            assert {line.uuid for line in target.logs([uuid])} == {uuid}
        assert {line.uuid for line in target.logs()} == {"MILL-1", "MILL-2"}

    def test_logs_go_on_while_they_are_followed(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program, TASK="count"))
        until(lambda: counts_of(target.logs()))
        lines = target.logs(["MILL-1"], follow=True, tail=1)
        seen = counts_of(next(lines) for _ in range(50))
        close(lines)
        assert seen == list(range(seen[0], seen[0] + len(seen)))
        assert len(seen) >= 49

    def test_logs_that_are_followed_go_on_across_a_restart(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program))
        report_of(target, "MILL-1")
        lines: list[str] = []
        follower = Follower(target, lines)
        until(lambda: len(lines) == 1)
        (running,) = until(lambda: running_in(target))
        self.kill_app(target, running)
        until(lambda: sum("environment" in line for line in lines) == 2)
        follower.end()

    # --- For subclasses

    def left_by(self, target: Target) -> list[str]:
        """Return what is left of the instances that are gone, such as containers, files with secrets and networks."""
        return []


class Follower:
    """A thread that follows the logs of a target."""

    def __init__(self, target: Target, lines: list[str]) -> None:
        self._logs = target.logs(follow=True)
        self._lines = lines
        self._ended = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with suppress(TargetError):
            for line in self._logs:
                self._lines.append(line.text)
                if self._ended:
                    break

    def end(self) -> None:
        """End after the next line, or when the target is closed."""
        self._ended = True


def until(condition: Callable[[], T]) -> T:
    """Wait for a condition, with a bound, and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.05)
    return value


def at_once(action: Callable[[], Any], times: int) -> list[Any]:
    """Return what several calls at once return or raise."""
    outcomes: list[Any] = []
    barrier = threading.Barrier(times)

    def act() -> None:
        barrier.wait()
        try:
            outcomes.append(action())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcomes.append(error)

    threads = [threading.Thread(target=act) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def in_state(target: Target, state: InstanceState) -> list[Instance]:
    """Return the instances if all are in a state, else an empty list."""
    instances = target.instances()
    return instances if all(instance.state is state for instance in instances) else []


def running_in(target: Target) -> list[Instance]:
    return in_state(target, InstanceState.RUNNING)


def facts_of(target: Target, uuid: str) -> list[dict[str, Any]]:
    """Return what the apps with a UUID have reported."""
    facts = []
    for line in target.logs([uuid]):
        with suppress(ValueError):  # a line that is not written whole yet
            facts.append(json.loads(line.text))
    return facts


def reports_of(target: Target, uuid: str) -> list[dict[str, Any]]:
    return [facts for facts in facts_of(target, uuid) if "environment" in facts]


def report_of(target: Target, uuid: str) -> dict[str, Any]:
    """Return what an app reports at its start, when it has."""
    return until(lambda: reports_of(target, uuid))[0]


def environments_of(target: Target) -> list[dict[str, str]]:
    return [report["environment"] for report in reports_of(target, "MILL-1")]


def counts_of(lines: Any) -> list[int]:
    texts: Sequence[str] = [line.text for line in lines]
    return [facts["count"] for facts in map(json.loads, texts) if "count" in facts]


def close(lines: Any) -> None:
    """Close the iterator of logs, if it can be closed."""
    if hasattr(lines, "close"):
        lines.close()
