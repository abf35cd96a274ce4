"""Builds the distributions and tries what users would install. Run it in hatch's `wheels` environment.

    hatch run wheels:build [NAME…]     sdists and wheels into a clean dist/
    hatch run wheels:test [NAME…]      the same, then what an installation can break: the tests with the mark `smoke`
    hatch run wheels:thorough [NAME…]  the same, then all tests of each distribution

Each wheel is installed on each supported Python of this machine, into an environment that has only what the
distribution declares. With names, only those are built, and their siblings come from the package index: a release is
tested against what its users would get, and fails as long as a sibling it needs is not released.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from packaging.requirements import Requirement

from distributions import NAMESPACE, ROOT, Distribution, distribution, distributions
from python_matrix import candidates, find_interpreter, supported_versions

DIST = ROOT / "dist"


def _run(*command: str | Path, cwd: Path = ROOT) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, stdin=subprocess.DEVNULL)


def build(chosen: list[Distribution]) -> list[Path]:
    """Build sdists, and wheels out of the sdists, so that a file missing in an sdist is seen here."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    wheels = []
    for member in chosen:
        print(f"== {member.name} {member.version}", flush=True)
        _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", DIST, cwd=member.folder)
        stem = f"{member.name.replace('-', '_')}-{member.version}"
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(DIST / f"{stem}.tar.gz") as sdist:
                # Early 3.11 has no such filter, and later versions warn when none is chosen.
                sdist.extraction_filter = getattr(tarfile, "data_filter", None)
                sdist.extractall(folder)
            _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", DIST, cwd=Path(folder) / stem)
        wheel = wheel_of(member)
        if complaints := inspect(wheel, member):
            sys.exit("\n".join(complaints))
        wheels.append(wheel)
    return wheels


def inspect(wheel: Path, member: Distribution) -> list[str]:
    """What is wrong with the content of a wheel, one sentence each."""
    names = set(zipfile.ZipFile(wheel).namelist())
    complaints = []
    if f"{NAMESPACE}/__init__.py" in names:
        complaints.append(f"{wheel.name} holds {NAMESPACE}/__init__.py, which hides its siblings. Remove it.")
    for path in sorted(member.source.rglob("*")):
        inside = f"{NAMESPACE}/{path.relative_to(member.source).as_posix()}"
        if path.is_file() and "__pycache__" not in path.parts and inside not in names:
            complaints.append(f"{wheel.name} lacks {inside}. Look at the build targets of its pyproject.toml.")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        complaints.append(f"{wheel.name} lacks its LICENSE. Look at license-files in its pyproject.toml.")
    return complaints


def needed_by(member: Distribution, chosen: list[Distribution]) -> set[Path]:
    """The wheels of a distribution and of all chosen ones that it needs, by what they declare."""
    named = {Requirement(text).name for text in member.project["dependencies"]}
    siblings = [other for other in chosen if other.name in named]
    return {wheel_of(member)}.union(*(needed_by(sibling, chosen) for sibling in siblings))


def wheel_of(member: Distribution) -> Path:
    """The file in dist/ that a build of a distribution makes."""
    return DIST / f"{member.name.replace('-', '_')}-{member.version}-py3-none-any.whl"


def install(member: Distribution, chosen: list[Distribution], interpreter: Path, folder: Path) -> Path:
    """Install a wheel and what it needs into a new environment, with the tools of the tests; returns its Python."""
    uv = os.environ["HATCH_UV"]
    python = folder / "bin" / "python"
    _run(uv, "venv", "--quiet", "--python", interpreter, folder)
    wheels = sorted(needed_by(member, chosen))
    # A wheel of the same version may be in a cache, from an earlier build.
    fresh = [f"--refresh-package={sibling.name}" for sibling in chosen]
    _run(uv, "pip", "install", "--quiet", "--python", python, *fresh, "--group", "test", *wheels)
    _run(uv, "pip", "check", "--quiet", "--python", python)
    where = f"import importlib.util as u; print(u.find_spec('{NAMESPACE}.{member.children[0]}').origin)"
    origin = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True, cwd=DIST).stdout
    if "site-packages" not in origin:
        sys.exit(f"{member.name} comes from {origin.strip()}, not from the wheel. Is PYTHONPATH set? Unset it.")
    return python


def test(chosen: list[Distribution], *, whole: bool) -> None:
    """Run the tests of these distributions against their installed wheels, on every supported Python."""
    selection = ("-m", "") if whole else ("-n0", "-m", "smoke")
    for version in supported_versions():
        interpreter = find_interpreter(version, candidates(version, dict(os.environ)))
        if interpreter is None:
            print(f"== Python {version} is not on this machine", flush=True)
            continue
        for member in chosen:
            print(f"== {member.name} on Python {version}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                python = install(member, chosen, interpreter, Path(folder) / "environment")
                _run(python, "-m", "pytest", "-q", *selection, "tests/installed", f"tests/{member.short_name}")


def main() -> None:
    """Entry point of the hatch scripts."""
    parser = argparse.ArgumentParser(description="Build the distributions, and try their wheels.")
    parser.add_argument("step", choices=("build", "test"))
    parser.add_argument("names", nargs="*", help="only these distributions")
    parser.add_argument("--whole", action="store_true", help="run all tests of each distribution")
    options = parser.parse_args()
    chosen = [distribution(name) for name in options.names] or distributions()
    build(chosen)
    if options.step == "test":
        test(chosen, whole=options.whole)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except LookupError as error:
        sys.exit(str(error))
