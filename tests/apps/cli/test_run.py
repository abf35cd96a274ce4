"""`ofa run`: an app file as it is, with what it needs in the environment."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openfactory.apps.app_name import app_uuid_of
from openfactory.events.event import check_asset_uuid

pytestmark = pytest.mark.smoke

Ofa = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[bytes]]
Eventually = Callable[..., None]

SELF_PORTRAIT = """
import json, os, sys
import neighbour
def typed(number: int): ...
NAME = "seen through __main__"
print(json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path[0], "neighbour": neighbour.__file__,
    "url": os.environ.get("KSQLDB_URL"), "uuid": os.environ.get("APP_UUID"), "main": sys.modules["__main__"].NAME,
    "annotation": str(typed.__annotations__["number"]),
}))
"""

# The app of the documentation's page, as it stands there.
PAGE = """
import time
import os
from openfactory.apps import OpenFactoryApp, EventAttribute, SampleAttribute, ofa_method
from openfactory.kafka import KSQLDBClient

class DemoApp(OpenFactoryApp):

    status = EventAttribute(value="idle", tag="App.Status")
    sample_rate = SampleAttribute(value=42, tag="Sample.Rate")

    @ofa_method(description="Move to a given (x, y) position with speed")
    def move_axis(self, x: float, y: float, speed: int = 100):
        self.logger.info(f"Moving axis to x={x}, y={y} at speed={speed}")

    @ofa_method()
    def stop_axis(self):
        '''Stops all motion immediately.'''
        self.logger.info("Stopping all axis")

    def main_loop(self):
        counter = 1
        while True:
            self.logger.info(f"Counter: {counter}")
            counter += 1
            time.sleep(2)

    def app_event_loop_stopped(self):
        self.ksql.close()

app = DemoApp(
    ksqlClient=KSQLDBClient(os.getenv("KSQLDB_URL", "http://localhost:8088")),
    bootstrap_servers=os.getenv("KAFKA_BROKER", "localhost:9092")
)
app.run()
"""

NEEDS_A_FACTORY = """
import os
from openfactory.apps import OpenFactoryApp
from openfactory.kafka import KSQLDBClient
OpenFactoryApp(KSQLDBClient(os.environ["KSQLDB_URL"]))
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_runs_as_python_would_run_it(ofa_process: Ofa, workshop: Path) -> None:
    file = write(workshop / "line 1" / "portrait.py", SELF_PORTRAIT)
    neighbour = write(workshop / "line 1" / "neighbour.py", "")
    mine = ofa_process("run", "line 1/portrait.py", "--", "--port", "80")
    assert mine.returncode == 0, mine.stderr
    seen = json.loads(mine.stdout)
    assert Path(seen.pop("neighbour")) == neighbour
    assert seen == {
        "name": "__main__",
        "file": str(file),
        "argv": ["line 1/portrait.py", "--port", "80"],
        "path": str(file.parent),
        "url": f"sqlite:///{workshop}/factory.db",
        "uuid": "portrait",
        "main": "seen through __main__",
        "annotation": "<class 'int'>",
    }
    theirs = subprocess.run(
        [sys.executable, "line 1/portrait.py", "--port", "80"], cwd=workshop, capture_output=True, check=True
    )
    set_by_us = {"url": seen["url"], "uuid": seen["uuid"], "neighbour": str(neighbour)}
    assert {**json.loads(theirs.stdout), **set_by_us} == {**seen, **set_by_us}


def test_what_the_environment_says_stays(ofa_process: Ofa, workshop: Path) -> None:
    write(workshop / "neighbour.py", "")
    write(workshop / "portrait.py", SELF_PORTRAIT)
    found = ofa_process("run", "portrait.py", KSQLDB_URL="sqlite:///elsewhere.db", APP_UUID="MILL-7")
    assert json.loads(found.stdout)["url"] == "sqlite:///elsewhere.db"
    assert json.loads(found.stdout)["uuid"] == "MILL-7"
    unset = ofa_process("run", "portrait.py", KSQLDB_URL="", APP_UUID="")
    assert json.loads(unset.stdout)["uuid"] == "portrait"


@settings(deadline=None)
@given(st.text(min_size=1, max_size=50).filter(lambda name: "/" not in name and "\0" not in name))
def test_every_file_name_gives_a_uuid_that_can_be_carried(name: str) -> None:
    check_asset_uuid(app_uuid_of(Path("folder") / f"{name}.py"))


@pytest.mark.parametrize(
    ("name", "uuid"),
    [
        ("mill.py", "mill"),
        ("Mill-1_a.py", "Mill-1_a"),
        ("press v2.1 *|>.py", "press-v2-1----"),
        ("cell.2/__main__.py", "cell-2"),
    ],
)
def test_the_uuid_is_the_name_of_the_file(name: str, uuid: str) -> None:
    assert app_uuid_of(Path(name)) == uuid


def test_a_folder_with_any_name_holds_a_factory(ofa: Ofa, ofa_process: Ofa, workshop: Path) -> None:
    folder = workshop / "50% #1?"
    write(folder / "once.py", NEEDS_A_FACTORY)
    assert ofa_process("run", "once.py", folder=folder).returncode == 0
    assert (folder / "factory.db").is_file()
    assert ofa("asset", "inspect", "once", folder=folder).returncode == 0


def test_the_app_of_the_page_runs_unchanged(ofa: Ofa, start: Start, workshop: Path, eventually: Eventually) -> None:
    write(workshop / "demo_app.py", PAGE)
    app = start(workshop, "ofa", "run", "demo_app.py")
    log = workshop / "app.log"
    eventually(lambda: "Counter: 1" in log.read_text())
    assert ofa("asset", "call", "demo_app", "move_axis", "x=1", "y=2.5").returncode == 0
    eventually(
        lambda: "[DEMO_APP]" in log.read_text() and "Moving axis to x=1.0, y=2.5 at speed=100" in log.read_text()
    )
    app.send_signal(signal.SIGTERM)
    assert app.wait(60) == 0
    assert json.loads(ofa("asset", "ls", "--json").stdout) == []


@pytest.mark.parametrize(
    ("text", "status"),
    [("import sys\nsys.exit(7)", 7), ("", 0), ("raise SystemExit('away')", 1), ("import os\nos._exit(3)", 3)],
)
def test_the_exit_status_is_that_of_the_app(ofa_process: Ofa, workshop: Path, text: str, status: int) -> None:
    write(workshop / "app.py", text)
    assert ofa_process("run", "app.py").returncode == status


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1:9", "No ksqlDB server answers at http://127.0.0.1:9 "),
        ("sqlite:////nowhere/factory.db", "/nowhere/factory.db cannot be opened "),
        ("mysql://db", "'mysql://db' does not name an engine: "),
    ],
)
def test_a_factory_that_cannot_be_opened_is_one_sentence(
    ofa_process: Ofa, workshop: Path, url: str, sentence: str
) -> None:
    write(workshop / "app.py", NEEDS_A_FACTORY)
    found = ofa_process("run", "app.py", KSQLDB_URL=url)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith(sentence)
    assert found.stderr.count("\n") == 1
    assert "KSQLDB_URL" in found.stderr


def test_an_error_of_the_app_has_its_traceback_and_none_of_ours(ofa_process: Ofa, workshop: Path) -> None:
    write(workshop / "app.py", "def divide():\n    return 1 / 0\n\ndivide()\n")
    found = ofa_process("run", "app.py")
    assert found.returncode == 1
    assert found.stderr.startswith(
        f'Traceback (most recent call last):\n  File "{workshop}/app.py", line 4, in <module>'
    )
    assert found.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "cli" not in found.stderr


def test_a_file_that_is_no_python_is_shown_where_it_is_wrong(ofa_process: Ofa, workshop: Path) -> None:
    write(workshop / "app.py", "def f(:\n")
    found = ofa_process("run", "app.py")
    assert found.returncode == 1
    assert found.stderr.startswith(f'  File "{workshop}/app.py", line 1\n')
    assert found.stderr.endswith("SyntaxError: invalid syntax\n")


def test_a_missing_file_is_a_mistake_of_usage(ofa_process: Ofa) -> None:
    found = ofa_process("run", "nowhere.py")
    assert found.returncode == 2
    assert "File 'nowhere.py' does not exist." in found.stderr


def test_an_app_that_starts_processes_finds_itself_in_them(ofa_process: Ofa, workshop: Path) -> None:
    text = """
import multiprocessing
def double(number):
    return 2 * number
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        print(pool.map(double, [1, 2]))
        pool.close()
        pool.join()
"""
    write(workshop / "app.py", text)
    found = ofa_process("run", "app.py")
    assert found.returncode == 0, found.stderr
    assert found.stdout == "[2, 4]\n"
