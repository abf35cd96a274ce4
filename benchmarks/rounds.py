"""Rounds that alternate between what is measured and its bare equivalent, and the ratio that comes of them."""

from __future__ import annotations

import gc
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Figure", "Pair", "alternate", "figure_of", "percentile"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a ratio has to be.

    >>> Bar(at_least=0.3).met(0.4), Bar(at_most=1.5).met(1.6), str(Bar(at_most=1.5))
    (True, False, '<= 1.5')
    """

    at_least: float | None = None
    at_most: float | None = None

    def met(self, ratio: float) -> bool:
        """Whether a ratio is on the right side."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= ratio <= high

    def __str__(self) -> str:
        if self.at_least == self.at_most:
            return f"= {self.at_least:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


@dataclass(frozen=True, slots=True)
class Pair:
    """What one round measured: ours, and the bare equivalent just after it."""

    ours: float
    bare: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the report.

    Attributes:
        name: what is compared with what.
        unit: of `ours` and `bare`.
        ours: the median of the rounds.
        bare: the same of the bare equivalent.
        ratio: the median of the ratios of each round, so that a drift of the machine cancels out.
        spread: the least and the greatest of those ratios.
        rounds: how many there were.
        bar: what the ratio has to be, or None where it is only reported.
        notes: what else is worth knowing.
    """

    name: str
    unit: str
    ours: float
    bare: float
    ratio: float
    spread: tuple[float, float]
    rounds: int
    bar: Bar | None = None
    notes: tuple[str, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        return None if self.bar is None else self.bar.met(self.ratio)


def alternate(rounds: int, name: str, ours: Callable[[], float], *bare: Callable[[], float]) -> list[list[Pair]]:
    """Measure A B A B …, after a round that warms up and does not count.

    Returns:
        for each bare equivalent, the pairs of its rounds.
    """
    pairs: list[list[Pair]] = [[] for _ in bare]
    for number in range(rounds + 1):
        _show(f"{name}: round {number} of {rounds}")
        gc.collect()
        mine = ours()
        for list_of_pairs, measure in zip(pairs, bare, strict=True):
            gc.collect()
            list_of_pairs.append(Pair(mine, measure()))
    _show("")
    return [list_of_pairs[1:] for list_of_pairs in pairs]


def _show(progress: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{progress:60}\r", end="", file=sys.stderr, flush=True)


def figure_of(name: str, unit: str, pairs: Sequence[Pair], bar: Bar | None = None, notes: Sequence[str] = ()) -> Figure:
    """The medians of some rounds."""
    ratios = [pair.ours / pair.bare for pair in pairs]
    return Figure(
        name,
        unit,
        ours=statistics.median(pair.ours for pair in pairs),
        bare=statistics.median(pair.bare for pair in pairs),
        ratio=statistics.median(ratios),
        spread=(min(ratios), max(ratios)),
        rounds=len(pairs),
        bar=bar,
        notes=tuple(notes),
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed.

    >>> percentile([4, 1, 3, 2], 50), percentile([4, 1, 3, 2], 99)
    (2, 4)
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
