"""`ofa apps` from outside: real commands, real processes, a factory in a file."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hall import SAW, Hall, hall_in
from ofa_apps import OFA_APPS
from openfactory.testing import eventually


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with hall_in(tmp_path / "hall") as hall:
        yield hall


def test_two_apps_come_up_within_15_seconds_and_go_down(hall: Hall) -> None:
    began = time.monotonic()
    output, messages = hall.ofa("up")
    assert time.monotonic() - began < 15
    assert output.splitlines()[0] == "hall on process"
    assert [line.split()[:3] for line in output.splitlines()[2:]] == [
        ["asset", "outcome", "generation"], ["PRESS", "up", "1"], ["SAW", "up", "1"],
    ]  # fmt: skip
    assert messages.index("PRESS: up") < messages.index("SAW: starts")
    assert {(row["availability"], row["state"], row["registered"]) for row in hall.listed().values()} == {
        ("AVAILABLE", "running", True)
    }
    assert hall.outcomes("up") == {"PRESS": "unchanged", "SAW": "unchanged"}
    output, messages = hall.ofa("down")
    assert messages.index("SAW: removed") < messages.index("PRESS: generation 1 stops")
    assert hall.json("ls") == []
    assert "There is nothing to do" in hall.ofa("down")[1]


def test_a_killed_app_is_back_and_available_soon(hall: Hall) -> None:
    hall.ofa("up")
    pid = hall.listed()["PRESS"]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (row := hall.listed()["PRESS"])["pid"] not in (None, pid) and row["availability"] == "AVAILABLE")
    row = hall.listed()["PRESS"]
    assert (row["restarts"], row["exit_status"]) == (1, 128 + signal.SIGKILL)
    assert hall.outcomes("up") == {"PRESS": "unchanged", "SAW": "unchanged"}


def test_a_plan_tells_what_differs_and_up_does_only_that(hall: Hall) -> None:
    assert "it is new" in hall.ofa("plan", "--check", status=5)[0]
    assert not (hall.folder / ".openfactory" / "factory.db").exists()
    hall.ofa("up")
    assert "Nothing differs." in hall.ofa("plan", "--check")[0]
    before = hall.listed()
    hall.write("smaller")
    plan = hall.json("plan")
    assert [(step["uuid"], step["action"]) for step in plan["steps"]] == [("PRESS", "change"), ("SAW", "unchanged")]
    assert plan["steps"][0]["reasons"][0] == "environment.WAY changes from x to smaller"
    assert hall.json("up", "--dry-run") == plan
    results = hall.json("up")["results"]
    assert [(result["outcome"], result["generation"]) for result in results] == [("up", 2), ("unchanged", 1)]
    assert results[0]["dropped"] == ["method release is dropped"]
    after = hall.listed()
    assert after["SAW"] == before["SAW"] | {"age": after["SAW"]["age"]}
    assert after["PRESS"]["pid"] != before["PRESS"]["pid"]


def test_an_app_that_does_not_come_up_ends_the_command_with_the_reason(hall: Hall) -> None:
    hall.ofa("up")
    pids = {uuid: row["pid"] for uuid, row in hall.listed().items()}
    hall.write("exit")
    output, messages = hall.ofa("up", status=1)
    assert "PRESS  rolled back" in output
    assert "PRESS has ended with status 3. Its log has the reason. Generation 1 went on." in messages
    assert "  | the press is not connected" in messages
    assert {uuid: row["pid"] for uuid, row in hall.listed().items()} == pids
    hall.write("exit after claim")
    assert hall.outcomes("up", status=1)["PRESS"] == "rolled back"
    rows = hall.listed()
    assert (rows["PRESS"]["availability"], rows["PRESS"]["generation"]) == ("AVAILABLE", 1)
    hall.write("x")
    assert hall.outcomes("up") == {"PRESS": "unchanged", "SAW": "unchanged"}


def test_the_end_of_the_log_of_an_app_that_did_not_come_up_is_kept(hall: Hall) -> None:
    hall.write("exit")
    results = {result["uuid"]: result for result in hall.json("up", status=1)["results"]}
    assert results["PRESS"]["log"][0] == "the press is not connected"
    assert results["PRESS"]["exit_status"] == 3
    output, messages = hall.ofa("logs", "--app", "PRESS")
    assert output.splitlines()[0] == "PRESS | the press is not connected"
    assert messages.startswith("PRESS: generation 1 did not come up, ")
    assert len(hall.ofa("logs", "--app", "PRESS", "--tail", "1")[0].splitlines()) == 1
    hall.write("x")
    hall.ofa("up")
    assert hall.ofa("logs", "--app", "PRESS")[1] == ""
    hall.write("exit")
    hall.ofa("up", status=1)
    output, messages = hall.ofa("logs", "--app", "PRESS")  # the version before runs, and has the same log
    assert (output.count("the press is not connected"), messages) == (1, "")
    hall.ofa("down")
    hall.ofa("up", status=1)
    hall.ofa("down")
    assert hall.ofa("logs", "--app", "PRESS") == ("", "")


def test_a_rollback_runs_the_earlier_release(hall: Hall) -> None:
    hall.ofa("up")
    assert "no other release has been up" in hall.ofa("rollback", status=1)[1]
    assert "LATHE is not in hall, which has PRESS, SAW." in hall.ofa("rollback", "--app", "LATHE", status=1)[1]
    hall.write("smaller")
    hall.ofa("up")
    assert hall.outcomes("rollback", "--app", "PRESS") == {"PRESS": "up"}
    assert hall.listed()["PRESS"]["generation"] == 3
    hall.write("x")
    assert hall.outcomes("up") == {"PRESS": "unchanged", "SAW": "unchanged"}
    assert hall.outcomes("rollback", "--app", "PRESS", "--to", "2") == {"PRESS": "up"}
    _, messages = hall.ofa("rollback", "--app", "PRESS", "--to", "9", status=1)
    assert "generation 9 is not kept. Write one of 1, 2, 3" in messages


def test_a_rollback_needs_the_secrets_that_the_files_do_not_have_any_more(hall: Hall) -> None:
    (hall.folder / "app_saw.yml").unlink()
    text = (hall.folder / "app_press.yml").read_text()
    (hall.folder / "app_press.yml").write_text(f"{text}    secrets: {{token: swordfish}}\n")
    hall.ofa("up")
    hall.write("x")
    hall.ofa("up")
    assert "PRESS needs token, which the files do not have any more" in hall.ofa("rollback", status=1)[1]
    assert hall.listed()["PRESS"]["generation"] == 2
    (hall.folder / "app_press.yml").write_text(f"{text}    secrets: {{token: marlin}}\n")
    assert hall.outcomes("rollback") == {"PRESS": "up"}


def test_a_restart_is_a_new_process_of_the_same_release(hall: Hall) -> None:
    hall.ofa("up")
    before = hall.listed()
    assert hall.outcomes("restart", "--app", "PRESS") == {"PRESS": "up"}
    after = hall.listed()
    assert after["PRESS"]["pid"] != before["PRESS"]["pid"]
    assert after["PRESS"]["generation"] == 1
    assert after["SAW"]["pid"] == before["SAW"]["pid"]
    assert "LATHE is not in hall" in hall.ofa("restart", "--app", "LATHE", status=1)[1]


def test_logs_stand_behind_their_assets(hall: Hall) -> None:
    hall.ofa("up")
    output, _ = hall.ofa("logs", "--tail", "1")
    assert [line.split("|")[0] for line in output.splitlines()] == ["PRESS ", "SAW   "]
    assert all("Starting the main loop" in line for line in output.splitlines())
    with hall.start("logs", "-f", "--tail", "1", "--app", "PRESS") as following:
        assert following.stdout is not None
        assert "Starting the main loop" in following.stdout.readline()
        os.kill(hall.listed()["PRESS"]["pid"], signal.SIGTERM)
        line = following.stdout.readline()
        following.send_signal(signal.SIGINT)
        following.communicate(timeout=60)
    assert line.startswith("PRESS |")
    assert following.returncode == 0


def test_a_file_alone_leaves_the_apps_of_other_files(hall: Hall) -> None:
    hall.ofa("up")
    assert hall.outcomes("up", "app_press.yml") == {"PRESS": "unchanged"}
    assert hall.outcomes("down", "app_saw.yml") == {"SAW": "removed"}
    assert hall.listed().keys() == {"PRESS"}


def test_orphans_are_named_and_removed_on_request(hall: Hall) -> None:
    hall.ofa("up")
    (hall.folder / "app_saw.yml").unlink()
    assert hall.outcomes("up") == {"PRESS": "unchanged", "SAW": "left"}
    assert "orphan: instance without file" in hall.ofa("plan")[0]
    assert hall.outcomes("up", "--remove-orphans") == {"PRESS": "unchanged", "SAW": "removed"}
    assert hall.listed().keys() == {"PRESS"}


def test_events_and_history_have_the_steps(hall: Hall) -> None:
    assert "No deployment of hall is recorded" in hall.ofa("events")[1]
    assert hall.json("events") == []
    (hall.folder / "app_saw.yml").write_text(SAW + "    deploy: {replicas: 2}\n")
    hall.ofa("up")
    steps = [(event["asset"], event["outcome"]) for event in hall.json("events")]
    assert steps == [
        ("", "deploying"), ("PRESS", "begins"), ("PRESS", "up"),
        ("SAW-1", "begins"), ("SAW-1", "up"), ("SAW-2", "begins"), ("SAW-2", "up"), ("", "up"),
    ]  # fmt: skip
    found = hall.json("events", "--app", "SAW", "--tail", "3")
    assert [event["asset"] for event in found] == ["SAW-1", "SAW-2", "SAW-2"]
    assert len(hall.json("events", "--app", "SAW-2")) == 2
    assert len(hall.ofa("events", "--tail", "2")[0].splitlines()) == 3


def test_in_the_foreground_the_logs_are_shown_and_a_signal_takes_all_down(hall: Hall) -> None:
    with hall.start("up", "--foreground") as process:
        assert process.stdout is not None
        eventually(lambda: len(hall.listed()) == 2 and hall.listed()["SAW"]["availability"] == "AVAILABLE")
        while not re.match("SAW +up ", process.stdout.readline()):  # the last row, after which the logs come
            assert process.poll() is None
        os.kill(hall.listed()["PRESS"]["pid"], signal.SIGTERM)
        while not process.stdout.readline().startswith("PRESS |"):  # SAW may tell of its start yet
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert "SAW    removed" in output
    assert hall.json("ls") == []


def test_a_second_deployment_waits_or_fails(hall: Hall) -> None:
    hall.ofa("up")
    hall.write("hang")
    with hall.start("up", "--timeout", "300") as first:
        assert first.stderr is not None
        assert "generation 2 starts" in first.stderr.readline()
        _, messages = hall.ofa("up", "--no-wait", status=1)
        assert "`ofa apps up` of" in messages
        assert f"process {first.pid} on host" in messages
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=120)
    assert first.returncode == 130
    rows = hall.listed()
    assert (rows["PRESS"]["generation"], rows["PRESS"]["state"]) == (1, "running")
    hall.write("x")
    assert hall.outcomes("up") in ({"PRESS": "unchanged", "SAW": "unchanged"}, {"PRESS": "up", "SAW": "unchanged"})


def test_a_terminal_shows_a_table_that_changes(hall: Hall) -> None:
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    hall.environment["TERM"] = "xterm"
    hall.write("exit")
    command = [*OFA_APPS, "up"]
    process = subprocess.Popen(command, cwd=hall.folder, env=hall.environment, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # the terminal is closed
        while part := os.read(main, 4096):
            shown += part
    output, _ = process.communicate(timeout=120)
    os.close(main)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert process.returncode == 1
    assert re.search(r"PRESS +[0-9.]+ s +failed: PRESS has ended with status 3", text), text
    assert re.search(r"SAW +[0-9.]+ s +skipped: SAW was not tried", text), text
    assert "Traceback" not in text
    assert "  | the press is not connected" in text
    assert b"PRESS  failed" in output


def test_errors_have_a_remedy_and_no_traceback(hall: Hall, tmp_path: Path) -> None:
    assert "does not exist. Give a file of apps" in hall.ofa("up", "elsewhere", status=1)[1]
    assert "is not a target" in hall.ofa("up", "--target", "prozess", status=1)[1]
    (hall.folder / "app_saw.yml").write_text("apps: {saw: {uuid: SAW, fil: saw.py}}")
    assert "app_saw.yml:1" in hall.ofa("up", status=1)[1]
    (hall.folder / "app_saw.yml").write_text(SAW + "    when: SAW.status = idle\n")
    assert "app_saw.yml:6: apps.saw.when: 'SAW.status = idle' is not a condition" in hall.ofa("up", status=1)[1]
    assert hall.json("ls") == []


def test_a_place_without_a_namespace_is_told(hall: Hall) -> None:
    (hall.folder / "app_saw.yml").write_text(SAW + "    uns: {area: Machining}\n")
    assert "SAW: uns: the place has no effect. Set OPENFACTORY_UNS_SCHEMA" in hall.ofa("plan")[1]


def test_apps_that_the_target_cannot_run_are_refused_before_anything_starts(hall: Hall) -> None:
    record = "  book: {uuid: Deployment-hall, file: press.py}\n"
    (hall.folder / "app_saw.yml").write_text("apps:\n  saw: {uuid: SAW, image: saw}\n" + record)
    for command in ("plan", "up"):
        output, messages = hall.ofa(command, status=1)
        assert output == ""
        assert messages.splitlines()[0].startswith("app_saw.yml:2: apps.saw.image: A plain process does not run")
        assert messages.splitlines()[1].startswith("app_saw.yml:3: apps.book.uuid: Deployment-hall is the asset that")
    assert hall.json("ls") == []
