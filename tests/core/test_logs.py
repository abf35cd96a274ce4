"""Log lines: who speaks, when, how loud, and once."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from uuid import uuid4

import pytest

from openfactory.exceptions import ConfigurationError
from openfactory.logs import configure_prefixed_logger

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


def test_handlers_of_others_stay() -> None:
    name = uuid4().hex
    mine = logging.NullHandler()
    logging.getLogger(name).addHandler(mine)
    logger = configure_prefixed_logger(name)
    assert mine in logger.handlers
    assert len(logger.handlers) == 2
