"""However an app ends, it stops in order, in time, and with the status that says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openfactory.assets.asset_class import Asset
from openfactory.exceptions import CommandError, CommandUnknown
from openfactory.kafka import KSQLDBClient

if TYPE_CHECKING:
    from tests.integration.conftest import Start, Worker

UUID = "MILL"
BOTH = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])

# What an idle app may take of the 30 seconds that it has; on a machine that is not shared it is a second.
PROMPT = 20.0

# A shorter budget than the default, so that the tests that use it up are quick, and what the end of a process may take
# on a busy machine. An app that does not keep to its budget takes a minute.
BUDGET = 2.0
MARGIN = 20.0


class Apps:
    """Starts `stopping_app.py`, and looks at what it leaves behind."""

    def __init__(self, start: Start, url: str) -> None:
        self._start = start
        self.url = url

    def busy(self, what: str, budget: float = 5.0) -> Worker:
        """An app whose main loop is under way."""
        app = self.started(what, budget)
        app.until("busy\n")
        return app

    def started(self, what: str, budget: float = 5.0) -> Worker:
        return self._start("stopping_app.py", what, budget, KSQLDB_URL=self.url, APP_UUID=UUID)

    def assert_off(self, *uuids: str) -> None:
        """The apps are UNAVAILABLE and off the register, and what they said is still there."""
        with KSQLDBClient(self.url) as client:
            avail = client.query("SELECT asset_uuid, value FROM assets WHERE id = 'avail' ORDER BY asset_uuid")
            assert [tuple(row.values()) for row in avail] == [(uuid, "UNAVAILABLE") for uuid in uuids or (UUID,)]
            assert client.query("SELECT * FROM assets_type") == []
            assert client.query("SELECT * FROM assets_avail") == []


@pytest.fixture
def apps(start: Start, file_url: str) -> Apps:
    return Apps(start, file_url)


@pytest.fixture
def mill(apps: Apps) -> Iterator[Asset]:
    """The app as this process sees it."""
    with KSQLDBClient(apps.url) as client, Asset(UUID, client) as mill:
        yield mill


def report(what: str, seconds: float) -> None:
    print(f"{what}: stopped in {seconds:.3f} s")


@BOTH
@pytest.mark.parametrize(
    "what",
    ["idle", "async_idle", "callback", "regular_expression", "publishes", "hook_raises", "built_only", "two_apps"],
)
def test_a_signal_stops_the_app_at_once_with_status_0(apps: Apps, what: str, signum: int) -> None:
    status, seconds = apps.busy(what, budget=30.0).stopped_by(signum)
    report(what, seconds)
    assert status == 0
    assert seconds < PROMPT
    apps.assert_off(*(["MILL", "SECOND"] if what == "two_apps" else []))


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGQUIT], ids=["SIGHUP", "SIGQUIT"])
@pytest.mark.parametrize("what", ["idle", "async_idle"])
def test_the_end_of_the_terminal_and_a_quit_are_stops_too(apps: Apps, what: str, signum: int) -> None:
    app = apps.busy(what, budget=30.0)
    assert app.stopped_by(signum)[0] == 0
    assert f"Received {signal.Signals(signum).name}, stopping." in app.err
    apps.assert_off()


@pytest.mark.parametrize("what", ["hangup_ignored", "hangup_reloads"])
def test_a_hangup_that_has_another_meaning_stops_nothing(apps: Apps, what: str) -> None:
    """`nohup` ignores it, and some programs read their settings again."""
    app = apps.busy(what)
    app.process.send_signal(signal.SIGHUP)
    app.until("goes on\n")
    assert app.stopped_by(signal.SIGTERM)[0] == 0
    assert "Received SIGTERM" in app.err
    assert "Received SIGHUP" not in app.err
    assert app.out.count("reloads") == (what == "hangup_reloads")


@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT, signal.SIGINT), (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)],
    ids=["passed on", "terminal, shell and supervisor"],
)
@pytest.mark.parametrize("what", ["async_idle", "hook_blocks", "hears_late", "no_wakeup"])
def test_a_signal_that_is_repeated_at_once_is_one_stop(
    apps: Apps, what: str, signals: tuple[signal.Signals, ...]
) -> None:
    app = apps.busy(what, BUDGET)
    for signum in signals:
        app.process.send_signal(signum)
    assert app.ended() == 0
    assert sum(app.err.count(f"Received {signum.name}, stopping.") for signum in set(signals)) == 1
    apps.assert_off()


def test_a_repeated_signal_does_not_change_the_status_of_an_app_that_has_stopped(apps: Apps) -> None:
    app = apps.busy("leaves_slowly")
    app.process.send_signal(signal.SIGTERM)
    app.until("leaving\n")
    app.process.send_signal(signal.SIGTERM)
    app.process.send_signal(signal.SIGINT)
    assert app.ended() == 0
    apps.assert_off()


@pytest.mark.parametrize(
    "what",
    [
        "c_code",
        "hears_late",
        "hook_blocks",
        "catches_everything",
        "async_blocks",
        "async_catches_everything",
        "two_apps_no_daemon",
    ],
)
def test_what_keeps_an_app_from_ending_costs_at_most_the_budget(apps: Apps, what: str) -> None:
    status, seconds = apps.busy(what, BUDGET).stopped_by(signal.SIGTERM)
    report(what, seconds)
    assert status == 0
    apps.assert_off(*(["MILL", "SECOND"] if what == "two_apps_no_daemon" else []))
    assert seconds < BUDGET + MARGIN


def test_an_app_whose_log_nobody_reads_stops_within_the_budget(apps: Apps) -> None:
    reader, writer = os.pipe()
    script = Path(__file__).parent / "workers" / "stopping_app.py"
    app = subprocess.Popen(
        [sys.executable, str(script), "floods", str(BUDGET)],
        stdout=subprocess.PIPE,
        stderr=writer,
        env={**os.environ, "KSQLDB_URL": apps.url, "APP_UUID": UUID},
    )
    try:
        assert app.stdout is not None
        assert any(line == b"busy\n" for line in app.stdout)
        wait_until_blocked(app.pid)
        begin = time.monotonic()
        app.send_signal(signal.SIGTERM)
        status = app.wait(60)
        seconds = time.monotonic() - begin
    finally:
        app.kill()
        app.communicate()
        os.close(reader)
        os.close(writer)
    report("floods", seconds)
    assert status == 0
    apps.assert_off()
    assert seconds < BUDGET + MARGIN


def wait_until_blocked(pid: int) -> None:
    """Wait until a process that writes without a pause gets on no more."""
    deadline = time.monotonic() + 20
    before = -1
    while before != (before := cpu_ticks(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.3)


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@BOTH
@pytest.mark.parametrize("what", ["idle", "async_idle"])
@pytest.mark.parametrize("method", ["work", "work_async"])
def test_a_command_that_runs_on_is_answered_by_the_stop(
    apps: Apps, mill: Asset, what: str, method: str, signum: int
) -> None:
    app = apps.busy(what, BUDGET)
    mill.resync_state()
    errors: list[CommandError] = []

    def call() -> None:
        with pytest.raises(CommandUnknown) as caught:
            mill.call(method, seconds=60, sender_uuid="HMI", timeout=20)
        errors.append(caught.value)

    caller = threading.Thread(target=call)
    caller.start()
    assert mill.wait_until("status", "working", timeout=60)
    status, seconds = app.stopped_by(signum)
    report(f"{what} in {method}", seconds)
    caller.join(60)
    (error,) = errors
    assert "The app stopped before the method ended. Check the asset, start the app, then call again." in str(error)
    assert status == 0
    assert seconds < BUDGET + MARGIN
    apps.assert_off()


def test_a_command_that_ends_during_the_stop_gives_its_result(apps: Apps, mill: Asset) -> None:
    app = apps.busy("idle")
    mill.resync_state()
    results: list[str] = []
    caller = threading.Thread(target=lambda: results.append(mill.call("work", seconds=0.5, sender_uuid="HMI")))
    caller.start()
    assert mill.wait_until("status", "working", timeout=60)
    status, _ = app.stopped_by(signal.SIGTERM)
    caller.join(60)
    assert (status, results) == (0, ["done"])
    apps.assert_off()


def test_a_command_that_runs_when_the_app_crashes_is_answered(apps: Apps, mill: Asset) -> None:
    app = apps.busy("crash_in_command", BUDGET)
    mill.resync_state()
    with pytest.raises(CommandUnknown, match="The app stopped before the method ended"):
        mill.call("work", seconds=60, sender_uuid="HMI", timeout=20)
    assert app.ended() == 1
    apps.assert_off()


@pytest.mark.parametrize(
    ("what", "pause"),
    [
        ("hook_blocks", 1.0),
        ("no_wakeup", 1.0),
        ("catches_everything", 1.0),
        ("async_catches_everything", 1.0),
        ("async_blocks", 1.0),
        ("c_code", 0.8),  # before the watchdog knows that the main thread cannot be reached
        ("c_code", 1.5),  # and after
    ],
)
def test_a_second_signal_ends_the_process_at_once(apps: Apps, what: str, pause: float) -> None:
    app = apps.busy(what, budget=30.0)
    app.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        app.process.wait(pause)
    status, seconds = app.stopped_by(signal.SIGTERM)
    report(f"{what} after a second signal", seconds)
    assert status == 128 + signal.SIGTERM
    assert seconds < MARGIN


@pytest.mark.parametrize("what", ["crash", "async_crash"])
def test_a_crash_is_logged_and_ends_with_status_1_after_the_same_stop(apps: Apps, what: str) -> None:
    app = apps.started(what)
    assert app.ended() == 1
    assert "[MILL]" in app.err
    assert "MILL crashed; stopping." in app.err
    assert "Traceback" in app.err
    assert "ZeroDivisionError: the mill broke" in app.err
    assert "async_run returned" not in app.out  # it raises again
    apps.assert_off()


def test_an_app_without_a_main_loop_says_what_to_define(apps: Apps) -> None:
    app = apps.started("no_main_loop")
    assert app.ended() == 1
    assert "NoMainLoop has no main_loop. Define it, or use async_run()." in app.err
    apps.assert_off()


@pytest.mark.parametrize("what", ["return", "async_return", "ends_without_run"])
def test_a_main_loop_that_returns_ends_with_status_0_after_the_same_stop(apps: Apps, what: str) -> None:
    app = apps.started(what)
    assert app.ended() == 0
    assert ("async_run returned" in app.out) == (what == "async_return")
    assert "Traceback" not in app.err
    apps.assert_off()


def test_async_run_returns_after_a_signal(apps: Apps) -> None:
    app = apps.busy("async_idle")
    assert app.stopped_by(signal.SIGINT)[0] == 0
    assert "async_run returned" in app.out
    assert "Traceback" not in app.err


def test_an_app_built_outside_the_main_thread_logs_that_it_has_no_signal_handlers(apps: Apps) -> None:
    app = apps.busy("two_apps")
    app.until("[SECOND]")
    assert "The app was built outside the main thread, so it sets no signal handlers." in app.err


def test_what_was_written_before_the_signal_is_not_lost(apps: Apps, mill: Asset) -> None:
    app = apps.busy("publishes")
    assert app.stopped_by(signal.SIGTERM)[0] == 0
    with KSQLDBClient(apps.url) as client:
        numbers = [event.value for event in client.engine.history(UUID, "number", limit=1_000_000)]
    assert numbers == list(range(len(numbers)))
    (last,) = [int(line.split()[1]) for line in app.lines() if line.startswith("assigned")]
    assert numbers[-1] in (last, last + 1)  # the signal may come between the assignment and its note
