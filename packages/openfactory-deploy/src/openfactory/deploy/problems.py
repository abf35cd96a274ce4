"""Problems of the files of apps, each with its place and its remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from openfactory.exceptions import ConfigurationError

__all__ = ["InvalidFilesError", "Place", "Problem"]


class Place(msgspec.Struct, frozen=True, order=True):
    """A line of a file, or the file as a whole.

    Attributes:
        file: path of the file.
        line: number of the line, from 1; 0 for the file as a whole.
    """

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else str(self.file)


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong in a file, with its remedy.

    Attributes:
        place: the line with the wrong key or value.
        path: the keys that lead to it, such as `apps.mill.routing.port`; empty for the file as a whole.
        text: the problem and its remedy, in whole sentences.
    """

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.path, self.text) if part)


class InvalidFilesError(ConfigurationError):
    """All problems of all files, found before anything starts.

    Attributes:
        problems: the problems, in the order of files and lines, each once.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda problem: (problem.place, problem.path, problem.text)))
        super().__init__("\n".join(map(str, self.problems)))
