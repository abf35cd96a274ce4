"""Root file systems of this machine's Python, for images that no registry has to give.

The layers that seldom change are kept in `.servers/`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from distributions import Distribution, distribution
from servers.fetching import fetched, program, run

__all__ = ["Archive", "Interpreter", "apps_layers", "python_layers", "root_layer"]

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
# Libraries beside those that programs name: for names of hosts, and those that every wheel of Linux may expect.
_MORE_LIBRARIES = (
    *("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"),
    *("libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1", "libstdc++.so.6", "libutil.so.1"),
)
_QUESTION = """
import glob, json, os, sys, sysconfig
here = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
stdlib = sysconfig.get_path("stdlib")
bundled = glob.glob(os.path.join(stdlib, "ensurepip", "_bundled", "pip-*.whl"))
print(json.dumps([here, "%d.%d" % sys.version_info[:2], sys.version, sys.implementation.cache_tag, stdlib, bundled]))
"""


class Interpreter(NamedTuple):
    """A Python of this machine."""

    path: Path
    version: str
    full_version: str
    cache_tag: str
    stdlib: Path
    bundled: list[str]

    @classmethod
    def of(cls, python: str | Path = sys.executable) -> Interpreter:
        """What a Python says of itself, or of that from which its environment was made."""
        path, version, full_version, cache_tag, stdlib, bundled = json.loads(run(python, "-c", _QUESTION))
        return cls(Path(path), version, full_version, cache_tag, Path(stdlib), bundled)

    @property
    def folder(self) -> str:
        """Where its library is in an image."""
        return f"usr/local/lib/python{self.version}"

    @property
    def packages(self) -> str:
        """Where its packages are in an image."""
        return f"{self.folder}/site-packages"


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
    with Archive(own, python) as archive:
        for member in {member.name: member for member, _ in members}.values():
            _add_distribution(archive, member)
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
    return hashlib.sha256("\0".join([Path(__file__).read_text(encoding="utf-8"), *texts]).encode()).hexdigest()[:12]


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
    with path.open("wb") as file, Archive(file, python) as archive:
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
        with Archive(file, python) as archive:
            archive.add_libraries_of(archive.add_tree(folder, python.packages, {"bin", "tests"}))


def _write_wheels(path: Path, python: Interpreter, needed: list[str]) -> None:
    with _folder_beside(path) as folder, path.open("wb") as file:
        run(python.path, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, *needed)
        with Archive(file, python) as archive:
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


def _add_distribution(archive: Archive, member: Distribution) -> None:
    """Add the modules of a distribution, compiled as far as they were imported here, and what an installer notes."""
    packages = archive.python.packages
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


class Archive:
    """An archive of a file system that belongs to root, with each folder before what is in it."""

    def __init__(self, file: BinaryIO, python: Interpreter) -> None:
        self.python = python
        self._archive = tarfile.TarFile(fileobj=file, mode="w")
        self._folders = {"."}
        self._files: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def add(self, path: Path, name: str) -> None:
        """Add a file or a link, once: an engine refuses a name that comes twice."""
        if name in self._files:
            return
        self._files.add(name)
        info = self._archive.gettarinfo(str(path), arcname=name)
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        self._add_parent(name)
        if info.issym():
            self._archive.addfile(info)
            return
        info.type, info.size = tarfile.REGTYPE, path.stat().st_size
        info.mode |= 0o444
        with path.open("rb") as file:
            self._archive.addfile(info, file)

    def add_bytes(self, name: str, content: bytes, mode: int = 0o644) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), mode
        self._add_parent(name)
        self._archive.addfile(info, io.BytesIO(content))

    def add_command(self, name: str, module: str) -> None:
        start = f"#!/usr/local/bin/python3\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
        self.add_bytes(f"usr/local/bin/{name}", start.encode(), mode=0o755)

    def add_folder(self, name: str, mode: int = 0o755) -> None:
        self._add_parent(name)
        self._folders.add(name)
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self._archive.addfile(info)

    def add_link(self, name: str, to: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, to
        self._add_parent(name)
        self._archive.addfile(info)

    def add_tree(self, source: Path, name: str, skipped: set[str]) -> list[Path]:
        """Add a folder, without what no program of an image needs; return its shared libraries."""
        libraries = []
        for folder, folders, files in os.walk(source):
            folders[:] = sorted(entry for entry in folders if entry not in skipped and not entry.startswith("config-"))
            for entry in sorted(files):
                path = Path(folder, entry)
                compiled_for_others = path.suffix == ".pyc" and not entry.endswith(f".{self.python.cache_tag}.pyc")
                if path.suffix == ".a" or compiled_for_others:
                    continue
                self.add(path, f"{name}/{path.relative_to(source).as_posix()}")
                if path.suffix == ".so" or ".so." in entry:
                    libraries.append(path)
        return libraries

    def add_libraries_of(self, programs: list[Path]) -> None:
        """Add the libraries of the machine that programs need."""
        said = run("sh", "-c", 'ldd "$@" 2>/dev/null || true', "ldd", *programs)
        found = {Path(os.path.normpath(name)) for name in re.findall(r"(?:=> |^\s)(/\S+) \(0x", said, re.MULTILINE)}
        for libc in [path for path in found if path.name == "libc.so.6"]:
            found |= {path for name in _MORE_LIBRARIES if (path := libc.with_name(name)).exists()}
        own = {path.parent for path in programs if path.name.endswith(".so")}
        for library in sorted(found):
            if library.parent not in own and ".libs/" not in str(library):
                self.add(library.resolve(), library.as_posix().lstrip("/"))

    def _add_parent(self, name: str) -> None:
        parent = os.path.dirname(name) or "."
        if parent not in self._folders:
            self.add_folder(parent)
