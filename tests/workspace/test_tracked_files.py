"""What must not stand in any file of the project: hosts of package registries, and paths of one machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from distributions import ROOT

# Put together from pieces, so that this file does not match itself.
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(pieces))
        for pieces in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("crates", "io"),
            ("maven", "org"),
            ("proxy", "golang", "org"),
        )
    )
)
MACHINE_PATHS = re.compile("(?<![A-Za-z0-9_.-])/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me")) + ")/")
FOLDERS = (".ci", ".github", "benchmarks", "docs", "examples", "packages", "scripts", "tests")


def project_files() -> list[Path]:
    """Every file that git has, or would have with the next `git add`."""
    # A clone may belong to somebody else than the one who runs the tests, as in many CI containers.
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in found.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def findings(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in project_files():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [f"{path}:{number}: {line}" for number, line in enumerate(lines, 1) if pattern.search(line)]
    return found


def test_the_files_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in project_files()}
    assert {"pyproject.toml", "README.md", ".ci/run", "packages/openfactory-core/pyproject.toml"} <= names


def test_no_registry_is_named() -> None:
    # Where packages come from is set on the machine, and differs between machines.
    assert findings(REGISTRIES) == []


def test_no_path_of_a_machine_is_named() -> None:
    assert findings(MACHINE_PATHS) == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRIES, "https://" + "pypi" + ".org/simple"),
        (MACHINE_PATHS, "see /ho" + "me/somebody/notes.txt"),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)
