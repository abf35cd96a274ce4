"""An app that PyInstaller has frozen finds its engine: a program that needs no Python and no installation."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from distributions import distribution
from openfactory.engines import registry

APP = """
import sys
from openfactory.apps import EventAttribute, OpenFactoryApp
from openfactory.kafka import KSQLDBClient
class Mill(OpenFactoryApp):
    status = EventAttribute(value="idle", tag="Status")
    def main_loop(self):
        self.status = "busy"
        self.flush()
        print(self.history("status")[-1].value, flush=True)
Mill(KSQLDBClient(sys.argv[1]), app_uuid="mill").run()
"""


def test_the_hook_that_pyinstaller_asks_for_is_beside_the_module_that_it_is_for() -> None:
    named = distribution("openfactory-core").project["entry-points"]["pyinstaller40"]
    (folder,) = EntryPoint("hook-dirs", named["hook-dirs"], "pyinstaller40").load()()
    assert (Path(folder) / f"hook-{registry.__name__}.py").is_file()


@pytest.mark.thorough
def test_a_frozen_app_runs(tmp_path: Path) -> None:
    (tmp_path / "mill.py").write_text(APP)
    freeze = [sys.executable, "-m", "PyInstaller", "--onedir", "-y", "mill.py"]
    frozen = subprocess.run(freeze, cwd=tmp_path, capture_output=True, text=True)
    assert frozen.returncode == 0, frozen.stderr
    for url in ("memory://frozen", f"sqlite:///{tmp_path}/factory.db"):
        ran = subprocess.run([tmp_path / "dist/mill/mill", url], capture_output=True, text=True, timeout=120)
        assert ran.stdout.split()[-1:] == ["busy"], ran.stderr
