"""`ofa run --reload`: the app starts again when a file changes, and ends with the reloader."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

Start = Callable[..., Popen[bytes]]
Eventually = Callable[..., None]

APP = """
import os
import time
from openfactory.apps import OpenFactoryApp
from openfactory.kafka import KSQLDBClient
from recipe import NAME


class Cook(OpenFactoryApp):
    def main_loop(self):
        print("process", os.getpid(), "cooks", NAME, flush=True)
        while True:
            time.sleep(1)

    def app_event_loop_stopped(self):
        print("process", os.getpid(), "has stopped", flush=True)


Cook(KSQLDBClient(os.environ["KSQLDB_URL"])).run()
"""


STUBBORN = """
import os
import signal
import time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(99)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class Kitchen:
    """A folder with an app that runs under --reload."""

    def __init__(self, folder: Path, start: Start, eventually: Eventually) -> None:
        self.folder = folder
        self.eventually = eventually
        (folder / "cook.py").write_text(APP)
        self.written = float(int(time.time()))
        self.write("soup", self.written)
        # Python may keep compiled files, whatever the machine says of that.
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
        self.reloader = start(folder, "ofa", "run", "cook.py", "--reload", **compiled)

    def write(self, name: str, at: float | None = None) -> None:
        recipe = self.folder / "recipe.py"
        recipe.write_text(f"NAME = {name!r}\n")
        if at is not None:
            os.utime(recipe, (at, at))

    def said(self) -> str:
        return (self.folder / "app.log").read_text(encoding="utf-8")

    def process_that_cooks(self, name: str) -> int:
        self.eventually(lambda: f"cooks {name}\n" in self.said())
        line = next(line for line in self.said().splitlines() if line.endswith(f"cooks {name}"))
        return int(line.split()[1])


@pytest.fixture
def kitchen(workshop: Path, start: Start, eventually: Eventually) -> Kitchen:
    return Kitchen(workshop, start, eventually)


def test_a_change_stops_the_app_and_starts_it_again(kitchen: Kitchen) -> None:
    first = kitchen.process_that_cooks("soup")
    kitchen.write("stew", kitchen.written + 0.5)  # as many bytes, and in the same second
    second = kitchen.process_that_cooks("stew")
    said = kitchen.said()
    assert f"process {first} has stopped" in said
    assert said.index(f"process {first} has stopped") < said.index(f"process {second} cooks")
    assert "recipe.py changed, starting again." in said
    assert not is_alive(first)
    (kitchen.folder / "side_dish.py").touch()  # a file that is new
    kitchen.eventually(lambda: "side_dish.py changed, starting again." in kitchen.said())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_app_and_then_the_reloader(kitchen: Kitchen, number: signal.Signals) -> None:
    app = kitchen.process_that_cooks("soup")
    kitchen.reloader.send_signal(number)
    assert kitchen.reloader.wait(60) == 0
    assert not is_alive(app)
    assert f"process {app} has stopped" in kitchen.said()
    assert "Traceback" not in kitchen.said()


def test_an_app_that_crashes_is_started_again_by_the_next_change(kitchen: Kitchen) -> None:
    kitchen.process_that_cooks("soup")
    (kitchen.folder / "recipe.py").write_text("NAME = 1 / 0\n")
    kitchen.eventually(lambda: "cook.py ended with status 1; waiting for a change." in kitchen.said())
    assert "ZeroDivisionError" in kitchen.said()
    assert kitchen.reloader.poll() is None
    kitchen.write("bread")
    kitchen.process_that_cooks("bread")


def test_a_second_signal_ends_an_app_that_does_not_stop(workshop: Path, start: Start, eventually: Eventually) -> None:
    (workshop / "stubborn.py").write_text(STUBBORN)
    reloader = start(workshop, "ofa", "run", "--reload", "stubborn.py")
    log = workshop / "app.log"
    eventually(lambda: log.read_text().endswith("\n"))
    app = int(log.read_text())
    reloader.send_signal(signal.SIGINT)
    eventually(lambda: "stubborn.py is still stopping; Ctrl-C again ends it at once." in log.read_text())
    assert is_alive(app)
    reloader.send_signal(signal.SIGINT)
    assert reloader.wait(60) == 0
    assert not is_alive(app)
