"""Archives of file systems, from files of this machine."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from servers.fetching import run

__all__ = ["Archive"]

# Libraries beside those that programs name: for names of hosts, and those that every wheel of Linux may expect.
_MORE_LIBRARIES = (
    *("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"),
    *("libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1", "libstdc++.so.6", "libutil.so.1"),
)


class Archive:
    """An archive of a file system that belongs to root, with each folder before what is in it.

    Args:
        file: where it is written.
        cache_tag: which compiled modules of a folder it takes, `cpython-311` say.
    """

    def __init__(self, file: BinaryIO, cache_tag: str = "") -> None:
        self._cache_tag = cache_tag
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
                compiled_for_others = path.suffix == ".pyc" and not entry.endswith(f".{self._cache_tag}.pyc")
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
