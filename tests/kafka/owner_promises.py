"""What is promised of an app that owns its UUID, wherever its data is: one process at a time, and its end is known."""

from __future__ import annotations

import fcntl
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app_processes import AppProcess, freeze_when
from openfactory.assets import Asset, Factory
from openfactory.commands import CommandReply
from openfactory.exceptions import CommandTimeout
from openfactory.kafka import KSQLDBClient

__all__ = ["TIMEOUT", "Eventually", "Freeze", "FrozenAppPromise", "OwnerFixtures", "OwnerPromises", "Start", "is_held"]

Eventually = Callable[..., None]
Start = Callable[..., AppProcess]
Freeze = Callable[[AppProcess], None]

# Seconds until the end of a process must be known: for Kafka a session is 0.4 of it.
TIMEOUT = 5.0

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

client = KSQLDBClient(os.environ["KSQLDB_URL"])
if "GO" in os.environ:  # the file whose existence lets the app start
    client.engine  # is open, so that the app claims its UUID at once
    print("waits for its start", flush=True)
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.01)
Press(client).run()
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
        environment = {
            **place_environment,
            "APP_UUID": uuid,
            "LIVENESS_TIMEOUT": str(TIMEOUT),
            "STROKES": str(strokes),
        }
        with ExitStack() as stack:

            def start(source: str = _APP, **more: str) -> AppProcess:
                process = AppProcess(tmp_path, [sys.executable, "-c", source], environment | more)
                stack.callback(process.kill)
                return process

            yield start

    @pytest.fixture
    def lock_file(self) -> Path | None:
        """The file whose lock all writers of the place need, if there is one."""
        return None

    @pytest.fixture
    def freeze(self, lock_file: Path | None) -> Freeze:
        """Freeze a process while no process holds the lock: one that is frozen with it stops all writers."""
        return lambda app: freeze_when(app.process, lambda: lock_file is None or not is_held(lock_file))

    @pytest.fixture
    def client(self, place_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[KSQLDBClient]:
        for name, value in {**place_environment, "LIVENESS_TIMEOUT": str(TIMEOUT)}.items():
            monkeypatch.setenv(name, value)
        with KSQLDBClient(place_environment["KSQLDB_URL"]) as client:
            yield client

    @pytest.fixture
    def press(self, client: KSQLDBClient, uuid: str) -> Iterator[Asset]:
        with Asset(uuid, client) as press:
            yield press

    @pytest.fixture
    def heard(self, press: Asset) -> list[Any]:
        """What a callback hears of the availability from now on."""
        heard: list[Any] = []
        press.subscribe_to_attribute("avail", lambda _subject, message: heard.append(message["VALUE"]))
        return heard


class FrozenAppPromise(OwnerFixtures):
    """The promise of commands that also depends on the times of the records in the log."""

    def test_a_frozen_app_does_not_run_what_nobody_waits_for(
        self, start: Start, freeze: Freeze, press: Asset, strokes: Path, eventually: Eventually
    ) -> None:
        app = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        freeze(app)
        frozen_at = time.monotonic()
        late = press.method("stroke", "HMI", {"token": "late"}, timeout=0.2)
        with pytest.raises(CommandTimeout) as caught:
            press.call("stroke", token="called", sender_uuid="HMI", timeout=0.5)
        patient = press.method("stroke", "HMI", {"token": "patient"}, timeout=60)
        press.flush()
        time.sleep(max(frozen_at + 1 - time.monotonic(), 0))
        app.thaw()
        statuses: dict[str, str] = {}

        def all_replied() -> bool:
            replies = (CommandReply.parse(reply.value) for reply in press.history("stroke_REPLY"))
            statuses.update({str(reply.correlation_id): reply.status for reply in replies})
            return len(statuses) == 3

        eventually(all_replied)
        assert statuses.pop(caught.value.correlation_id) in ("expired", "cancelled")
        assert statuses == {late: "expired", patient: "succeeded"}
        assert strokes.read_text().split() == ["patient"]


class OwnerPromises(FrozenAppPromise):
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
        eventually(lambda: len(heard) >= 2)
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

    def test_a_kill_is_told_to_a_process_that_only_watches_all_assets(
        self, start: Start, client: KSQLDBClient, uuid: str
    ) -> None:
        app = start()
        app.until("Starting the main loop")
        with Factory(client) as factory, factory.watch(attributes=["avail"]) as changes:
            app.kill()
            events = iter(lambda: changes.get(60), None)
            end = next(event for event in events if (event.asset_uuid, event.value) == (uuid, "UNAVAILABLE"))
        assert end.attributes is not None
        assert f"process {app.pid} on host" in end.attributes["owner_ended"]

    def test_a_kill_is_told_once_and_the_app_can_be_started_again_at_once(
        self, start: Start, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        watchers = [start(_WATCHER) for _ in range(2)]
        for watcher in watchers:
            watcher.until("watches")
        app = start()
        eventually(lambda: heard == ["UNAVAILABLE", "AVAILABLE"])
        app.kill()
        eventually(lambda: press.avail.value == "UNAVAILABLE")
        assert press.owner is not None
        assert press.owner.ended is not None
        assert press.owner.ended.startswith(f"process {app.pid} on host {press.owner.host} ended without a word")
        again = start()
        again.until("Starting the main loop")
        again.kill()
        third = start()  # before anybody has noticed the end
        third.until("Starting the main loop")
        eventually(lambda: _pid_of_owner(press) == third.pid)
        eventually(lambda: press.avail.value == "AVAILABLE")
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == third.pid
        assert third.stop() == 0
        for watcher in watchers:
            watcher.until("stopped")
            ends = [line for line in watcher.said.splitlines() if line.startswith("process")]
            assert len(ends) == len(set(ends))
            assert len([end for end in ends if f"process {app.pid} " in end]) == 1

    def test_an_app_that_was_frozen_says_itself_that_it_is_available_again(
        self, start: Start, freeze: Freeze, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        app = start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        freeze(app)
        eventually(lambda: press.avail.value == "UNAVAILABLE")
        app.thaw()
        eventually(lambda: len(heard) >= 4)
        assert heard == ["UNAVAILABLE", "AVAILABLE", "UNAVAILABLE", "AVAILABLE"]
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == app.pid
        assert app.stop() == 0
        assert press.type == "UNAVAILABLE"

    def test_a_frozen_app_that_was_taken_over_changes_nothing_when_it_goes_on(
        self, start: Start, freeze: Freeze, press: Asset, heard: list[Any], tmp_path: Path, eventually: Eventually
    ) -> None:
        frozen, newer = start(), start(APP_TAKE_OVER="1", GO=str(tmp_path / "go"))
        newer.until("waits for its start")
        eventually(lambda: press.avail.value == "AVAILABLE")
        freeze(frozen)
        (tmp_path / "go").touch()
        eventually(lambda: len(heard) >= 4 and heard[-1] == "AVAILABLE")
        before = list(heard)  # on a busy machine, also the end of the frozen app
        frozen.process.send_signal(signal.SIGTERM)
        frozen.thaw()
        frozen.ends()
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == newer.pid
        press.resync_state()
        assert (press.avail.value, press.type) == ("AVAILABLE", "OpenFactoryApp")
        assert newer.stop() == 0
        eventually(lambda: heard[-1] == "UNAVAILABLE")
        assert heard == [*before, "UNAVAILABLE"]

    def test_a_frozen_app_that_was_taken_over_runs_no_command_when_it_goes_on(
        self, start: Start, freeze: Freeze, press: Asset, strokes: Path, tmp_path: Path, eventually: Eventually
    ) -> None:
        frozen, newer = start(), start(APP_TAKE_OVER="1", GO=str(tmp_path / "go"))
        newer.until("waits for its start")
        eventually(lambda: press.avail.value == "AVAILABLE")
        freeze(frozen)
        begun = time.monotonic()
        for number in range(20):
            press.method("stroke", "HMI", {"token": str(number)})
        (tmp_path / "go").touch()
        newer.until("Starting the main loop")
        time.sleep(max(begun + TIMEOUT / 3 - time.monotonic(), 0))  # as short as a freeze that an app notices
        frozen.thaw()
        assert frozen.ends() == 1
        assert press.call("stroke", token="x", sender_uuid="HMI", timeout=60) == newer.pid
        assert strokes.read_text().split() == ["x"]

    @pytest.mark.thorough  # test_liveness.py has it without processes
    def test_a_watcher_that_was_frozen_takes_nobody_for_ended(
        self, start: Start, freeze: Freeze, press: Asset, heard: list[Any], eventually: Eventually
    ) -> None:
        start()
        eventually(lambda: press.avail.value == "AVAILABLE")
        watcher = start(_WATCHER)
        watcher.until("watches")
        time.sleep(TIMEOUT / 5)  # it has looked
        freeze(watcher)
        time.sleep(1.5 * TIMEOUT)
        watcher.thaw()
        time.sleep(TIMEOUT / 2)
        assert heard == ["UNAVAILABLE", "AVAILABLE"]


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock of a file."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _pid_of_owner(asset: Asset) -> int | None:
    return None if asset.owner is None else asset.owner.pid
