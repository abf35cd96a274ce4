"""The UUID of an app that nobody has named: the name of its file, however the file is started."""

from __future__ import annotations

import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openfactory.apps import OpenFactoryApp
from openfactory.apps.app_name import app_file_of

APP = """
import sys
from openfactory.apps import OpenFactoryApp
class Mill(OpenFactoryApp):
    def main_loop(self):
        print("UUID", self.asset_uuid)
"""
RUN = "if __name__ == '__main__':\n    Mill(None).run()\n"
SPAWN = """
def work():
    Mill(None).run()
if __name__ == "__main__":
    import multiprocessing
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""
TEST = "def test_it(): Mill(None).run()\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in a folder with a factory, and without APP_UUID: `run("mill.py")`."""
    monkeypatch.setenv("KSQLDB_URL", f"sqlite:///{tmp_path}/factory.db")

    def start(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=120)

    return start


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("file", "code", "arguments", "uuid"),
    [
        ("mill.py", APP + RUN, ["mill.py"], "mill"),
        ("press v2.py", APP + RUN, ["press v2.py"], "press-v2"),
        ("cell/mill.py", APP + RUN, ["-m", "cell.mill"], "mill"),
        ("cell/__main__.py", APP + RUN, ["-m", "cell"], "cell"),
        ("cell/__main__.py", APP + RUN, ["cell"], "cell"),
        ("mill.py", APP + SPAWN, ["mill.py"], "mill"),
        ("mill.py", APP, ["-c", "import mill; mill.Mill(None).run()"], "mill"),
        ("plant/__init__.py", APP, ["-c", "import plant; plant.Mill(None).run()"], "plant"),
        ("mill.py", APP + RUN, ["-m", "cProfile", "mill.py"], "mill"),
        ("test_mill.py", APP + TEST, ["-m", "pytest", "-qs", "-pno:cacheprovider", "test_mill.py"], "test_mill"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_app_that_nobody_has_named_has_the_name_of_its_file(
    run: Run, tmp_path: Path, file: str, code: str, arguments: list[str], uuid: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code, encoding="utf-8")
    found = run(*arguments)
    assert f"UUID {uuid}\n" in found.stdout, found
    assert f"so the UUID of this app is the name of its file: {uuid}. Set APP_UUID." in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("arguments", "uuid"),
    [
        (["-m", "pytest", "-qs", "-pno:cacheprovider", "test_press.py"], "mill"),  # a program of another package
        (["-m", "plant"], "plant"),
        (["start-mill"], "start-mill"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_installed_app_has_no_name_of_a_program_of_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], uuid: str
) -> None:
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "site"))
    folder = tmp_path / Path(run("-c", "import site; print(site.getusersitepackages())").stdout.strip())
    use = "from plant.mill import Mill\n"
    files = {
        "plant/__init__.py": "",
        "plant/__main__.py": use + "Mill(None).run()\n",
        "plant/mill.py": APP,
        "plant-1.dist-info/METADATA": "Name: plant\nVersion: 1\n",
        "plant-1.dist-info/entry_points.txt": "[console_scripts]\nstart-mill = plant.__main__\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "start-mill").write_text(files["plant/__main__.py"], encoding="utf-8")
    (tmp_path / "test_press.py").write_text(use + TEST, encoding="utf-8")
    found = run(*(str(folder / one) if one == "start-mill" else one for one in arguments), PYTHONPATH=str(folder))
    assert f"UUID {uuid}\n" in found.stdout, found


def test_a_class_of_a_library_does_not_name_the_app_that_uses_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "vendor.py").write_text(APP, encoding="utf-8")
    (tmp_path / "line_3.py").write_text("import vendor\nvendor.Mill(None).run()\n", encoding="utf-8")
    assert "UUID line_3\n" in run("line_3.py").stdout


def test_an_app_in_an_archive_has_its_name(run: Run, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "__main__.py").write_text(APP + RUN, encoding="utf-8")
    zipapp.create_archive(tmp_path / "source", tmp_path / "mill.pyz")
    assert "UUID mill\n" in run("mill.pyz").stdout


@pytest.mark.parametrize("arguments", [["-c", APP + RUN], ["-"]], ids=["-c", "stdin"])
def test_an_app_without_a_file_has_the_default(run: Run, arguments: list[str]) -> None:
    found = run(*arguments, stdin=APP + RUN)
    assert "UUID DEV-UUID\n" in found.stdout, found
    assert "APP_UUID is not set" not in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("environment", "uuid"),
    [({"APP_UUID": "CHOSEN"}, "CHOSEN"), ({"SWARM_REPLICAS": "2", "SWARM_TASK_SLOT": "2"}, "mill-2")],
)
def test_the_environment_wins_and_replicas_differ(
    run: Run, tmp_path: Path, environment: dict[str, str], uuid: str
) -> None:
    (tmp_path / "mill.py").write_text(APP + RUN, encoding="utf-8")
    found = run("mill.py", **environment)
    assert f"UUID {uuid}\n" in found.stdout
    assert ("APP_UUID is not set" in found.stdout + found.stderr) == ("APP_UUID" not in environment)


def test_a_frozen_program_names_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/cell/mill")
    assert app_file_of(OpenFactoryApp) == Path("/opt/cell/mill")


def test_test_mode_needs_no_name(start: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    class Mill(OpenFactoryApp):
        pass

    assert start(Mill).asset_uuid == "DEV-UUID"
    assert "APP_UUID is not set" not in caplog.text
