"""Programs that come as distributions of Python, each in one version whose hashes a file beside this one has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from servers.fetching import fetched, run

__all__ = ["docker_compose", "traefik"]

_HERE = Path(__file__).parent


def traefik() -> Path:
    """The program of Traefik.

    Raises:
        NotOnThisMachineError: it could not be fetched.
    """
    return _installed("traefik") / "bin" / "traefik"


def docker_compose() -> Path:
    """The program of Docker Compose, which needs no Docker to check a file.

    Raises:
        NotOnThisMachineError: it could not be fetched.
    """
    return _installed("compose") / "compose" / "docker-compose"


def _installed(name: str) -> Path:
    requirement = _HERE / f"{name}.txt"
    version = requirement.read_text(encoding="utf-8").partition("==")[2].split()[0]

    def install(folder: Path) -> None:
        # The environments of hatch have no pip of their own, but name the uv that made them.
        uv = os.environ.get("HATCH_UV")
        pip = (uv, "pip") if uv else (sys.executable, "-m", "pip")
        options = ("--quiet", "--no-deps", "--require-hashes")
        run(*pip, "install", *options, "--target", folder, "--requirement", requirement)

    return fetched(f"{name}-{version}", install)
