"""What is promised of an app that owns its UUID, wherever its data is: one process at a time, and its end is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

__all__ = ["TIMEOUT", "Eventually", "OwnerFixtures", "OwnerPromises", "Start"]

Eventually = Callable[..., None]
Start = Callable[..., "OwnerProcess"]

# Seconds until the end of a process must be known: for Kafka a session is 0.4 of it.
TIMEOUT = 5.0

# Seconds after which an app does not write any more: one that is frozen while it holds the lock stops all writers.
_QUIET = 0.5

_APP = """
import ctypes
import os
import time
from openfactory.apps import OpenFactoryApp, ofa_method
from openfactory.kafka import KSQLDBClient

class Press(OpenFactoryApp):
    @ofa_method()
    def hold_the_interpreter(self):
        ctypes.PyDLL(None).sleep(60)

    @ofa_method()
    def stroke(self, token: str):
        with open(os.environ["STROKES"], "a") as file:
            file.write(token + "\\n")
        return os.getpid()

    def main_loop(self):
        while True:
            time.sleep(0.1)

Press(KSQLDBClient(os.environ["KSQLDB_URL"])).run()
"""

_WATCHER = """
import os
import time
from openfactory.assets import Asset
from openfactory.kafka import KSQLDBClient

asset = Asset(os.environ["APP_UUID"], KSQLDBClient(os.environ["KSQLDB_URL"]))

def on_availability(subject, message):
    if "owner_ended" in message["attributes"]:
        print(message["attributes"]["owner_ended"], flush=True)

asset.subscribe_to_attribute("avail", on_availability)
print("watches", flush=True)
while True:
    time.sleep(0.1)
"""


class OwnerProcess:
    """An app, or a watcher of it, as a process of its own."""

    def __init__(self, folder: Path, source: str, environment: dict[str, str]) -> None:
        self._log = folder / f"{uuid4().hex[:8]}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", source],
                env={**os.environ, "LIVENESS_TIMEOUT": str(TIMEOUT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def until(self, text: str, timeout: float = 120.0) -> None:
        """Wait until it says something."""
        deadline = time.monotonic() + timeout
        while text not in self.said:
            assert self.process.poll() is None, f"it ended before {text!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"it did not say {text!r}:\n{self.said}"
            time.sleep(0.02)

    def ends(self) -> int:
        return self.process.wait(120)

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)


class OwnerFixtures:
    """A subclass names the place of the data in the fixture `place_environment`."""

    @pytest.fixture
    def place_environment(self) -> dict[str, str]:
        raise NotImplementedError

    @pytest.fixture
    def uuid(self) -> str:
        return f"PRESS-{uuid4().hex[:8]}"

    @pytest.fixture
    def strokes(self, tmp_path: Path) -> Path:
        path = tmp_path / "strokes"
        path.write_text("")
        return path

    @pytest.fixture
    def start(self, tmp_path: Path, place_environment: dict[str, str], uuid: str, strokes: Path) -> Iterator[Start]:
        """Start the app or another source: `start()`, `start(APP_TAKE_OVER="1")`."""
        environment = {**place_environment, "APP_UUID": uuid, "STROKES": str(strokes)}
        with ExitStack() as stack:

            def start(source: str = _APP, **more: str) -> OwnerProcess:
                process = OwnerProcess(tmp_path, source, environment | more)
                stack.enter_context(process.process)
                stack.callback(process.process.kill)
                return process

            yield start

    @pytest.fixture
    def press(self, place_environment: dict[str, str], uuid: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asset]:
        for name, value in {**place_environment, "LIVENESS_TIMEOUT": str(TIMEOUT)}.items():
            monkeypatch.setenv(name, value)
        with KSQLDBClient(place_environment["KSQLDB_URL"]) as client, Asset(uuid, client) as press:
            yield press

    @pytest.fixture
    def heard(self, press: Asset) -> list[Any]:
        """What a callback hears of the availability from now on."""
        heard: list[Any] = []
        press.subscribe_to_attribute("avail", lambda _subject, message: heard.append(message["VALUE"]))
        return heard


class OwnerPromises(OwnerFixtures):
    """The promises that hold for every place."""

    def test_a_second_start_is_refused_and_each_command_runs_once(
        self, start: Start, press: Asset, strokes: Path, heard: list[Any], eventually: Eventually
    ) -> None:
        first = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        assert press.owner is not None
        assert press.owner.pid == first.pid
        second = start()
        assert second.ends() == 1
        [error] = [line for line in second.said.splitlines() if "AssetOwnedError" in line]
        assert f"is owned by process {first.pid} on host {press.owner.host}, which has run it since" in error
        assert "Stop that process, give this app another APP_UUID, or take over" in error
        tokens = [f"token-{number}" for number in range(20)]
        for token in tokens:
            assert press.call("stroke", token=token, sender_uuid="HMI", timeout=60) == first.pid
        assert strokes.read_text().split() == tokens
        assert heard == ["UNAVAILABLE", "AVAILABLE"]
        assert press.type == "OpenFactoryApp"

    def test_a_take_over_ends_the_older_app_and_leaves_the_asset_available(
        self, start: Start, press: Asset, strokes: Path, eventually: Eventually
    ) -> None:
        older = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        newer = start(APP_TAKE_OVER="1")
        assert older.ends() == 1
        assert f"was taken over by process {newer.pid} on host" in older.said
        newer.until("Starting the main loop")
        eventually(lambda: press.avail.value == "AVAILABLE")
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == newer.pid
        assert strokes.read_text().split() == ["x"]
        assert press.owner is not None
        assert (press.owner.pid, press.owner.ended) == (newer.pid, None)
        press.resync_state()
        assert (press.avail.value, press.type) == ("AVAILABLE", "OpenFactoryApp")

    def test_a_kill_is_told_once_and_the_app_can_be_started_again_at_once(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        watchers = [start(_WATCHER) for _ in range(2)]
        for watcher in watchers:
            watcher.until("watches")
        app = start()
        eventually(lambda: heard == ["UNAVAILABLE", "AVAILABLE"])
        app.process.kill()
        eventually(lambda: press.avail.value == "UNAVAILABLE")
        assert press.owner is not None
        assert press.owner.ended is not None
        assert press.owner.ended.startswith(f"process {app.pid} on host {press.owner.host} ended without a word")
        again = start()
        again.until("Starting the main loop")
        again.process.kill()
        again.ends()
        third = start()  # before anybody has noticed the end
        third.until("Starting the main loop")
        eventually(lambda: _pid_of_owner(press) == third.pid)
        eventually(lambda: press.avail.value == "AVAILABLE")
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == third.pid
        third.send(signal.SIGTERM)
        assert third.ends() == 0
        for watcher in watchers:
            watcher.until("stopped")
            ends = [line for line in watcher.said.splitlines() if line.startswith("process")]
            assert len(ends) == len(set(ends))
            assert len([end for end in ends if f"process {app.pid} " in end]) == 1

    def test_an_app_that_was_frozen_says_itself_that_it_is_available_again(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        app = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        time.sleep(_QUIET)
        app.send(signal.SIGSTOP)
        eventually(lambda: press.avail.value == "UNAVAILABLE")
        app.send(signal.SIGCONT)
        eventually(lambda: press.avail.value == "AVAILABLE")
        assert heard == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE", "AVAILABLE"]
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == app.pid
        app.send(signal.SIGTERM)
        assert app.ends() == 0
        assert press.type == "UNAVAILABLE"

    def test_a_frozen_app_that_was_taken_over_changes_nothing_when_it_goes_on(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        frozen = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        time.sleep(_QUIET)
        frozen.send(signal.SIGSTOP)
        newer = start(APP_TAKE_OVER="1")
        newer.until("Starting the main loop")
        frozen.send(signal.SIGTERM)
        frozen.send(signal.SIGCONT)
        frozen.ends()
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == newer.pid
        eventually(lambda: press.avail.value == "AVAILABLE")
        press.resync_state()
        assert (press.avail.value, press.type) == ("AVAILABLE", "OpenFactoryApp")
        assert heard == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE", "AVAILABLE"]

    def test_a_frozen_app_that_was_taken_over_runs_no_command_when_it_goes_on(
        self, start: Start, press: Asset, strokes: Path, eventually: Eventually
    ) -> None:
        frozen = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        time.sleep(_QUIET)
        frozen.send(signal.SIGSTOP)
        begun = time.monotonic()
        for number in range(20):
            press.method("stroke", "HMI", {"token": str(number)})
        newer = start(APP_TAKE_OVER="1")
        newer.until("Starting the main loop")
        time.sleep(max(begun + TIMEOUT / 3 - time.monotonic(), 0))  # as short as a freeze that an app notices
        frozen.send(signal.SIGCONT)
        assert frozen.ends() == 1
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == newer.pid
        assert strokes.read_text().split() == ["x"]

    @pytest.mark.thorough  # test_liveness.py has it without processes
    def test_a_watcher_that_was_frozen_takes_nobody_for_ended(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        watcher = start(_WATCHER)
        watcher.until("watches")
        time.sleep(TIMEOUT / 5)  # it has looked
        watcher.send(signal.SIGSTOP)
        time.sleep(1.5 * TIMEOUT)
        watcher.send(signal.SIGCONT)
        time.sleep(TIMEOUT / 2)
        assert heard == ["UNAVAILABLE", "AVAILABLE"]


def _pid_of_owner(asset: Asset) -> int | None:
    return None if asset.owner is None else asset.owner.pid
