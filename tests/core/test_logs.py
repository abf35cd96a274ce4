"""Log lines: who speaks, when, how loud, and once."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from openfactory.exceptions import ConfigurationError
from openfactory.logs import configure_prefixed_logger
from openfactory.logs.outage import Outage
from openfactory.logs.waiting import Waiting
from openfactory.testing import eventually

PROGRAM = """
import logging
from openfactory.logs import configure_prefixed_logger
configure_prefixed_logger("mill", level="info", prefix="OTHER")
logger = configure_prefixed_logger("mill", level="debug", prefix="MILL")
logger.info("started with %d", 7)
logger.debug("a detail")
logging.getLogger("mill.part").warning("below it")
"""


def test_a_line_has_the_prefix_the_time_the_level_and_the_message_once() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert found.stdout == ""
    stamp = r"\(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)"
    lines = [
        rf"\[MILL\] {stamp} INFO started with 7",
        rf"\[MILL\] {stamp} DEBUG a detail",
        rf"\[MILL\] {stamp} WARNING below it",
    ]
    assert re.fullmatch("\n".join(lines) + "\n", found.stderr), found.stderr


@pytest.mark.parametrize("prefix", ["100%", "%(message)s", "%s", "{mill}", "{0}", "$mill"])
def test_a_prefix_is_written_as_it_is(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    logger = configure_prefixed_logger(uuid4().hex, prefix=prefix)
    logger.info("started")
    assert capsys.readouterr().err.startswith(f"[{prefix}] (")


@pytest.mark.parametrize(
    ("level", "number"), [("DEBUG", 10), ("warning", 30), ("Info", 20), (15, 15), ("CRITICAL", 50)]
)
def test_a_level_is_a_name_or_a_number(level: str | int, number: int) -> None:
    assert configure_prefixed_logger(uuid4().hex, level=level).level == number


def test_the_level_can_be_changed() -> None:
    name = uuid4().hex
    configure_prefixed_logger(name, level="DEBUG")
    logger = configure_prefixed_logger(name, level="ERROR")
    assert logger is logging.getLogger(name)
    assert logger.level == logging.ERROR


@pytest.mark.parametrize("level", ["LOUD", "", None, 1.5])
def test_a_level_that_does_not_exist_is_refused_with_those_that_do(level: object) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a log level\. Use DEBUG, INFO, WARNING, ERROR or CRITICAL"):
        configure_prefixed_logger(uuid4().hex, level=level)  # type: ignore[arg-type]


def test_what_a_message_quotes_begins_no_line_and_hides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logger = configure_prefixed_logger(uuid4().hex, prefix="MILL")
    logger.info("it said %s", "well\n[MILL] (2026-11-21 08:30:00) INFO forged\r\nand \x1b[2J\x9b\ttabs")
    first, *more = capsys.readouterr().err.splitlines()
    assert first.endswith("INFO it said well")
    assert more == ["    [MILL] (2026-11-21 08:30:00) INFO forged", "    and \\x1b[2J\\x9b\ttabs"]


ROOT_PROGRAM = """
import logging, sys
from openfactory.logs import configure_prefixed_logger
{setup}
configure_prefixed_logger("mill", prefix="MILL").info("of the app")
logging.getLogger("driver").warning("of a driver")
"""


@pytest.mark.parametrize(
    ("setup", "on_terminal", "in_file"),
    [
        ("", ["[MILL]", "of a driver"], []),
        ("logging.basicConfig(format='%(name)s: %(message)s')", ["mill: of the app", "driver: of a driver"], []),
        ("logging.basicConfig(stream=sys.stdout)", [], []),
        (
            "logging.basicConfig(filename='all.log', format='%(name)s: %(message)s')",
            ["[MILL]"],
            ["mill: of the app", "driver: of a driver"],
        ),
    ],
)
def test_the_logging_of_a_program_gets_the_lines_and_the_terminal_each_line_once(
    tmp_path: Path, setup: str, on_terminal: list[str], in_file: list[str]
) -> None:
    program = [sys.executable, "-c", ROOT_PROGRAM.format(setup=setup)]
    found = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    lines = found.stderr.splitlines()
    assert len(lines) == len(on_terminal), lines
    assert all(line.startswith(start) for line, start in zip(lines, on_terminal, strict=True)), lines
    assert len(found.stdout.splitlines()) == (2 if "stdout" in setup else 0)
    file = tmp_path / "all.log"
    assert (file.read_text().splitlines() if file.exists() else []) == in_file


def test_handlers_of_others_stay() -> None:
    name = uuid4().hex
    mine = logging.NullHandler()
    logging.getLogger(name).addHandler(mine)
    logger = configure_prefixed_logger(name)
    assert mine in logger.handlers
    assert len(logger.handlers) == 2


class Closable(io.TextIOWrapper):
    """A standard error in memory."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding)

    def text(self) -> str:
        self.seek(0)
        return self.read()


def test_lines_follow_the_standard_error_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = configure_prefixed_logger(uuid4().hex, prefix="MILL")
    logger.propagate = False
    first, second, third = Closable(), Closable(), Closable()
    monkeypatch.setattr(sys, "stderr", first)
    logger.info("one")
    monkeypatch.setattr(sys, "stderr", second)
    logger.info("two")
    assert [first.text().endswith("INFO one\n"), second.text().endswith("INFO two\n")] == [True, True]
    second.close()
    logger.info("into a closed one")
    monkeypatch.setattr(sys, "stderr", None)
    logger.info("into none")
    monkeypatch.setattr(sys, "stderr", third)
    logger.info("three")
    assert third.text().count("\n") == 1


def test_a_character_that_standard_error_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", narrow := Closable("latin-1"))
    logger = configure_prefixed_logger(uuid4().hex, prefix="ÖFEN")
    logger.propagate = False
    logger.info("20 Ω")
    assert narrow.text().startswith("[ÖFEN] (")
    assert narrow.text().endswith("INFO 20 \\u03a9\n")


FULL_PROGRAM = """
import os, sys
from openfactory.logs import configure_prefixed_logger
logger = configure_prefixed_logger("mill", prefix="MILL")
logger.info("it is lost")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("and so is this")
print("goes on")
"""


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>&1 >&- | true"])
def test_a_standard_error_that_takes_nothing_ends_no_program(redirection: str) -> None:
    program = ["bash", "-c", f'"$0" -c "$1" {redirection}; exit ${{PIPESTATUS[0]}}', sys.executable, FULL_PROGRAM]
    found = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0
    assert found.stderr == ""


def lines(records: list[logging.LogRecord]) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in records]


@pytest.fixture
def outage() -> Outage:
    return Outage(logging.getLogger("openfactory.test"), meanwhile="Retrying.", over="The server is back.")


def test_an_outage_is_two_lines_however_often_it_is_noted(outage: Outage, logged: list[logging.LogRecord]) -> None:
    logging.getLogger("openfactory.test").setLevel(logging.INFO)
    for _ in range(2):
        for port in range(3):
            outage.begin(f"The server is away: 100% of port {port} is refused.")
        for _ in range(3):
            outage.end()
    began = ("WARNING", "The server is away: 100% of port 0 is refused. Retrying.")
    assert lines(logged) == [began, ("INFO", "The server is back.")] * 2


def test_an_outage_knows_its_last_reason_until_it_ends(outage: Outage) -> None:
    assert outage.reason == ""
    outage.begin("The server is away.")
    outage.begin("The server wants another login.")
    assert outage.reason == "The server wants another login."
    outage.end()
    assert outage.reason == ""


def test_without_an_outage_its_end_logs_nothing(outage: Outage, logged: list[logging.LogRecord]) -> None:
    outage.end()
    assert logged == []


def test_a_warning_needs_only_a_reason(logged: list[logging.LogRecord]) -> None:
    Outage(logging.getLogger("openfactory.test"), over="There is room again.").begin("There is no room.")
    assert lines(logged) == [("WARNING", "There is no room.")]


def test_threads_that_note_an_outage_at_once_log_it_once(outage: Outage, logged: list[logging.LogRecord]) -> None:
    logging.getLogger("openfactory.test").setLevel(logging.INFO)
    for note in (lambda: outage.begin("The server is away."), outage.end):
        gate = threading.Barrier(8)

        def run(note: Callable[[], None] = note, gate: threading.Barrier = gate) -> None:
            gate.wait(60)
            note()

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [record.levelname for record in logged] == ["WARNING", "INFO"]


def test_an_operation_that_takes_long_says_for_which_step_it_waits(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openfactory.logs.waiting._INTERVAL_SECONDS", 0.01)
    logger = logging.getLogger("openfactory.test")

    def told(step: str) -> bool:
        return any(
            message.startswith("Opening the mill takes") and message.endswith(f"It waits for {step}.")
            for message in caplog.messages
        )

    with Waiting(logger, "Opening the mill", "its door") as waiting:
        eventually(lambda: told("its door"))
        waiting.step = "its spindle"
        eventually(lambda: told("its spindle"))
    eventually(lambda: not any(thread.name == "openfactory-waiting" for thread in threading.enumerate()))
