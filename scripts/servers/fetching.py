"""What servers consist of: fetched once a checkout, into a folder that git leaves alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from distributions import ROOT

__all__ = ["CACHE", "NotOnThisMachineError", "fetched", "go_beside", "program", "run"]

CACHE = ROOT / ".servers"

# Where packages put programs that the PATH of a plain user may lack.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/go/bin")


class NotOnThisMachineError(RuntimeError):
    """The machine lacks what a server needs; the text says how to get it."""


def program(name: str, package: str, *other_names: str) -> str:
    """The path of a program.

    Args:
        package: the package of Debian and Ubuntu that has it.
        other_names: what does as well.

    Raises:
        NotOnThisMachineError: it is not installed.
    """
    folders = os.pathsep.join((os.environ.get("PATH", ""), *_MORE_FOLDERS))
    for known in (name, *other_names):
        if found := shutil.which(known, path=folders):
            return found
    raise NotOnThisMachineError(f"{name} is not installed. Install it: apt-get install {package}")


def run(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 600.0,
) -> str:
    """What a command says, once it has ended well.

    Args:
        environment: more variables than this process has.
        folder: where it runs.

    Raises:
        NotOnThisMachineError: it failed, or did not end in time.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise NotOnThisMachineError(f"`{' '.join(words)}` did not end in {timeout:g} s. Try it by hand.") from error
    if done.returncode:
        raise NotOnThisMachineError(
            f"`{' '.join(words)}` failed with status {done.returncode}. Is there a network? It said:\n"
            f"{done.stdout[-2000:]}"
        )
    return done.stdout


def fetched(name: str, fetch: Callable[[Path], None]) -> Path:
    """A folder or file of the cache; the first process that asks makes it, others wait until it is there.

    Args:
        fetch: makes it, at the path it is given; what it leaves there counts only when it returns.
    """
    there = CACHE / name
    if there.exists():
        return there
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not there.exists():
            partial = CACHE / f"{name}.partial"
            _remove(partial)  # of a fetch that was interrupted
            try:
                fetch(partial)
                partial.rename(there)
            finally:
                _remove(partial)
    return there


class Go(NamedTuple):
    """The go command, in a folder of its own."""

    folder: Path

    def run(self, *arguments: str | Path, timeout: float = 600.0) -> None:
        """Run it there: what it keeps, it keeps there. Where modules come from is set on the machine.

        Raises:
            NotOnThisMachineError: there is no Go, or it failed.
        """
        run(
            *(program("go", "golang-go"), *arguments),
            environment={
                "GOPATH": str(self.folder),
                "GOBIN": str(self.folder / "bin"),
                "GOCACHE": str(self.folder / "cache"),
                "GOMODCACHE": str(self.folder / "modules"),
            },
            folder=self.folder,
            timeout=timeout,
        )


@contextmanager
def go_beside(binary: Path) -> Generator[Go]:
    """Go in a folder beside what it is to build: nothing is left of it."""
    folder = binary.with_name(f"{binary.name}.go")
    _remove(folder)  # of a build that was interrupted
    folder.mkdir()
    try:
        yield Go(folder)
    finally:
        _remove(folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
