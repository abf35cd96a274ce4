"""Benchmarks of storage: every figure is a ratio against a bare equivalent in the same run.

hatch run bench:storage                       all of them, 10 rounds each
hatch run bench:storage --only small          one: small, large, atomic, memory
hatch run bench:storage --json                for a program to read
hatch run bench:storage --check               exit status 1 where a bar is missed
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from report import options, report
from rounds import Figure
from storage_atomic import measure_atomic
from storage_files import measure_large, measure_small
from storage_memory import measure_memory

BENCHMARKS: dict[str, Callable[[int], list[Figure]]] = {
    "small": measure_small,
    "large": measure_large,
    "atomic": measure_atomic,
    "memory": measure_memory,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and say whether all bars are met."""
    asked = options(arguments, "Benchmarks of storage, as ratios against bare equivalents.", names=BENCHMARKS)
    return report(asked, f"fsspec {version('fsspec')}", lambda name, rounds: BENCHMARKS[name](rounds))


if __name__ == "__main__":
    sys.exit(main())
