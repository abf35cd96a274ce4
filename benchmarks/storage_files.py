"""How fast files of a `local` storage are opened, read and written, against bare fsspec and the bare `open`.

Bare fsspec is its LocalFileSystem, called with absolute paths: it checks none of them and makes no folder.

The files are in memory where the machine has a folder there, so that no disk hides what the code costs. A round takes
the fastest of several passes: whatever else the machine does only makes a pass slower.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem
from rounds import Bar, Figure, alternate, figure_of

from openfactory.storage import FileBackend, LocalBackend

__all__ = ["SMALL", "local_storage", "measure_large", "measure_small"]

SMALL = os.urandom(1024)
SMALL_FILES = 1_000
SMALL_PASSES = 8
PIECE = os.urandom(1024 * 1024)
PIECES = 100
LARGE_PASSES = 3

BAR = Bar(at_least=0.9)

_IN_MEMORY = Path("/dev/shm")


@contextmanager
def local_storage(in_memory: bool = False) -> Generator[FileBackend]:
    """A `local` storage in a folder of its own, which is gone at the end."""
    place = _IN_MEMORY if in_memory and os.access(_IN_MEMORY, os.W_OK) else None
    with TemporaryDirectory(prefix="openfactory-bench-", dir=place) as folder:
        settings = {"type": "local", "local_path": folder, "mount_point": "/mnt/openfactory-bench"}
        yield LocalBackend.from_config(settings)


class _Opener:
    """One of those that open files, and what it has in front of a path."""

    def __init__(self, open_file: Callable[..., IO[Any]], root: str = "") -> None:
        self._open = open_file
        self._root = root

    def seconds(self, paths: list[str], mode: str, use: Callable[[IO[Any]], object]) -> float:
        """How long it takes to open each file, use it and close it."""
        names = [self._root + path for path in paths]
        started = time.perf_counter()
        for name in names:
            with self._open(name, mode) as file:
                use(file)
        return time.perf_counter() - started


class _Contest:
    """A storage, bare fsspec and the bare `open`, all in one folder."""

    def __init__(self, storage: FileBackend, rounds: int) -> None:
        self._root = Path(str(storage.root))
        self._rounds = rounds
        self._new_folders = (f"new{number}" for number in count())
        bare = LocalFileSystem(skip_instance_cache=True)
        self._openers = (
            _Opener(storage.open),
            _Opener(bare.open, f"{self._root}/"),
            _Opener(open, f"{self._root}/"),
        )

    def figures(self, name: str, unit: str, amount: float, measure: Callable[[_Opener], float]) -> list[Figure]:
        """Storage against each of the others: how much of an amount each gets done in a second."""
        ours, *bare = (partial(lambda opener: amount / measure(opener), opener) for opener in self._openers)
        against_fsspec, against_open = alternate(self._rounds, name, ours, *bare)
        return [
            figure_of(f"{name}: storage / fsspec", unit, against_fsspec, BAR),
            figure_of(f"{name}: storage / bare open", unit, against_open),
        ]

    @contextmanager
    def new_folder(self) -> Generator[str]:
        """A folder with nothing in it, which is gone at the end."""
        name = next(self._new_folders)
        (self._root / name).mkdir()
        yield name
        shutil.rmtree(self._root / name)


def measure_small(rounds: int) -> list[Figure]:
    """Files of 1 KiB: opened, read, written in the place of another, written where none was."""
    with local_storage(in_memory=True) as storage:
        contest = _Contest(storage, rounds)
        paths = [f"small/{number}.csv" for number in range(SMALL_FILES)]
        for path in paths:
            storage.write_bytes(path, SMALL)

        def opened(by: _Opener) -> float:
            return min(by.seconds(paths, "rb", lambda _: None) for _ in range(SMALL_PASSES))

        def read(by: _Opener) -> float:
            return min(by.seconds(paths, "rb", lambda file: file.read()) for _ in range(SMALL_PASSES))

        def written(by: _Opener) -> float:
            return min(by.seconds(paths, "wb", lambda file: file.write(SMALL)) for _ in range(SMALL_PASSES))

        def made(by: _Opener) -> float:
            return min(made_once(by) for _ in range(SMALL_PASSES))

        def made_once(by: _Opener) -> float:
            with contest.new_folder() as folder:
                names = [f"{folder}/{number}.csv" for number in range(SMALL_FILES)]
                return by.seconds(names, "wb", lambda file: file.write(SMALL))

        return [
            *contest.figures("1 KiB, open", "files/s", SMALL_FILES, opened),
            *contest.figures("1 KiB, open and read", "files/s", SMALL_FILES, read),
            *contest.figures("1 KiB, open and write", "files/s", SMALL_FILES, written),
            *contest.figures("1 KiB, write a new file", "files/s", SMALL_FILES, made),
        ]


def measure_large(rounds: int) -> list[Figure]:
    """Files of 100 MB, in pieces of 1 MiB: read, and written where none was."""
    with local_storage(in_memory=True) as storage:
        contest = _Contest(storage, rounds)
        with storage.open("large.bin", "wb") as file:
            _write_pieces(file)

        def read(by: _Opener) -> float:
            return min(by.seconds(["large.bin"], "rb", _read_pieces) for _ in range(LARGE_PASSES))

        def made(by: _Opener) -> float:
            return min(made_once(by) for _ in range(LARGE_PASSES))

        def made_once(by: _Opener) -> float:
            with contest.new_folder() as folder:
                return by.seconds([f"{folder}/large.bin"], "wb", _write_pieces)

        megabytes = PIECES * len(PIECE) / 1e6
        return [
            *contest.figures("100 MB, read", "MB/s", megabytes, read),
            *contest.figures("100 MB, write", "MB/s", megabytes, made),
        ]


def _read_pieces(file: IO[bytes]) -> None:
    left = PIECES * len(PIECE)
    while piece := file.read(len(PIECE)):
        left -= len(piece)
    if left:
        raise AssertionError(f"{left} bytes of the file were not read.")


def _write_pieces(file: IO[bytes]) -> None:
    for _ in range(PIECES):
        file.write(PIECE)
