"""Which interpreters the matrix finds: real ones, and none that only looks like it."""

from __future__ import annotations

import sys
from pathlib import Path

from python_matrix import candidates, find_interpreter, supported_versions

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def fake(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_versions_come_from_the_hatch_matrix() -> None:
    assert supported_versions() == ["3.11", "3.12", "3.13"]


def test_the_running_interpreter_is_found(tmp_path: Path) -> None:
    found = find_interpreter(HERE, candidates(HERE, {"HOME": str(tmp_path)}))
    assert found is not None
    # Of a virtual environment it is the interpreter below it that can make another one.
    assert found == Path(getattr(sys, "_base_executable", sys.executable))


def test_a_version_that_is_missing_is_not_found(tmp_path: Path) -> None:
    assert find_interpreter("3.99", candidates("3.99", {"PATH": str(tmp_path), "HOME": str(tmp_path)})) is None


def test_what_is_no_interpreter_of_that_version_is_passed_over(tmp_path: Path) -> None:
    # A shim of pyenv whose version is not chosen, another version, a hanging file, a broken one.
    pretenders = [
        tmp_path / "gone",
        tmp_path,
        fake(tmp_path / "shim", "echo 'command not found' >&2; exit 127"),
        fake(tmp_path / "other", f"echo 3.0 {sys.executable}"),
        fake(tmp_path / "liar", "echo 3.99 /nowhere/python"),
        fake(tmp_path / "silent", "exit 0"),
    ]
    assert find_interpreter("3.99", pretenders) is None
    real = fake(tmp_path / "real", f"echo 3.99 {sys.executable}")
    assert find_interpreter("3.99", [*pretenders, real]) == Path(sys.executable)


def test_the_folders_of_pyenv_and_uv_are_looked_into(tmp_path: Path) -> None:
    pyenv = fake(tmp_path / ".pyenv/versions/3.99.4/bin/python3.99", "")
    uv = fake(tmp_path / ".local/share/uv/python/cpython-3.99.1-linux/bin/python3.99", "")
    on_path = tmp_path / "bin" / "python3.99"
    found = list(candidates("3.99", {"HOME": str(tmp_path), "PATH": str(tmp_path / "bin")}))
    assert found == [Path(sys.executable), on_path, pyenv, uv]
