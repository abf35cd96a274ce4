"""Runs all tests with every supported Python that this machine has, and says which ones it lacks.

    python scripts/python_matrix.py [--except 3.11] [pytest arguments]

It is no hatch script: hatch inside hatch loses its own environment when it was started by pipx.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from distributions import ROOT


def supported_versions(root: Path = ROOT) -> list[str]:
    """The versions that the root pyproject.toml lists for the `matrix` environment."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    versions: list[str] = settings["tool"]["hatch"]["envs"]["matrix"]["matrix"][0]["python"]
    return versions


def candidates(version: str, environ: dict[str, str]) -> Iterator[Path]:
    """Where an interpreter of this version may be: this one, PATH, pyenv's and uv's folders."""
    yield Path(sys.executable)
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / f"python{version}"
    home = Path(environ.get("HOME") or "/nonexistent")
    pyenv = Path(environ.get("PYENV_ROOT") or home / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)
    uv_data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
    yield from sorted(uv_data.glob(f"uv/python/cpython-{version}.*/bin/python{version}"), reverse=True)


def find_interpreter(version: str, paths: Iterable[Path]) -> Path | None:
    """The first of these that really is this version: a shim of pyenv often is none at all."""
    for path in paths:
        if not os.access(path, os.X_OK) or path.is_dir():
            continue
        question = "import sys, venv; print('%d.%d' % sys.version_info[:2], sys._base_executable)"
        try:
            answer = subprocess.run(
                [path, "-c", question], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        found, _, executable = answer.stdout.strip().partition(" ")
        if answer.returncode == 0 and found == version and Path(executable).exists():
            return Path(executable)
    return None


def hatch_command() -> list[str]:
    """Hatch of this interpreter, else the one on PATH."""
    if importlib.util.find_spec("hatch"):
        return [sys.executable, "-m", "hatch"]
    if found := shutil.which("hatch"):
        return [found]
    sys.exit("hatch is not installed. Run the first command of README.md, then .venv/bin/python this file.")


def main() -> int:
    """Run what is there, name what is not."""
    parser = argparse.ArgumentParser(description="Run all tests with every supported Python that is here.")
    parser.add_argument("--except", dest="left_out", action="append", default=[], metavar="VERSION")
    options, pytest_arguments = parser.parse_known_args()

    outcome: dict[str, str] = {}
    for version in supported_versions():
        if version in options.left_out:
            outcome[version] = "left out, as asked"
            continue
        interpreter = find_interpreter(version, candidates(version, dict(os.environ)))
        if interpreter is None:
            outcome[version] = "not on this machine"
            continue
        print(f"== Python {version}: {interpreter}", flush=True)
        # Hatch takes the first interpreter of the right version on PATH.
        environ = os.environ | {"PATH": f"{interpreter.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        run = subprocess.run(
            [*hatch_command(), "run", f"matrix.py{version}:thorough", *pytest_arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
        )
        outcome[version] = "passed" if run.returncode == 0 else f"FAILED (status {run.returncode})"

    print("== Python matrix")
    for version, text in outcome.items():
        print(f"   {version}: {text}")
    return int(any(text.startswith("FAILED") for text in outcome.values()))


if __name__ == "__main__":
    sys.exit(main())
