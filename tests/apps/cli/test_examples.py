"""The example apps, by themselves and in the demo."""

from __future__ import annotations

import fcntl
import importlib
import importlib.util
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

Ofa = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[bytes]]
Eventually = Callable[..., None]

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DEMO = [sys.executable, str(EXAMPLES / "factory_demo.py")]
GOODBYE = "The factory has stopped."
APPS = 2 if importlib.util.find_spec("openfactory.flaskapp") is None else 3


def running_from(folder: Path) -> list[int]:
    """The processes that were told of a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if str(folder) in (process / "environ").read_text(errors="replace"):
                    found.append(int(process.name))
            except OSError:
                continue  # it has ended, or is somebody else's
    return found


def test_the_examples_run_by_ofa_and_work_together(
    ofa: Ofa, start: Start, workshop: Path, eventually: Eventually
) -> None:
    apps = {
        name: start(workshop, "ofa", "run", EXAMPLES / f"{name}.py", log=f"{name}.log")
        for name in ("shift_leader", "mill")
    }
    log = workshop / "shift_leader.log"
    eventually(lambda: "the mill says: milling at 1800 turns a minute" in log.read_text())
    eventually(lambda: "mill.parts is 1, the batch has 1" in log.read_text())
    listed = json.loads(ofa("asset", "ls", "--json").stdout)
    assert [(one["asset_uuid"], one["availability"]) for one in listed] == [
        ("mill", "AVAILABLE"),
        ("shift_leader", "AVAILABLE"),
    ]
    assert ofa("asset", "call", "mill", "set_speed", "speed=900").stdout == "milling at 900 turns a minute\n"
    refused = ofa("asset", "call", "mill", "set_speed", "speed=9000")
    assert refused.stderr == "mill.set_speed failed: ValueError: the spindle turns at 1 to 2400, not at 9000\n"
    spoiled = {"mill": ("parts", "spindle_speed", "temperature", "status"), "shift_leader": ("batch_size", "decision")}
    for name, attribute_ids in spoiled.items():
        for attribute_id in attribute_ids:
            assert ofa("asset", "set", name, attribute_id, "abc", "--text").returncode == 0
    assert ofa("asset", "call", "shift_leader", "set_batch_size", "parts=1").returncode == 0
    eventually(lambda: "the mill says: stopped after" in log.read_text())
    for app in apps.values():
        app.send_signal(signal.SIGTERM)
    assert [app.wait(60) for app in apps.values()] == [0, 0]
    for name in apps:
        assert "Traceback" not in (workshop / f"{name}.log").read_text().replace(refused_traceback(workshop), "")


def refused_traceback(folder: Path) -> str:
    """What the mill logs of the speed that it refuses: the one traceback that belongs there."""
    text = (folder / "mill.log").read_text()
    found = re.search(r"Traceback \(most recent call last\):\n.*?ValueError: the spindle [^\n]*\n", text, re.DOTALL)
    assert found is not None
    return found.group()


def test_the_examples_run_with_an_url_alone(start: Start, workshop: Path, eventually: Eventually) -> None:
    url = f"sqlite:///{workshop}/factory.db"
    app = start(workshop, sys.executable, EXAMPLES / "mill.py", KSQLDB_URL=url, APP_UUID="MILL-2")
    eventually(lambda: "Starting the main loop." in (workshop / "app.log").read_text())
    app.send_signal(signal.SIGINT)
    assert app.wait(60) == 0


def test_the_demo_ends_by_itself_and_leaves_nothing(workshop: Path) -> None:
    found = subprocess.run(
        [*DEMO, "--seconds", "2.5"], env={**os.environ, "TMPDIR": str(workshop)}, capture_output=True, encoding="utf-8"
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    lines = [line.partition("  ")[2] for line in found.stdout.splitlines()]
    assert "shift_leader → mill  start speed=1800" in lines
    assert "mill  succeeded: milling at 1800 turns a minute" in lines
    assert lines.index("mill.avail = AVAILABLE") < lines.index("mill.status = milling")
    assert "mill.avail = UNAVAILABLE" in lines[lines.index("mill.status = milling") :]
    assert re.search(r"spindle_speed = \d+\.\d, temperature = 2\d\.\d", found.stdout)
    assert found.stdout.endswith(f"Stopped.\n{GOODBYE}\n")
    assert list(workshop.iterdir()) == []
    assert running_from(workshop) == []


def test_ctrl_c_ends_the_demo_well(start: Start, workshop: Path, eventually: Eventually) -> None:
    demo = start(workshop, *DEMO, TMPDIR=str(workshop))
    log = workshop / "app.log"
    eventually(lambda: "mill.status = milling" in log.read_text())
    groups = [os.getpgid(process) for process in running_from(workshop)]
    assert len(groups) == 1 + APPS
    assert groups.count(demo.pid) == 1  # the apps are in groups of their own: each gets one signal, from the demo
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
    assert demo.wait(60) == 0
    assert log.read_text().endswith(f"Stopped.\n{GOODBYE}\n")
    assert running_from(workshop) == []
    assert list(workshop.iterdir()) == [log]


def test_without_flask_the_demo_has_no_dashboard_and_says_how_to_get_it(workshop: Path) -> None:
    (workshop / "sitecustomize.py").write_text("import sys\n\nsys.modules['flask'] = None\n")
    path = os.pathsep.join(filter(None, [str(workshop), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    found = subprocess.run([*DEMO, "--seconds", "1"], env=environment, capture_output=True, encoding="utf-8")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("No dashboard: OpenFactoryFlaskApp needs openfactory-flask. ")
    assert "pip install openfactory-flask" in found.stdout
    assert "dashboard.avail" not in found.stdout
    assert found.stdout.endswith(f"{GOODBYE}\n")


def test_an_app_that_fails_ends_the_demo_and_is_shown(workshop: Path) -> None:
    environment = {**os.environ, "STORAGE": "nonsense"}
    found = subprocess.run([*DEMO, "--seconds", "20"], env=environment, capture_output=True, encoding="utf-8")
    assert found.returncode == 1
    assert "ended with status 1. Its last lines:\n" in found.stderr
    assert "STORAGE" in found.stderr


def test_what_the_demo_has_seen_can_be_kept(ofa: Ofa, workshop: Path) -> None:
    found = subprocess.run([*DEMO, "--seconds", "1", "--keep", "kept #1"], cwd=workshop, capture_output=True)
    assert found.returncode == 0
    assert {"factory.db", "mill.log", "shift_leader.log"} <= {path.name for path in (workshop / "kept #1").iterdir()}
    inspected = ofa("asset", "inspect", "mill", "--json", "--url", "sqlite:///kept%20%231/factory.db")
    assert json.loads(inspected.stdout)["attributes"]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), pytest.param(120, 40, marks=pytest.mark.thorough)])
def test_on_a_terminal_the_demo_draws_a_picture_that_fits(workshop: Path, columns: int, rows: int) -> None:
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "TMPDIR": str(workshop), "HATCH_ENV_ACTIVE": "default"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    demo = subprocess.Popen(
        [*DEMO, "--seconds", "2.5"], stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=workshop
    )
    os.close(terminal)
    drawn = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the terminal's other end is closed
            break
        if not piece:
            break
        drawn += piece
    os.close(main)
    assert demo.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())
    lines = text.replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= columns
    last = text[text.rindex("A small factory, ") :].replace("\r", "").split("\n")
    assert len(last) <= rows
    said = " ".join("\n".join(last).split())
    assert "shift_leader → mill" in " ".join(text.split())  # later events may push it out of the last picture
    for expected in ("mill UNAVAILABLE", "status milling", "▁", "█", GOODBYE):
        assert expected in said
    assert "hatch run ofa asset watch mill \\" in said
    assert f"--url sqlite:///{workshop}"[: columns - 3] in said


def test_the_demo_gives_a_command_that_can_be_pasted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    watch_command = importlib.import_module("factory_demo").watch_command
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HATCH_ENV_ACTIVE", raising=False)
    assert watch_command("memory://x", 80) == ["ofa asset watch mill --url memory://x"]
    monkeypatch.setenv("HATCH_ENV_ACTIVE", "default")
    assert watch_command("memory://x", 80) == ["hatch run ofa asset watch mill --url memory://x"]
    hatch = tmp_path / ".venv" / "bin" / "hatch"
    hatch.parent.mkdir(parents=True)
    hatch.touch()
    assert watch_command("memory://x", 80) == [".venv/bin/hatch run ofa asset watch mill --url memory://x"]
    assert watch_command("memory://x", 50) == [".venv/bin/hatch run ofa asset watch mill \\", "  --url memory://x"]
