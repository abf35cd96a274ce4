"""A Python of this machine, and the places of its files in an image."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

from servers.fetching import run

__all__ = ["Interpreter"]

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
