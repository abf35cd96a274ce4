"""A folder with two apps, and the commands of `ofa apps` in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ofa_apps import OFA_APPS, clean_environment
from plain_target import APP

__all__ = ["SAW", "Hall", "hall_in"]

PRESS = """\
apps:
  press:
    uuid: PRESS
    file: press.py
    environment: [WAY={way}]
    update: {{monitor: 300ms}}
"""
SAW = """\
apps:
  saw:
    uuid: SAW
    file: press.py
    depends_on: [press]
"""


class Hall:
    """A folder with two apps, and the commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "press.py").write_text(APP)
        self.write("x")
        (folder / "app_saw.yml").write_text(SAW)
        self.environment = clean_environment()

    def write(self, way: str) -> None:
        """Write the file of the press, which behaves in a way."""
        (self.folder / "app_press.yml").write_text(PRESS.format(way=way))

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start `ofa apps` with arguments. What still runs at the end of the block is killed."""
        command = [*OFA_APPS, *arguments]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def ofa(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Run `ofa apps` with arguments, and return its output and its messages."""
        with self.start(*arguments) as process:
            output, messages = process.communicate(timeout=120)
        assert process.returncode == status, (output, messages)
        assert "Traceback" not in messages, messages
        return output, messages

    def json(self, *arguments: str, status: int = 0) -> Any:
        """Run `ofa apps` with arguments and --json."""
        return json.loads(self.ofa(*arguments, "--json", status=status)[0])

    def outcomes(self, *arguments: str, status: int = 0) -> dict[str, str]:
        """Return the outcome of each asset."""
        return {result["uuid"]: result["outcome"] for result in self.json(*arguments, status=status)["results"]}

    def listed(self) -> dict[str, dict[str, Any]]:
        """Return the rows of `ofa apps ls`."""
        return {row["uuid"]: row for row in self.json("ls")}


@contextmanager
def hall_in(folder: Path) -> Iterator[Hall]:
    """Yield the apps in a new folder. At the end of the block, they are taken down."""
    folder.mkdir()
    hall = Hall(folder)
    try:
        yield hall
    finally:
        with hall.start("down", "--now") as process:
            process.communicate(timeout=120)
