"""The file stays within its bounds, and who loses it is told."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from app_processes import freeze
from openfactory.apps.cli.root import ofa
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start


def event(attribute_id: str, value: int) -> AssetAttribute:
    return AssetAttribute(id=attribute_id, value=value, type="Events", tag="Note")


def test_a_process_that_lost_the_wal_takes_nothing_from_the_others_when_it_ends(
    start: Start, tmp_path: Path, file_url: str
) -> None:
    watcher = start("watcher.py", KSQLDB_URL=file_url)
    watcher.until("watching")
    for part in ("-wal", "-shm"):
        (tmp_path / f"factory.db{part}").unlink()
    with KSQLDBClient(file_url) as client, Asset("END", client) as end:
        end.add_attribute(event("number", 7))
    watcher.process.send_signal(signal.SIGINT)
    watcher.ended()
    with KSQLDBClient(file_url) as client:
        assert client.query("SELECT value FROM assets WHERE asset_uuid = 'END'") == [{"VALUE": "7"}]


@pytest.mark.parametrize("worker", ["watcher.py", "gantry_app.py"])
def test_a_process_whose_file_is_gone_logs_it(start: Start, tmp_path: Path, file_url: str, worker: str) -> None:
    process = start(worker, KSQLDB_URL=file_url)
    process.until("watching" if worker == "watcher.py" else "Starting the main loop")
    (tmp_path / "factory.db").unlink()
    process.until("was removed or replaced while it was open", timeout=60)


@pytest.mark.thorough
def test_the_wal_stays_bounded_under_a_writer_and_readers_without_a_pause(start: Start) -> None:
    with tempfile.TemporaryDirectory() as folder:  # it is large, and not kept
        url = f"sqlite:///{folder}/factory.db?keep_events=2000"
        readers = [start("reader.py", KSQLDB_URL=url) for _ in range(2)]
        listener = start("listener.py", "END", KSQLDB_URL=url)
        for reader in readers:
            reader.until("reading")
        listener.until("listening")
        writer = start("firehose.py", 24_000, KSQLDB_URL=url)
        wal = Path(folder) / "factory.db-wal"
        largest = 0
        while writer.process.poll() is None:
            largest = max(largest, wal.stat().st_size)
            time.sleep(0.01)
        assert writer.ended() == 0
        print(f"144 MB written, largest WAL {largest / 1e6:.0f} MB")
        listener.until("number 0")  # what the writer wrote last
        assert [reader.process.poll() for reader in readers] == [None, None]
        assert largest < 130e6


def test_the_log_is_trimmed_and_the_latest_values_stay(file_url: str, eventually: Callable[..., None]) -> None:
    with KSQLDBClient(f"{file_url}?keep_events=2000") as client, Asset("MILL", client) as mill:
        mill.add_attribute(event("rare", 42))
        mill.add_attribute(event("number", 0))
        for number in range(1, 10_001):
            mill["number"] = number
            if number % 500 == 0:
                mill.flush()
        eventually(lambda: len(client.engine.history("MILL", "number", limit=20_000)) <= 4000)
        kept = [one.value for one in client.engine.history("MILL", "number", limit=20_000)]
        assert kept == list(range(10_001 - len(kept), 10_001))
        others = [one for one in client.engine.snapshot(["MILL"]).events["MILL"] if one.id != "number"]
        assert len(kept) + len(others) >= 2000  # those that have one event each count too
    with KSQLDBClient(file_url) as client, Asset("MILL", client) as mill:
        assert (mill["rare"].value, mill["number"].value) == (42, 10_000)


@pytest.mark.parametrize(("number", "kept"), [(100, range(11, 12)), (4, range(2, 6))], ids=["enough", "few"])
def test_an_attribute_with_few_events_keeps_them_beside_one_with_many(
    file_url: str, eventually: Callable[..., None], number: int, kept: range
) -> None:
    with KSQLDBClient(f"{file_url}?keep_events={number}") as client, Asset("MILL", client) as mill:
        mill.add_attribute(event("rare", 0))
        mill.add_attribute(event("number", 0))
        for turn in range(1, 11):
            for number in range(1500):
                mill["number"] = number
                if number % 300 == 0:
                    mill.flush()
            mill["rare"] = turn
        mill.flush()
        eventually(lambda: len(client.engine.history("MILL", "number", limit=20_000)) < 2_000)
        eventually(lambda: len(client.engine.history("MILL", "rare")) in kept)


def test_a_subscriber_that_lags_behind_the_log_is_told_and_goes_on(start: Start, file_url: str) -> None:
    watcher = start("watcher.py", KSQLDB_URL=file_url)
    watcher.until("watching")
    with KSQLDBClient(f"{file_url}?keep_events=2000") as client, Asset("MILL", client) as mill:
        mill.add_attribute(event("number", 0))
        freeze(watcher.process)
        for number in range(1, 10_001):
            mill["number"] = number
            if number % 500 == 0:
                mill.flush()
        # All that exceeds the bounds is gone before the watcher goes on, which else meets a second gap.
        pruned = CliRunner().invoke(ofa, ["db", "prune", "--url", file_url], catch_exceptions=False)
        assert pruned.exit_code == 0, pruned.output
        watcher.process.send_signal(signal.SIGCONT)
        watcher.until("gap, going on from")
        for number in range(10_001, 10_011):
            mill["number"] = number
        mill.flush()
        with Asset("END", client) as end:
            end.add_attribute(event("number", 0))
    assert watcher.ended() == 0
    assert "This process lags behind: the log is trimmed up to" in watcher.err
    seen = json.loads(watcher.lines()[-1])
    values = [one[2] for one in seen if one[0] == "MILL"]
    assert values == sorted(set(values))
    assert values[-10:] == list(range(10_001, 10_011))
    assert len(values) < 2000


def test_an_asset_that_lags_hears_the_latest_values(start: Start, file_url: str) -> None:
    listener = start("listener.py", "MILL", KSQLDB_URL=file_url)
    listener.until("listening")
    with KSQLDBClient(f"{file_url}?keep_events=2000") as client, Asset("MILL", client) as mill:
        mill.add_attribute(event("number", 0))
        listener.until("number 0")
        freeze(listener.process)
        mill.add_attribute(event("rare", 42))
        for number in range(1, 10_001):
            mill["number"] = number
            if number % 500 == 0:
                mill.flush()
        listener.process.send_signal(signal.SIGCONT)
        listener.until("number 10000\n")
        mill["number"] = 10_001
        listener.until("number 10001\n")
    heard = [line.split() for line in listener.lines()[1:]]
    assert [value for name, value in heard if name == "rare"] == ["42"]
    numbers = [int(value) for name, value in heard if name == "number"]
    assert numbers == sorted(set(numbers))
