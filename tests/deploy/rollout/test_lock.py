"""One deployment at a time changes a project, and the other one is told of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from openfactory.deploy.cli.locking import locked
from openfactory.deploy.cli.session import open_session
from openfactory.deploy.lock import DeploymentRunsError, deployment_lock
from openfactory.engines import Engine
from openfactory.engines.registry import open_engine
from openfactory.testing import eventually

HOLDER = """
import sys, time
from pathlib import Path
from openfactory.deploy.lock import deployment_lock
with deployment_lock(Path(sys.argv[1]), "ofa apps up"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_deployment_is_told_of_the_first_and_waits_for_it(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DeploymentRunsError) as caught, deployment_lock(tmp_path, "ofa apps down", wait=False):
            pass
        assert caught.value.holder is not None
        assert (caught.value.holder.command, caught.value.holder.pid) == ("ofa apps up", other.pid)
        assert f"`ofa apps up` of {caught.value.holder.user}, process {other.pid} on host" in str(caught.value)
        said: list[str] = []
        held = threading.Event()

        def wait() -> None:
            with deployment_lock(tmp_path, "ofa apps down", report=said.append):
                held.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        eventually(lambda: said)
        assert said[0].startswith("Waiting for another deployment of this project: `ofa apps up`")
        assert not held.is_set()
        other.send_signal(signal.SIGKILL)  # the kernel releases its lock
        assert held.wait(60)
        waiting.join()
        assert len(said) == 1
    finally:
        other.kill()
        other.communicate()


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), deployment_lock(tmp_path, "ofa apps up"):
        raise ZeroDivisionError
    with deployment_lock(tmp_path, "ofa apps up", wait=False):
        assert sorted(os.listdir(tmp_path)) == ["lock", "lock.json"]
    assert os.listdir(tmp_path) == ["lock"]


def test_plan_and_rollout_share_the_engine_of_the_factory(
    tmp_path: Path, file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KSQLDB_URL", file_url)

    def opened() -> Engine:
        with open_engine(file_url) as reference:
            return reference.engine

    first = opened()  # the file is there now
    with open_session((tmp_path,), "process", None) as session, locked(session, "ofa apps up", wait=True):
        engine = opened()
        assert engine is opened()
    assert opened() not in (first, engine)


def test_a_command_that_starts_nothing_makes_no_file_of_a_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KSQLDB_URL", raising=False)
    with open_session((tmp_path,), "process", None) as session, locked(session, "ofa apps down", wait=True):
        pass
    assert not list(tmp_path.rglob("*.db"))
