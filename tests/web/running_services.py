"""The services as their users run them: `ofa fanout …` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from running_apps import Eventually, RunningApp

#: The command, after the name of the Python and its options.
FANOUT = ("-m", "openfactory.apps.cli", "fanout")

StartService = Callable[..., RunningApp]


@pytest.fixture
def start_service(tmp_path: Path, eventually: Eventually) -> Iterator[StartService]:
    """Start a service: `start_service("router", "--port", "0", NATS_CLUSTER_C1="…")`."""
    services: list[RunningApp] = []

    def start(*arguments: str, **environment: str) -> RunningApp:
        out, err = (tmp_path / f"{len(services)}.{name}" for name in ("out", "err"))
        command = [sys.executable, "-W", "error", *FANOUT, *arguments]
        settings = {"OPENFACTORY_HOST": "127.0.0.1", **environment}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env={**os.environ, **settings}
            )
        services.append(RunningApp(process, out, err, eventually))
        return services[-1]

    yield start
    for service in services:
        service.process.kill()
        service.process.wait()
