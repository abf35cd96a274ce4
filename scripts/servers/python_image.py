"""Root file systems of this machine's Python, for images that no registry has to give.

The layers that seldom change are kept in `.servers/`.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from distributions import Distribution, distribution
from servers import archive as archives
from servers import interpreter as interpreters
from servers.archive import Archive
from servers.fetching import fetched, program, run
from servers.interpreter import Interpreter

__all__ = ["apps_layers", "python_layers", "root_layer"]

_IMAGE = "openfactory-apps"
_EXTRAS = ("fanout", "fastapi", "flask", "storage")
_FOLDERS = ("bin", "dev", "etc", "home", "proc", "root", "run", "sbin", "sys", "usr/bin", "usr/sbin", "var/tmp")
_FILES = {
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\n",
}
_SKIPPED = {"dist-packages", "ensurepip", "idlelib", "site-packages", "test", "tests", "tkinter", "turtledemo"}


def apps_layers() -> list[Path | bytes]:
    """Layers with the distributions of this workspace, what they need, and the command `ofa`.

    Raises:
        NotOnThisMachineError: something could not be had.
    """
    python = Interpreter.of()
    members = list(_members(_IMAGE, _EXTRAS))
    needed = sorted({text for member, extras in members for text in _foreign(member, extras)})
    name = f"apps-packages-{_hash(python.full_version, *needed)}.tar"
    own = io.BytesIO()
    with Archive(own, python.cache_tag) as archive:
        for member in {member.name: member for member, _ in members}.values():
            _add_distribution(archive, member, python)
        archive.add_command("ofa", "openfactory.apps.cli")
    packages = fetched(name, lambda path: _write_packages(path, python, needed))
    return [root_layer(python), packages, own.getvalue()]


def python_layers(python: Interpreter) -> list[Path | bytes]:
    """Layers with pip, which finds what the distributions of this workspace need in them, and needs no network.

    Raises:
        NotOnThisMachineError: something could not be had.
    """
    needed = {text for member, extras in _members(_IMAGE, _EXTRAS) for text in _foreign(member, extras)}
    needed |= {text for member, _ in _members(_IMAGE, _EXTRAS) for text in member.pyproject["build-system"]["requires"]}
    name = f"apps-wheels-{_hash(python.full_version, *sorted(needed))}.tar"
    return [root_layer(python), fetched(name, lambda path: _write_wheels(path, python, sorted(needed)))]


def _hash(*texts: str) -> str:
    sources = [Path(__file__), Path(archives.__file__), Path(interpreters.__file__)]
    parts = [*(path.read_text(encoding="utf-8") for path in sources), *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _members(name: str, extras: Iterable[str]) -> Iterator[tuple[Distribution, tuple[str, ...]]]:
    """Yield a distribution and those of this workspace that it needs, each with the extras that are wanted."""
    member = distribution(name)
    yield member, tuple(extras)
    for text in _requirements(member, extras):
        needed, wanted = _name_and_extras(text)
        if needed.startswith("openfactory-"):
            yield from _members(needed, wanted)


def _requirements(member: Distribution, extras: Iterable[str]) -> list[str]:
    optional = member.project.get("optional-dependencies", {})
    return [*member.project.get("dependencies", []), *(text for extra in extras for text in optional[extra])]


def _foreign(member: Distribution, extras: Iterable[str]) -> list[str]:
    return [text for text in _requirements(member, extras) if not text.startswith("openfactory-")]


def _name_and_extras(text: str) -> tuple[str, list[str]]:
    found = re.match(r"([\w.-]+)\s*(?:\[([^\]]*)\])?", text)
    assert found is not None
    return found[1], [word.strip() for word in (found[2] or "").split(",") if word.strip()]


def root_layer(python: Interpreter) -> Path:
    """The layer with Python, pip and the programs of busybox.

    Raises:
        NotOnThisMachineError: something could not be had.
    """
    return fetched(f"python-root-{_hash(python.full_version)}.tar", lambda path: _write_root(path, python))


def _write_root(path: Path, python: Interpreter) -> None:
    busybox = program("busybox", "busybox-static")
    useradd = Path(program("useradd", "passwd"))
    with path.open("wb") as file, Archive(file, python.cache_tag) as archive:
        for folder in _FOLDERS:
            archive.add_folder(folder)
        archive.add_folder("tmp", mode=0o1777)
        for name, text in _FILES.items():
            archive.add_bytes(name, text.encode(), mode=0o640 if name == "etc/shadow" else 0o644)
        archive.add(python.path, f"usr/local/bin/python{python.version}")
        for link in ("python", "python3"):
            archive.add_link(f"usr/local/bin/{link}", f"python{python.version}")
        libraries = archive.add_tree(python.stdlib, python.folder, _SKIPPED)
        for wheel in python.bundled:
            with zipfile.ZipFile(wheel) as content:
                for name in content.namelist():
                    archive.add_bytes(f"{python.packages}/{name}", content.read(name))
        archive.add_command("pip", "pip._internal.cli.main")
        archive.add(Path(busybox).resolve(), "bin/busybox")
        archive.add(useradd.resolve(), "usr/sbin/useradd")
        for applet in run(busybox, "--list").split():
            if applet != "busybox":
                archive.add_link(f"bin/{applet}", "busybox")
        archive.add_libraries_of([python.path, useradd, *libraries])


def _write_packages(path: Path, python: Interpreter, needed: list[str]) -> None:
    # The environments of hatch have no pip of their own, but name the uv that made them.
    uv = os.environ.get("HATCH_UV")
    pip = (uv, "pip", "install", "--compile-bytecode") if uv else (python.path, "-m", "pip", "install")
    chosen = ("--python", python.path) if uv else ()
    with _folder_beside(path) as folder, path.open("wb") as file:
        run(*pip, "--quiet", *chosen, "--target", folder, *needed)
        with Archive(file, python.cache_tag) as archive:
            archive.add_libraries_of(archive.add_tree(folder, python.packages, {"bin", "tests"}))


def _write_wheels(path: Path, python: Interpreter, needed: list[str]) -> None:
    with _folder_beside(path) as folder, path.open("wb") as file:
        run(python.path, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, *needed)
        with Archive(file, python.cache_tag) as archive:
            archive.add_tree(folder, "wheelhouse", set())
            archive.add_bytes("etc/pip.conf", b"[global]\nno-index = true\nfind-links = /wheelhouse\n")


@contextmanager
def _folder_beside(path: Path) -> Generator[Path]:
    folder = path.with_suffix(".folder")
    rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def _add_distribution(archive: Archive, member: Distribution, python: Interpreter) -> None:
    """Add the modules of a distribution, compiled as far as they were imported here, and what an installer notes."""
    packages = python.packages
    archive.add_tree(member.source, f"{packages}/{member.source.name}", set())
    notes = f"{packages}/{member.name.replace('-', '_')}-{member.version}.dist-info"
    archive.add_bytes(
        f"{notes}/METADATA", f"Metadata-Version: 2.1\nName: {member.name}\nVersion: {member.version}\n".encode()
    )
    lines = [
        line
        for group, points in member.project.get("entry-points", {}).items()
        for line in (f"[{group}]", *(f"{name} = {point}" for name, point in points.items()))
    ]
    archive.add_bytes(f"{notes}/entry_points.txt", ("\n".join(lines) + "\n").encode())
