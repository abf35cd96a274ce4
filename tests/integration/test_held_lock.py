"""A process that is stopped while it holds the lock keeps others from writing: they name it, and go on after it."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openfactory.assets import Factory
from openfactory.assets.asset_class import Asset
from openfactory.events.attribute import AssetAttribute
from openfactory.exceptions import DeliveryTimeout
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, StopHolding, Worker


@pytest.fixture
def other(file_url: str) -> Iterator[Asset]:
    """An asset that this process writes."""
    with KSQLDBClient(file_url) as client, Asset("OTHER", client) as other:
        other.add_attribute(AssetAttribute(id="number", value=0, type="Events", tag="Number"))
        yield other


@pytest.fixture
def writer(start: Start, file_url: str, other: Asset) -> Iterator[Worker]:
    """A process that writes without a pause; it goes on before `other` is closed."""
    writer = start("writer.py", "WRITER", 1, KSQLDB_URL=file_url)
    writer.until("\n")
    yield writer
    if writer.process.poll() is None:
        writer.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("timeout", [0.5, 2.0])
def test_flush_names_the_process_that_holds_the_lock(
    writer: Worker, other: Asset, tmp_path: Path, stop_holding: StopHolding, timeout: float
) -> None:
    stop_holding(writer, tmp_path / "factory.db.lock")
    other["number"] = 1
    begin = time.monotonic()
    with pytest.raises(DeliveryTimeout) as caught:
        other.flush(timeout)
    assert time.monotonic() - begin < timeout + 20
    assert caught.value.pending == 1
    said = str(caught.value)
    assert f"1 published events were not written within {timeout:g} s" in said
    assert f"process {writer.pid} holds factory.db.lock" in said
    assert said.endswith("then resume or end it.")


def test_writers_go_on_when_the_process_goes_on(
    writer: Worker, other: Asset, file_url: str, tmp_path: Path, stop_holding: StopHolding
) -> None:
    stop_holding(writer, tmp_path / "factory.db.lock")
    for number in range(1, 101):
        other["number"] = number
    with pytest.raises(DeliveryTimeout):
        other.flush(0.3)
    writer.process.send_signal(signal.SIGCONT)
    other.flush(timeout=60)
    said = len(writer.lines())
    with KSQLDBClient(file_url) as client:
        assert [event.value for event in client.engine.history("OTHER", "number")] == list(range(101))
    deadline = time.monotonic() + 60
    while len(writer.lines()) <= said:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_writers_go_on_when_the_process_is_killed(
    writer: Worker, other: Asset, file_url: str, tmp_path: Path, stop_holding: StopHolding
) -> None:
    stop_holding(writer, tmp_path / "factory.db.lock")
    other["number"] = 1
    writer.kill()
    other.flush(timeout=60)


def test_readers_do_not_wait_for_the_lock(
    writer: Worker, other: Asset, file_url: str, tmp_path: Path, stop_holding: StopHolding
) -> None:
    stop_holding(writer, tmp_path / "factory.db.lock")
    begin = time.monotonic()
    with KSQLDBClient(file_url) as client:
        assert client.query("SELECT value FROM assets WHERE asset_uuid = 'OTHER'") == [{"VALUE": "0"}]
        assert len(client.engine.history("WRITER", "number")) > 1
    other.resync_state()
    assert time.monotonic() - begin < 20


def test_health_says_what_holds_writers_up(
    writer: Worker,
    other: Asset,
    file_url: str,
    tmp_path: Path,
    stop_holding: StopHolding,
    eventually: Callable[..., None],
) -> None:
    stop_holding(writer, tmp_path / "factory.db.lock")
    other["number"] = 1
    with KSQLDBClient(file_url) as client:
        engine = client.engine
        eventually(lambda: not engine.health().connected)
        assert f"process {writer.pid} holds factory.db.lock" in engine.health().reason
        assert engine.health().queued == 1
        writer.process.send_signal(signal.SIGCONT)
        eventually(lambda: engine.health().connected and not engine.health().queued)


def test_an_app_that_cannot_start_names_the_process(
    writer: Worker, tmp_path: Path, file_url: str, stop_holding: StopHolding, start: Start
) -> None:
    stop_holding(writer, tmp_path / "factory.db.lock")
    app = start("gantry_app.py", KSQLDB_URL=file_url)
    assert app.ended(60) == 1
    last = app.err.strip().splitlines()[-1]
    assert f"factory.db cannot be opened: process {writer.pid} holds factory.db.lock" in last
    assert last.endswith("then resume or end it.")


@pytest.mark.parametrize("what", ["idle", "async_idle", "crash_when_told", "return_when_told"])
def test_a_stop_keeps_to_its_budget_and_says_what_it_could_not_do(
    writer: Worker,
    other: Asset,
    tmp_path: Path,
    file_url: str,
    stop_holding: StopHolding,
    start: Start,
    what: str,
) -> None:
    app = start("stopping_app.py", what, 2.0, KSQLDB_URL=file_url, APP_UUID="MILL")
    app.until("busy\n")
    stop_holding(writer, tmp_path / "factory.db.lock")
    begin = time.monotonic()
    app.process.send_signal(signal.SIGTERM if what.endswith("idle") else signal.SIGUSR1)
    assert app.ended() == 1, "the log does not show that the app has ended"
    seconds = time.monotonic() - begin
    print(f"{what}: stopped in {seconds:.2f} s")
    lost = r"ERROR Could not flush while stopping: \d+ published events were not written .*\(MILL\.avail"
    assert re.search(lost, app.err)
    assert seconds < 2.0 + 20.0  # a stop without a bound takes as long as the lock is held


def test_a_stop_waits_for_the_lock_as_long_as_its_budget_allows(
    writer: Worker, other: Asset, tmp_path: Path, file_url: str, stop_holding: StopHolding, start: Start
) -> None:
    app = start("stopping_app.py", "idle", 20.0, KSQLDB_URL=file_url, APP_UUID="MILL")
    app.until("busy\n")
    stop_holding(writer, tmp_path / "factory.db.lock")
    app.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        app.process.wait(5.0)  # longer than a fifth of the budget
    writer.process.send_signal(signal.SIGCONT)
    assert app.ended() == 0
    assert "ERROR" not in app.err
    with KSQLDBClient(file_url) as client:
        assert client.engine.history("MILL", "avail")[-1].value == "UNAVAILABLE"
        assert client.engine.types(["MILL"]) == {}


def test_the_end_of_an_app_that_is_frozen_with_the_lock_is_heard_once_although_it_cannot_be_written(
    file_url: str,
    tmp_path: Path,
    stop_holding: StopHolding,
    start: Start,
    eventually: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIVENESS_TIMEOUT", "3")
    with KSQLDBClient(file_url) as client, Asset("MILL", client) as mill, Factory(client) as factory:
        app = start("busy_app.py", KSQLDB_URL=file_url, APP_UUID="MILL")
        eventually(lambda: mill.avail.value == "AVAILABLE" and int(mill.load.value) > 100)
        heard: list[Any] = []
        mill.subscribe_to_attribute("avail", lambda _subject, message: heard.append(message["VALUE"]))
        with factory.watch(attributes=["avail"]) as changes:
            stop_holding(app, tmp_path / "factory.db.lock")
            eventually(lambda: mill.avail.value == "UNAVAILABLE")
            assert mill.owner is not None
            assert f"process {app.pid} on host" in str(mill.owner.ended)
            with Asset("MILL", client) as opened_later:
                eventually(lambda: opened_later.avail.value == "UNAVAILABLE")
            assert client.engine.snapshot(["MILL"]).owners()["MILL"].ended is None, "the file cannot be written"
            app.process.send_signal(signal.SIGCONT)
            eventually(lambda: len(heard) >= 2)
            expected = ["UNAVAILABLE", "AVAILABLE"]
            assert heard == expected
            assert [event and event.value for event in (changes.get(60), changes.get(60))] == expected
        mill.resync_state()
        assert mill.avail.value == "AVAILABLE"
        values = [event.value for event in client.engine.history("MILL", "avail")]
        assert values[-2:] == expected
        app.process.send_signal(signal.SIGTERM)
        assert app.ended() == 0
