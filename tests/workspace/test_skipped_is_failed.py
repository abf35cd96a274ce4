"""In CI a skipped test is a failed test; elsewhere it is a skipped one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distributions import ROOT

CASES = """
import pytest

def test_in_the_body():
    pytest.skip(reason="no server")

@pytest.mark.skip(reason="some day")
def test_by_mark(): ...

@pytest.fixture
def server():
    pytest.skip(reason="no server")

def test_in_a_fixture(server): ...

@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert False

def test_passing(): ...
"""


def run(folder: Path, ci: str | None) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    environ["PYTHONPATH"] = str(ROOT / "scripts")
    if ci is not None:
        environ["CI"] = ci
    command = [sys.executable, "-m", "pytest", "-p", "skipped_is_failed", "-p", "no:cacheprovider", "-q", "."]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True).stdout


@pytest.mark.parametrize("ci", [None, pytest.param("false", marks=pytest.mark.thorough)])
def test_elsewhere_a_skip_stays_one(tmp_path: Path, ci: str | None) -> None:
    (tmp_path / "test_cases.py").write_text(CASES, encoding="utf-8")
    assert "1 passed, 3 skipped, 1 xfailed" in run(tmp_path, ci)


def test_in_ci_a_skip_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(CASES, encoding="utf-8")
    output = run(tmp_path, "true")
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in output
    assert len(re.findall(r"was skipped in CI: .*(?:no server|some day)\n", output)) >= 3
    assert "CI runs every test" in output


def test_in_ci_a_module_that_skips_itself_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('nosuch')\n", encoding="utf-8")
    assert "1 error" in run(tmp_path, "true")
    assert "1 skipped" in run(tmp_path, None)
