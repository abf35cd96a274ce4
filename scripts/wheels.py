"""Builds the distributions and tests what users would install. Run it in hatch's `wheels` environment.

    hatch run wheels:build [NAME…]     sdists and wheels into a clean dist/
    hatch run wheels:test  [NAME…]     the same, then install the wheels and run their tests

With names, only those are built, and their siblings come from the package index: a release is tested
against what its users would get, and fails as long as a sibling it needs is not released.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from distributions import NAMESPACE, ROOT, Distribution, distribution, distributions

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
        wheel = DIST / f"{stem}-py3-none-any.whl"
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


def install(wheels: list[Path]) -> None:
    """Install these very files, also when the same version is there already, and what they need."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    installed = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout
    ours = [line.split("==")[0].split(" @ ")[0] for line in installed.splitlines()]
    # A sibling left by an earlier run must not stand in for one that this run should get.
    if stale := [name for name in ours if name.startswith(f"{NAMESPACE}-")]:
        _run(*pip, "uninstall", "--quiet", "--yes", *stale)
    _run(*pip, "install", "--quiet", *wheels)
    _run(*pip, "check")


def test(chosen: list[Distribution]) -> None:
    """Run the tests of these distributions against their installed wheels."""
    # Two pieces of evidence that the checkout is not what gets tested.
    for member in chosen:
        module = f"{NAMESPACE}.{member.children[0]}"
        where = f"import importlib.util as u; print(u.find_spec({module!r}).origin)"
        found = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, check=True, cwd=DIST)
        if "site-packages" not in found.stdout:
            sys.exit(f"{module} comes from {found.stdout.strip()}, not from the wheel. Rebuild the environment.")
    _run(sys.executable, "-m", "pytest", *(f"tests/{member.short_name}" for member in chosen))


def main(arguments: list[str]) -> None:
    """Entry point of the two hatch scripts."""
    if not arguments or arguments[0] not in ("build", "test"):
        sys.exit("Say what to do: wheels.py build [NAME…] or wheels.py test [NAME…]")
    chosen = [distribution(name) for name in arguments[1:]] or distributions()
    if arguments[0] == "build":
        build(chosen)
        return
    wheels = [DIST / f"{m.name.replace('-', '_')}-{m.version}-py3-none-any.whl" for m in chosen]
    if missing := [wheel.name for wheel in wheels if not wheel.exists()]:
        sys.exit(f"dist/ lacks {', '.join(missing)}. Build first: hatch run wheels:build")
    install(wheels)
    test(chosen)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except LookupError as error:
        sys.exit(str(error))
