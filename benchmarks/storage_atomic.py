"""How fast a file is replaced so that nobody sees a part of it, against the same by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from rounds import Figure, alternate, figure_of
from storage_files import SMALL, local_storage

__all__ = ["measure_atomic"]

REPLACEMENTS = 100


def measure_atomic(rounds: int) -> list[Figure]:
    """`write_atomic` of 1 KiB, against a file beside it that is written, synced and renamed."""
    with local_storage() as storage:
        root = Path(str(storage.root))

        def ours() -> float:
            return _rate(lambda: storage.write_atomic("state.bin", SMALL))

        def by_hand() -> float:
            return _rate(lambda: _replace(root / "state.bin", SMALL))

        def unsafe() -> float:
            return _rate(lambda: storage.write_bytes("state.bin", SMALL))

        against_hand, against_unsafe = alternate(rounds, "atomic", ours, by_hand, unsafe)
    note = "write_atomic also syncs the folder, so that the new name survives a power cut"
    return [
        figure_of("1 KiB, write_atomic / write, fsync and replace by hand", "files/s", against_hand, notes=[note]),
        figure_of("1 KiB, write_atomic / write_bytes", "files/s", against_unsafe),
    ]


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _rate(replace: Callable[[], None]) -> float:
    started = time.perf_counter()
    for _ in range(REPLACEMENTS):
        replace()
    return REPLACEMENTS / (time.perf_counter() - started)
