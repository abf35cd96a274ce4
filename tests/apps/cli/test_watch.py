"""`ofa asset watch`: events of another process, live."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.kafka import KSQLDBClient

Ofa = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[bytes]]
Eventually = Callable[..., None]


@pytest.fixture
def mill(workshop: Path) -> Iterator[Asset]:
    with Asset("mill", KSQLDBClient(f"sqlite:///{workshop}/factory.db")) as mill:
        mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
        mill.add_attribute(AssetAttribute(id="speed", value=100, type="Samples", tag="Speed"))
        yield mill


@pytest.fixture
def watch(workshop: Path, start: Start, eventually: Eventually) -> Callable[..., subprocess.Popen[bytes]]:
    """A watcher that listens: `watch("mill", "status")`; what it prints is in app.log."""

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        watcher = start(workshop, "ofa", "asset", "watch", *arguments)
        eventually(lambda: said(workshop) or watcher.poll() is not None)
        assert watcher.poll() is None, said(workshop)
        return watcher

    return begin


def said(folder: Path) -> list[str]:
    return (folder / "app.log").read_text(encoding="utf-8").splitlines()


def test_every_event_is_a_line_until_the_count_is_reached(
    mill: Asset, workshop: Path, watch: Callable[..., subprocess.Popen[bytes]]
) -> None:
    watcher = watch("mill", "--count", "4")
    mill.status = "busy"
    mill.speed = 120
    mill.method("start", "HMI", {"speed": 3})
    mill.status = "done\n"
    assert watcher.wait(60) == 0
    greeting, *lines = said(workshop)
    assert greeting == f"Watching mill in sqlite:///{workshop}/factory.db; Ctrl-C ends it."
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "status  busy",
        "speed   120.0",
        "start_CMD  command from HMI: (speed=3)",
        "status  done\\n",
    ]


def test_with_json_every_line_is_an_object(
    mill: Asset, workshop: Path, watch: Callable[..., subprocess.Popen[bytes]]
) -> None:
    values: list[Any] = ["busy", 1, 1.5, True, None, {"a": [1]}, "two\nlines"]
    watcher = watch("mill", "--json", "--count", str(len(values) + 1))
    for value in values:
        mill.status = value
    mill.speed = 7
    assert watcher.wait(60) == 0
    events = [json.loads(line) for line in said(workshop)[1:]]
    assert [event["value"] for event in events] == [*values, 7.0]
    assert list(map(type, (event["value"] for event in events))) == [*map(type, values), float]
    assert list(events[0]) == ["asset_uuid", "id", "value", "type", "tag", "timestamp"]
    assert events[-1] == {
        "asset_uuid": "mill", "id": "speed", "value": 7.0, "type": "Samples", "tag": "Speed",
        "timestamp": mill.speed.timestamp,
    }  # fmt: skip


def test_with_an_id_only_its_events_are_lines(
    mill: Asset, workshop: Path, watch: Callable[..., subprocess.Popen[bytes]]
) -> None:
    watcher = watch("mill", "speed", "--count", "2")
    for speed in (1, 2):
        mill.status = "busy"
        mill.speed = speed
    assert watcher.wait(60) == 0
    assert [line.split()[1:] for line in said(workshop)[1:]] == [["speed", "1.0"], ["speed", "2.0"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_well(
    mill: Asset,
    workshop: Path,
    watch: Callable[..., subprocess.Popen[bytes]],
    eventually: Eventually,
    number: signal.Signals,
) -> None:
    watcher = watch("mill")
    mill.status = "busy"
    eventually(lambda: len(said(workshop)) == 2)
    watcher.send_signal(number)
    assert watcher.wait(60) == 0
    assert len(said(workshop)) == 2


def test_it_ends_after_its_seconds(mill: Asset, ofa: Ofa) -> None:
    found = ofa("asset", "watch", "mill", "--seconds", "0.2")
    assert found.returncode == 0
    assert found.stdout == ""


def test_too_few_events_in_time_are_an_error(mill: Asset, ofa: Ofa) -> None:
    found = ofa("asset", "watch", "mill", "--seconds", "0.2", "--count", "3")
    assert found.returncode == 1
    assert found.stderr.splitlines()[1] == "mill had 0 of 3 events within 0.2 s. Wait longer with --seconds."


def test_an_asset_or_attribute_that_is_not_there_yet_is_waited_for(
    mill: Asset, workshop: Path, watch: Callable[..., subprocess.Popen[bytes]], ofa: Ofa
) -> None:
    watcher = watch("lathe", "--count", "1")
    with Asset("lathe", KSQLDBClient(f"sqlite:///{workshop}/factory.db")) as lathe:
        lathe.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="Status"))
    assert watcher.wait(60) == 0
    assert said(workshop)[0].startswith("Watching lathe, which does not exist yet, in sqlite:///")
    found = ofa("asset", "watch", "mill", "color", "--seconds", "0.1")
    assert found.stderr.startswith("Watching mill.color, which does not exist yet, in ")


def test_a_reader_that_goes_away_ends_it(mill: Asset, workshop: Path) -> None:
    command = [sys.executable, "-P", "-m", "openfactory.apps.cli", "asset", "watch", "mill"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=workshop, stdout=pipe, stderr=pipe, text=True) as watcher:
        assert watcher.stderr is not None
        assert watcher.stdout is not None
        assert watcher.stderr.readline().startswith("Watching mill")
        watcher.stdout.close()
        mill.status = "busy"
        assert watcher.wait(60) == 4
        assert watcher.stderr.read() == ""
