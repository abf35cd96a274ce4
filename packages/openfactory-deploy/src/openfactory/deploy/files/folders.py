"""The files that paths name: each file, and the files `app_*.yml` and `app_*.yaml` of each folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from openfactory.deploy.problems import Place, Problem
from openfactory.exceptions import ConfigurationError
from openfactory.settings.redaction import redacted

__all__ = ["app_files", "local_path"]

# A drive of Windows has one letter.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

_PATTERNS = ("app_*.yml", "app_*.yaml")


def local_path(text: str) -> Path:
    """Return a path from its text; a `Path` that is made of an address such as `github://…` has lost a slash.

    Raises:
        ConfigurationError: the text is the address of a file elsewhere.
    """
    if _ADDRESS.match(text):
        raise ConfigurationError(
            f"{redacted(text)}: Only a file of this machine can be read. Fetch it, such as with git clone, and write "
            "its path."
        )
    return Path(text)


def app_files(paths: Sequence[Path]) -> tuple[list[Path], list[Problem]]:
    """Return the files that paths name, each once, and the problems of the paths.

    A folder is searched with all folders in it, except those whose name begins with a dot. A file that is named itself
    may have any name.
    """
    files: dict[Path, Path] = {}
    problems = []
    for path in paths:
        found = list(_in_folder(path)) if path.is_dir() else [path]
        if not found:
            text = "The folder has no files app_*.yml. Write one: `ofa apps init FILE.py` writes an example."
            problems.append(Problem(Place(path, 0), "", text))
        for file in found:
            files.setdefault(Path(os.path.realpath(file)), file)
    return list(files.values()), problems


def _in_folder(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder in the order of their paths."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if any(fnmatch(name, pattern) for pattern in _PATTERNS)]
    yield from sorted(found)
