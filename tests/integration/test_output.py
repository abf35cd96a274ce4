"""An app goes on and stops well whatever becomes of its standard output and error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from openfactory.assets.asset_class import Asset
from openfactory.kafka import KSQLDBClient

Eventually = Callable[..., None]

WORKER = Path(__file__).parent / "workers" / "stopping_app.py"
LAUNCH = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def mill(file_url: str) -> Iterator[Asset]:
    with KSQLDBClient(file_url) as client, Asset("MILL", client) as mill:
        yield mill


@contextmanager
def started(url: str, *command: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "KSQLDB_URL": url, "APP_UUID": "MILL", **options.pop("env", {})}
    process = subprocess.Popen(list(map(str, command)), env=environment, stdin=options.pop("stdin", -3), **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def goes_on(mill: Asset, lines: int = 30) -> bool:
    """Whether the app has printed so many lines, more than a buffer takes."""
    status = mill["status"].value
    return isinstance(status, int) and status >= lines


@pytest.mark.parametrize(
    ("what", "redirection", "variables"),
    [
        ("prints", ">/dev/full 2>/dev/full", {}),
        ("prints", ">/dev/full 2>/dev/full", {"PYTHONUNBUFFERED": "1"}),
        ("async_prints", ">/dev/full 2>/dev/full", {}),
        ("prints", ">&- 2>&-", {}),
        ("prints", ">/dev/null 2>/dev/null", {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_an_app_goes_on_when_its_output_takes_nothing(
    file_url: str, mill: Asset, eventually: Eventually, what: str, redirection: str, variables: dict[str, str]
) -> None:
    command = ["sh", "-c", f'exec "$0" "$@" {redirection}', sys.executable, WORKER, what]
    with started(file_url, *command, env=variables) as app:
        eventually(lambda: app.poll() is not None or goes_on(mill))
        app.send_signal(signal.SIGTERM)
        assert app.wait(60) == 0
    eventually(lambda: mill["avail"].value == "UNAVAILABLE")


def test_an_app_goes_on_when_the_reader_of_its_output_has_gone_away(
    file_url: str, mill: Asset, eventually: Eventually
) -> None:
    reader, writer = os.pipe()
    with started(file_url, sys.executable, WORKER, "prints", stdout=writer, stderr=writer) as app:
        os.close(writer)
        eventually(lambda: goes_on(mill, 3))
        os.close(reader)
        eventually(lambda: app.poll() is not None or goes_on(mill, 60))
        app.send_signal(signal.SIGTERM)
        assert app.wait(60) == 0


def test_the_log_tells_once_that_output_is_lost(
    file_url: str, mill: Asset, eventually: Eventually, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with (
        open("/dev/full", "wb") as full,
        log.open("wb") as errors,
        started(file_url, sys.executable, WORKER, "prints", stdout=full, stderr=errors) as app,
    ):
        eventually(lambda: app.poll() is not None or goes_on(mill))
        app.send_signal(signal.SIGTERM)
        assert app.wait(60) == 0
    told = "Standard output cannot be written: No space left on device. What is printed is lost."
    assert log.read_text(encoding="utf-8").count(told) == 1


def test_closing_the_terminal_stops_an_app(file_url: str, mill: Asset, eventually: Eventually) -> None:
    main, terminal = os.openpty()
    command = [sys.executable, "-c", LAUNCH, WORKER, "prints"]
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with started(file_url, *command, start_new_session=True, **streams) as app:
        os.close(terminal)
        eventually(lambda: goes_on(mill, 1))
        os.close(main)
        assert app.wait(60) == 0
    eventually(lambda: mill["avail"].value == "UNAVAILABLE")
