"""The process target: the promises of a target, and those of a supervisor that is killed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from openfactory.concurrency.process_identity import start_of
from openfactory.deploy.targets.base import InstanceState, Project, Target, TargetError
from openfactory.deploy.targets.process import ProcessTarget, connection
from openfactory.deploy.targets.process.connection import ask
from openfactory.deploy.targets.process.layout import Layout
from openfactory.deploy.targets.process.messages import Request
from openfactory.deploy.targets.process.records import read_records
from servers.ports import free_port
from target_conformance import (
    REPORTER,
    Settings,
    TargetConformance,
    at_once,
    facts_of,
    in_state,
    report_of,
    reports_of,
    running_in,
    until,
)

#: Files that stay in `.openfactory` when all apps are gone.
KEPT = {".gitignore", "supervisor.lock", "supervisor.log"}


def stop_all(target: Target) -> None:
    for instance in target.instances():
        target.stop(instance)


def python_of_all() -> str:
    """A Python that each user may run; that of these tests may be in a home folder."""
    candidates = (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3")
    return next(path for path in candidates if os.geteuid() != 0 or is_of_all(Path(path)))


def is_of_all(path: Path) -> bool:
    return path.exists() and all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


class TestProcessTarget(TargetConformance):
    """The conformance suite on processes."""

    @pytest.fixture
    def target(self, project: Project) -> Iterator[Target]:
        target = ProcessTarget(project)
        yield target
        stop_all(target)
        until(lambda: self.left_by(target) == [])
        target.close()

    @pytest.fixture
    def project(self, public_folder: Path) -> Project:
        return Project("hall-2", public_folder)

    @pytest.fixture
    def public_folder(self) -> Iterator[Path]:
        """A folder that other users can enter, unlike those of pytest."""
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            yield Path(folder)

    @pytest.fixture
    def program(self) -> Settings:
        return {"command": (python_of_all(), "-c", REPORTER)}

    @pytest.fixture
    def runtime_ids(self) -> tuple[int, int] | None:
        return (1200, 1300) if os.geteuid() == 0 else None

    @pytest.fixture
    def missing_program(self) -> Settings:
        return {"command": ("/nowhere/python", "-c", "1")}

    def target_of(self, project: Project) -> Target:
        return ProcessTarget(project)

    def left_by(self, target: Target) -> list[str]:
        folder = target.project.folder / ".openfactory"
        until(lambda: not (folder / "supervisor.sock").exists() or target.instances())  # it ends in a moment
        if target.instances() or not folder.exists():
            return []
        return sorted(str(path) for path in folder.rglob("*") if path.name not in KEPT)

    # --- The supervisor

    @pytest.mark.smoke
    def test_apps_outlive_a_killed_supervisor_and_are_taken_over(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program))
        report_of(target, "MILL-1")
        (before,) = running_in(target)
        killed = kill_supervisor(target)
        assert before.pid is not None
        assert start_of(before.pid) is not None
        (after,) = running_in(target)
        assert (after.pid, after.started, after.restarts) == (before.pid, before.started, 0)
        assert supervisor_of(target) != killed
        os.kill(before.pid, signal.SIGKILL)  # not a child of this supervisor, which still sees its end
        until(lambda: len(reports_of(target, "MILL-1")) == 2)
        (back,) = until(lambda: running_in(target))
        assert back.restarts == 1
        target.stop(back)
        assert target.instances() == []

    def test_an_app_that_ended_with_its_supervisor_is_started_again(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program))
        target.start(self.release(target, program | {"uuid": "MILL-2", "restart": "no"}))
        for uuid in ("MILL-1", "MILL-2"):
            report_of(target, uuid)
        pids = [instance.pid for instance in target.instances()]
        kill_supervisor(target)
        for pid in pids:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        until(lambda: [instance.state for instance in target.instances()] == ["running", "exited"])
        until(lambda: len(reports_of(target, "MILL-1")) == 2)
        assert len(reports_of(target, "MILL-2")) == 1

    def test_a_process_that_a_killed_supervisor_did_not_note_is_ended(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program))
        report_of(target, "MILL-1")
        kill_supervisor(target)
        folder = target.project.folder / ".openfactory"
        with open(folder / "logs" / "MILL-1.log", "ab") as log:
            stray = subprocess.Popen(["/bin/sleep", "600"], stdout=log, process_group=0)
        try:
            (running,) = running_in(target)
            assert stray.wait(60) == -signal.SIGKILL
            assert running.restarts == 0
        finally:
            stray.kill()
            stray.wait()

    def test_a_stop_that_a_killed_supervisor_has_begun_is_completed(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program | {"stop_grace_period": "2s"}, TASK="deaf"))
        until(lambda: any("deaf" in facts for facts in facts_of(target, "MILL-1")))
        supervisor = supervisor_of(target)
        refused: list[TargetError] = []

        def stop() -> None:
            try:
                target.stop(started)
            except TargetError as error:
                refused.append(error)

        thread = threading.Thread(target=stop)
        thread.start()
        file = target.project.folder / ".openfactory" / "state.json"
        until(lambda: b'"stopping": true' in file.read_bytes())
        os.kill(supervisor, signal.SIGKILL)
        thread.join()
        assert refused == []
        until(lambda: target.instances() == [])
        assert start_of(started.pid or 0) is None

    def test_a_supervisor_that_is_told_to_end_ends_its_apps_until_the_next_command(
        self, target: Target, program: Settings
    ) -> None:
        target.start(self.release(target, program))
        report_of(target, "MILL-1")
        (before,) = running_in(target)
        supervisor = supervisor_of(target)
        os.kill(supervisor, signal.SIGTERM)
        until(lambda: start_of(supervisor) is None)
        assert start_of(before.pid or 0) is None
        until(lambda: running_in(target))
        until(lambda: len(reports_of(target, "MILL-1")) == 2)

    @pytest.mark.parametrize("content", [b"", b'[{"program": {"proj', b"\xff\x00", b'[{"state": "asleep"}]'])
    def test_damaged_records_do_not_matter_to_a_supervisor_that_runs(
        self, target: Target, program: Settings, content: bytes
    ) -> None:
        started = target.start(self.release(target, program))
        state = target.project.folder / ".openfactory" / "state.json"
        state.write_bytes(content)
        assert [instance.pid for instance in target.instances()] == [started.pid]
        newer = target.start(self.release(target, program, 2))
        assert len(read_records(state)) == 2
        state.write_bytes(content)
        target.stop(newer)
        assert len(read_records(state)) == 1

    def test_damaged_records_are_put_aside_and_the_processes_that_they_named_end(
        self, target: Target, program: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        started = target.start(self.release(target, program | {"secrets": {"password": "swordfish"}}))
        report_of(target, "MILL-1")
        kill_supervisor(target)
        folder = target.project.folder / ".openfactory"
        (folder / "state.json").write_bytes(b"[{")
        assert target.instances() == []
        assert "was damaged" in caplog.text
        assert "Start them with `ofa apps up`" in caplog.text
        until(lambda: start_of(started.pid or 0) is None)
        aside = folder / "state.damaged.json"
        assert aside.read_bytes() == b"[{"
        assert not (folder / "secrets").exists()
        again = target.start(self.release(target, program))
        assert again.pid is not None
        aside.unlink()

    def test_an_answer_that_is_cut_off_is_asked_for_again(
        self, target: Target, program: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = target.start(self.release(target, program))
        whole, cut = connection._received, [1]

        def received(of: socket.socket) -> Iterator[bytes]:
            content = b"".join(whole(of))
            yield content[:10] if cut and cut.pop() else content

        monkeypatch.setattr(connection, "_received", received)
        assert [instance.pid for instance in target.instances()] == [started.pid]
        assert cut == []

    def test_a_supervisor_refuses_the_action_of_another_version(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program))
        layout = Layout(target.project.own_folder)
        unknown = Request("pause", project=target.project.name, uuid=started.uuid, generation=1)  # type: ignore[arg-type]
        with pytest.raises(TargetError, match="does not know the request"):
            ask(layout, unknown, {})
        assert [instance.pid for instance in target.instances()] == [started.pid]

    def test_supervisor_and_apps_are_apart_from_the_terminal(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program))
        (running,) = target.instances()
        sessions = {os.getsid(0), os.getsid(supervisor_of(target)), os.getsid(running.pid or 0)}
        assert len(sessions) == 3

    def test_the_first_command_and_the_last_app_bound_the_life_of_a_supervisor(
        self, target: Target, program: Settings
    ) -> None:
        assert target.instances() == []
        assert not (target.project.folder / ".openfactory").exists()
        for _ in range(3):
            started = target.start(self.release(target, program))
            supervisor = supervisor_of(target)
            target.stop(started)
            until(lambda: start_of(supervisor) is None)  # noqa: B023 - it is called in the loop

    @pytest.mark.parametrize("is_killed", [False, True])
    def test_the_processes_of_an_app_end_with_it(self, target: Target, is_killed: bool) -> None:
        deaf = "trap '' TERM; exec sleep 600"
        script = f'sh -c "{deaf}" & echo $!; trap "exit 0" TERM; wait'
        settings = {"command": ("/bin/sh", "-c", script), "stop_grace_period": "1s", "restart": "no"}
        started = target.start(self.release(target, settings))
        child = int(until(lambda: list(target.logs()))[0].text)
        until(lambda: b"sleep" in Path(f"/proc/{child}/cmdline").read_bytes())
        if is_killed:
            os.kill(started.pid or 0, signal.SIGKILL)
        else:
            target.stop(started)
        until(lambda: start_of(child) is None)

    def test_a_deep_folder_is_no_limit(self, program: Settings, public_folder: Path) -> None:
        folder = public_folder / ("deep" * 20) / ("deep" * 20)
        folder.mkdir(parents=True)
        with closing(ProcessTarget(Project("hall-2", folder))) as target:
            try:
                target.start(self.release(target, program))
                assert len(running_in(target)) == 1
            finally:
                stop_all(target)

    def test_commands_on_one_app_at_once_leave_no_process(self, target: Target, program: Settings) -> None:
        started = target.start(self.release(target, program | {"stop_grace_period": "1s"}, TASK="deaf"))
        until(lambda: any("deaf" in facts for facts in facts_of(target, "MILL-1")))
        actions = iter([target.restart, target.stop, target.restart, target.stop])
        outcomes = at_once(lambda: next(actions)(started), 4)
        assert all(outcome is None or isinstance(outcome, TargetError) for outcome in outcomes), outcomes
        assert target.instances() == []
        assert processes_in(target.project.folder) == []

    def test_commands_at_once_lose_no_app_and_leave_no_process(self, target: Target, program: Settings) -> None:
        """Starts meet the supervisor that ends with the last app, and stops meet starts."""
        numbers = iter(range(3))

        def start_and_stop() -> None:
            release = self.release(target, program | {"uuid": f"MILL-{next(numbers)}"})
            other = self.target_of(target.project)
            for _ in range(8):
                instance = other.start(release)
                assert instance.uuid in [running.uuid for running in other.instances()]
                other.stop(instance)
                assert instance.uuid not in [running.uuid for running in other.instances()]

        assert at_once(start_and_stop, 3) == [None] * 3
        assert target.instances() == []
        assert processes_in(target.project.folder) == []

    # --- Ports, files and limits

    def test_an_app_gets_another_port_if_its_own_is_taken(self, target: Target, program: Settings) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            target.start(self.release(target, program | {"routing": {"port": port}}))
            inside = report_of(target, "MILL-1")["environment"]
            (running,) = target.instances()
        assert inside["PORT"] != str(port)
        assert running.address == f"http://127.0.0.1:{inside['PORT']}"
        assert target.apply_routes([self.release(target, program)]) == {"MILL-1": running.address}

    def test_replicas_and_generations_have_ports_of_their_own(self, target: Target, program: Settings) -> None:
        settings = program | {"routing": {"port": free_port()}, "metrics": {"port": free_port()}}
        replicated = settings | {"deploy": {"replicas": 2}}
        for release in self.releases(target, replicated):
            target.start(release)
        target.start(self.release(target, settings | {"uuid": "MILL-2"}))
        target.start(self.release(target, settings | {"uuid": "MILL-2"}, 2))
        addresses = [instance.address for instance in target.instances()]
        assert len(set(addresses)) == 4
        assert addresses[0] == f"http://127.0.0.1:{settings['routing']['port']}"
        inside = [report_of(target, uuid)["environment"] for uuid in ("MILL-1-1", "MILL-1-2", "MILL-2")]
        assert len({environment["OPERATIONS_PORT"] for environment in inside}) == 3

    def test_secrets_are_readable_by_the_user_of_the_app_alone(self, target: Target, program: Settings) -> None:
        secrets = {"password": "of generation one"}
        started = target.start(self.release(target, program | {"secrets": secrets}))
        path = Path(report_of(target, "MILL-1")["environment"]["PASSWORD_FILE"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE((target.project.folder / ".openfactory" / "state.json").stat().st_mode) == 0o600
        newer = target.start(self.release(target, program | {"secrets": {"password": "of two"}}, 2))
        assert path.read_text() == "of generation one"
        target.stop(newer)
        assert path.exists()
        for file in (target.project.folder / ".openfactory").rglob("*"):
            if file.is_file() and file != path:
                assert b"of generation one" not in file.read_bytes()
        target.stop(started)
        assert not path.exists()

    def test_an_app_of_another_user_has_no_home_of_the_deployer(
        self, target: Target, program: Settings, runtime_ids: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", "/srv/deployer")
        if runtime_ids is not None:
            target.start(self.release(target, program | {"runtime_uid": runtime_ids[0], "runtime_gid": runtime_ids[1]}))
            assert "HOME" not in report_of(target, "MILL-1")["environment"]
        target.start(self.release(target, program | {"uuid": "MILL-2"}))
        assert report_of(target, "MILL-2")["environment"]["HOME"] == "/srv/deployer"

    def test_a_limit_of_open_files_is_kept(self, target: Target) -> None:
        limits = {"deploy": {"resources": {"limits": {"open_files": 40}}}}
        script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
        command = {"command": (python_of_all(), "-c", script), "restart": "no"}
        target.start(self.release(target, command | limits))
        until(lambda: [line.text for line in target.logs()] == ["(40, 40)"])

    def test_a_memory_limit_is_told_in_the_log(self, target: Target, program: Settings) -> None:
        limits = {"deploy": {"resources": {"limits": {"memory": "64Mi"}}}, "restart": "no"}
        target.start(self.release(target, program | limits, TASK="fill:300"))
        (ended,) = until(lambda: in_state(target, InstanceState.EXITED))
        assert ended.exit_status == 128 + signal.SIGKILL
        assert any("its limit is 64 MiB" in line.text for line in target.logs())

    def test_a_storage_that_is_a_folder_of_the_machine_already_is_refused(
        self, target: Target, program: Settings, public_folder: Path
    ) -> None:
        for name in ("data", "mounted"):
            (public_folder / name).mkdir()
        store = {"type": "local", "local_path": f"{public_folder}/data", "mount_point": f"{public_folder}/mounted"}
        with pytest.raises(TargetError, match=r"storage\.parts: .* Use another mount_point"):
            target.start(self.release(target, program | {"storage": {"parts": store}}))

    def test_an_image_is_refused_and_what_means_nothing_is_told(self, target: Target) -> None:
        release = self.release(target, {"image": "mill:1"})
        assert "Select the target docker" in target.lacks(release)["image"]
        assert list(target.refuses(release)) == ["image"]
        with pytest.raises(TargetError, match="does not run an image"):
            target.start(release)
        deploy = {"resources": {"limits": {"cpus": 0.5}}, "placement": {"constraints": ["node.role==manager"]}}
        settings = {"command": ("true",), "networks": ["factory-net"], "deploy": deploy}
        lacks = target.lacks(self.release(target, settings))
        assert target.refuses(self.release(target, settings)) == {}
        assert sorted(lacks) == ["deploy.placement", "deploy.resources.limits.cpus", "networks"]

    def test_a_command_that_is_not_installed_is_refused(self, target: Target, public_folder: Path) -> None:
        script = public_folder / "press.sh"
        script.write_text("#!/bin/sh\nsleep 60\n")
        for command in (("press-driver", "--fast"), ("./press.sh",)):  # the second one is not executable
            release = self.release(target, {"command": command})
            assert f"the program {command[0]!r} is not installed" in target.refuses(release)["command"]
            with pytest.raises(TargetError, match="Install it"):
                target.start(release)
        script.chmod(0o755)
        assert target.refuses(self.release(target, {"command": ("./press.sh",)})) == {}

    def test_pauses_between_restarts_grow(self, target: Target, program: Settings) -> None:
        target.start(self.release(target, program | {"restart": "always"}, TASK="exit:3"))
        until(lambda: target.instances()[0].restarts >= 4)
        notes = [line.text for line in target.logs() if line.text.startswith("[ofa]")]
        assert [note.split(" again in ")[1] for note in notes[:4]] == ["0.1 s.", "0.2 s.", "0.4 s.", "0.8 s."]
        assert "ended with status 3" in notes[0]

    def test_an_old_generation_that_ends_waits_for_the_fate_of_the_newer_one(
        self, target: Target, program: Settings
    ) -> None:
        old = target.start(self.release(target, program))
        report_of(target, "MILL-1")
        newer = target.start(self.release(target, program, 2))
        os.kill(old.pid or 0, signal.SIGTERM)  # as after the loss of its UUID
        until(lambda: [instance.state for instance in target.instances()] == ["restarting", "running"])
        time.sleep(1)
        assert [instance.state for instance in target.instances()] == ["restarting", "running"]
        target.stop(newer)
        until(lambda: running_in(target))
        assert target.instances()[0].generation == 1

    # --- Logs

    def test_a_log_rotates_and_a_follower_misses_and_doubles_nothing(self, project: Project) -> None:
        loop = "for n in range(4000):\n    print('line', n, 'x' * 40)\n    time.sleep(0.0005)"
        script = f"import time\n{loop}\ntime.sleep(600)"
        target = ProcessTarget(project, log_bytes=40_000)
        logs = target.logs(follow=True)
        target.start(self.release(target, {"command": (python_of_all(), "-u", "-c", script)}))
        try:
            seen = [int(next(logs).text.split()[1]) for _ in range(3900)]
            missed = sorted(set(range(seen[0], seen[-1])) - set(seen))
            assert seen == sorted(set(seen))
            assert len(missed) <= 4  # those of the instant between copy and truncation, for each rotation
            parts = sorted((project.folder / ".openfactory" / "logs").glob("MILL-1.log.*"))
            assert 1 <= len(parts) <= 3
        finally:
            stop_all(target)
            target.close()


def processes_in(folder: Path) -> list[int]:
    """Return the processes that run in a folder, as apps of its files do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if path.readlink() == folder:
                found.append(int(path.parent.name))
    return found


def supervisor_of(target: Target) -> int:
    """Return the process id of the supervisor, which it writes into its lock."""
    return int((target.project.folder / ".openfactory" / "supervisor.lock").read_text().split()[0])


def kill_supervisor(target: Target) -> int:
    """Kill the supervisor, and return its id when it is gone."""
    pid = supervisor_of(target)
    os.kill(pid, signal.SIGKILL)
    until(lambda: start_of(pid) is None)
    return pid
