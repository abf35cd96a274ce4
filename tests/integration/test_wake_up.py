"""A write wakes the subscribers in other processes at once, wherever the file is and whoever was killed before."""

from __future__ import annotations

import json
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from app_processes import freeze
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start

# A subscriber looks by itself every 250 ms. Each ping here is sent when the one before has arrived, so without a
# wake-up each would take about as long as that.
AT_ONCE = 0.1


@pytest.fixture(params=[".sock", ".udp"])
def kind(request: pytest.FixtureRequest) -> str:
    """How subscribers are woken: by a unix socket, or by UDP where the path is too long for one."""
    return str(request.param)


@pytest.fixture
def folder(kind: str) -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket, or too long for one."""
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short) / ("long" * 25 if kind == ".udp" else "short")
        folder.mkdir()
        yield folder


@pytest.fixture
def url(folder: Path) -> str:
    return f"sqlite:///{folder}/factory.db"


def entries(folder: Path) -> dict[str, list[int]]:
    """The subscribers that the folder knows: the pids by kind."""
    found: dict[str, list[int]] = {".sock": [], ".udp": []}
    for path in (folder / "factory.db.wake").iterdir():
        found[path.suffix].append(int(path.name.partition("-")[0]))
    return found


def ping(url: str, count: int) -> list[float]:
    """How long so many events took to the callback in the other process, in seconds."""
    delays: SimpleQueue[int] = SimpleQueue()
    with KSQLDBClient(url) as client, Asset("ECHO", client) as echo:
        echo.subscribe_to_attribute("delay", lambda subject, message: delays.put(message["VALUE"]))
        taken = []
        for _ in range(count):
            echo.add_attribute(AssetAttribute(id="ping", value=time.monotonic_ns(), type="Events", tag="Ping"))
            taken.append(delays.get(timeout=60) / 1e9)
    return taken


def test_a_write_wakes_another_process_at_once(start: Start, folder: Path, url: str, kind: str) -> None:
    echo = start("echo.py", KSQLDB_URL=url)
    echo.until("listening")
    assert entries(folder)[kind] == [echo.pid]
    taken = ping(url, 25)
    print(f"{kind}: median {statistics.median(taken) * 1e3:.2f} ms, longest {max(taken) * 1e3:.2f} ms")
    assert statistics.median(taken) < AT_ONCE


def test_what_killed_subscribers_leave_behind_is_cleaned_up(
    start: Start, folder: Path, url: str, kind: str, eventually: Callable[..., None]
) -> None:
    killed = [start("watcher.py", KSQLDB_URL=url) for _ in range(3)]
    echo = start("echo.py", KSQLDB_URL=url)
    echo.until("listening")
    for watcher in killed:
        watcher.until("watching")
    assert sorted(entries(folder)[kind]) == sorted(one.pid for one in (*killed, echo))
    for watcher in killed:
        watcher.kill()
    assert len(entries(folder)[kind]) == 4
    assert statistics.median(ping(url, 10)) < AT_ONCE
    eventually(lambda: entries(folder)[kind] == [echo.pid])


def test_a_subscriber_that_ends_takes_its_entry_away(start: Start, folder: Path, url: str, kind: str) -> None:
    app = start("gantry_app.py", KSQLDB_URL=url)
    app.until("Starting the main loop")
    assert entries(folder)[kind] == [app.pid]
    assert app.stopped_by(signal.SIGTERM)[0] == 0
    assert entries(folder)[kind] == []


def test_subscribers_that_are_stopped_hold_up_no_writer_and_miss_nothing(start: Start, folder: Path, url: str) -> None:
    watchers = [start("watcher.py", KSQLDB_URL=url) for _ in range(3)]
    with ExitStack() as going_on:
        for watcher in watchers:
            watcher.until("watching")
            freeze(watcher.process)
            going_on.callback(watcher.process.send_signal, signal.SIGCONT)
        with KSQLDBClient(url) as client, Asset("MILL", client) as mill:
            begin = time.monotonic()
            mill.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
            for number in range(1, 6000):
                mill["number"] = number
                if number % 20 == 0:
                    mill.flush()  # a wake-up each, and more of them than the queue of a socket holds
            mill.flush()
            assert time.monotonic() - begin < 60
    with KSQLDBClient(url) as client, Asset("END", client) as end:
        end.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
    for watcher in watchers:
        assert watcher.ended() == 0
        values = [event[2] for event in json.loads(watcher.lines()[-1]) if event[0] == "MILL"]
        assert values == list(range(6000))
