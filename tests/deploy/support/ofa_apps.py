"""The commands of `ofa apps` as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openfactory.settings import VARIABLES

__all__ = ["OFA_APPS", "clean_environment", "ofa_apps"]

#: The words that begin each command.
OFA_APPS = (sys.executable, "-P", "-m", "openfactory.apps.cli", "apps")


def clean_environment(**variables: str) -> dict[str, str]:
    """Return an environment for commands: without settings of this machine, and with warnings as errors."""
    mine = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return {**mine, "PYTHONWARNINGS": "error", **variables}


def ofa_apps(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `ofa apps` with arguments and further variables to its end."""
    command = [*OFA_APPS, *map(str, arguments)]
    return subprocess.run(command, env=clean_environment(**variables), capture_output=True, text=True, timeout=300)
