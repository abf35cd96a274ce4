"""What an `fsspec` storage costs on top of its filesystem, where that does next to nothing: in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Any

import msgspec
from fsspec.implementations.memory import MemoryFileSystem
from rounds import Figure, alternate, figure_of
from storage_files import SMALL

from openfactory.storage import storage_from_environment

__all__ = ["measure_memory"]

FILES = 1_000


def measure_memory(rounds: int) -> list[Figure]:
    """Files of 1 KiB in memory, written and read."""
    settings = {"type": "fsspec", "url": "memory://openfactory-bench"}
    storage = storage_from_environment(msgspec.json.encode(settings).decode())
    assert storage is not None
    names = [f"{number}.csv" for number in range(FILES)]
    bare_names = [f"/openfactory-bench/{name}" for name in names]
    bare = MemoryFileSystem()

    def written(open_file: Callable[..., IO[Any]], paths: list[str]) -> float:
        return _rate(open_file, paths, "wb", lambda file: file.write(SMALL))

    def read(open_file: Callable[..., IO[Any]], paths: list[str]) -> float:
        return _rate(open_file, paths, "rb", lambda file: file.read())

    try:
        (writes,) = alternate(
            rounds, "memory, write", lambda: written(storage.open, names), lambda: written(bare.open, bare_names)
        )
        (reads,) = alternate(
            rounds, "memory, read", lambda: read(storage.open, names), lambda: read(bare.open, bare_names)
        )
    finally:
        bare.rm("/openfactory-bench", recursive=True)
    return [
        figure_of("1 KiB in memory, write: storage / fsspec", "files/s", writes),
        figure_of("1 KiB in memory, read: storage / fsspec", "files/s", reads),
    ]


def _rate(open_file: Callable[..., IO[Any]], paths: list[str], mode: str, use: Callable[[IO[bytes]], object]) -> float:
    started = time.perf_counter()
    for path in paths:
        with open_file(path, mode) as file:
            use(file)
    return len(paths) / (time.perf_counter() - started)
