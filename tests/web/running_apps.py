"""Apps with web pages as their users run them: a file, started by python, on a free port of this machine."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

Eventually = Callable[..., None]


class Answer(NamedTuple):
    """What came back for a request."""

    status: int
    text: str
    headers: dict[str, str]


def ask(port: int, path: str, **headers: str) -> Answer:
    """Request a page of a server on this machine."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()})


async def until(condition: Callable[[], object]) -> None:
    """Wait in an event loop until a condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class RunningApp:
    """An app in a process of its own."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    eventually: Eventually
    _port: list[int] = field(default_factory=list)

    @property
    def log(self) -> str:
        return self.err.read_text()

    @property
    def port(self) -> int:
        """The port it serves on, as soon as it does."""
        if not self._port:
            self.eventually(lambda: "Serving on " in self.log or self.process.poll() is not None)
            found = re.search(r"Serving on http://127\.0\.0\.1:(\d+)", self.log)
            assert found, self.log
            self._port.append(int(found[1]))
        return self._port[0]

    def ask(self, path: str = "/", **headers: str) -> Answer:
        """GET a page; `X_Forwarded_For="…"` is the header X-Forwarded-For."""
        return ask(self.port, path, **headers)

    def refuses(self) -> bool:
        """Whether nobody listens there any more."""
        try:
            self.ask()
        except ConnectionError:
            return True
        return False

    def ends(self, timeout: float = 120) -> int:
        """Its exit status."""
        return self.process.wait(timeout)


StartApp = Callable[..., RunningApp]


@pytest.fixture
def start_app(tmp_path: Path, file_url: str, eventually: Eventually) -> Iterator[StartApp]:
    """Start `main.py` as a process: `start_app(source, {"routes/root.py": …}, PORT="…")`."""
    apps: list[RunningApp] = []

    def start(source: str, files: dict[str, str] | None = None, **environment: str) -> RunningApp:
        for name, text in {"main.py": source, **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(text))
        out, err = tmp_path / "out.txt", tmp_path / "err.txt"
        settings = {"KSQLDB_URL": file_url, "APP_UUID": "PANEL", "PORT": "0", **environment}
        with out.open("wb") as stdout, err.open("wb") as stderr:
            command = [sys.executable, "-W", "error", str(tmp_path / "main.py")]
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, **settings})
        apps.append(RunningApp(process, out, err, eventually))
        return apps[-1]

    yield start
    for app in apps:
        app.process.kill()
        app.process.wait()
