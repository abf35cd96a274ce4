"""What the commands print: where nobody can read it, in each width, and without colors."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from openfactory.apps.cli.output import one_line, print_table
from openfactory.kafka import KSQLDBClient

Ofa = Callable[..., subprocess.CompletedProcess[str]]

CLOSED = 'exec "$0" "$@" >&-'


@pytest.fixture
def workshop(press_workshop: Path) -> Path:
    return press_workshop


def forces(folder: Path) -> list[object]:
    with KSQLDBClient(f"sqlite:///{folder}/factory.db") as client:
        return [event.value for event in client.engine.history("press", "force")]


def test_a_character_that_the_output_lacks_is_escaped(ofa: Ofa, ofa_process: Ofa) -> None:
    ofa("asset", "set", "press", "status", "≥ 20 Ω ✓", "--text")
    shown = ofa_process("asset", "inspect", "press", PYTHONIOENCODING="cp1252")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\\u2265 20 \\u03a9 \\u2713" in shown.stdout
    whole = json.loads(ofa_process("asset", "inspect", "press", "--json", PYTHONIOENCODING="cp1252").stdout)
    assert "≥ 20 Ω ✓" in [attribute["value"] for attribute in whole["attributes"]]


@pytest.mark.parametrize(
    "arguments", [["asset", "ls"], ["asset", "call", "press", "press", "force=11"], ["doctor"], ["--help"]]
)
def test_a_closed_output_needs_no_output(workshop: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "openfactory.apps.cli", *arguments]
    found = subprocess.run(["sh", "-c", CLOSED, *command], cwd=workshop, stderr=subprocess.PIPE, text=True, timeout=180)
    assert (found.returncode, found.stderr) == (0, "")
    assert "call" not in arguments or forces(workshop)[-1] == 11


def test_output_that_cannot_be_written_has_its_own_status(ofa_process: Ofa, workshop: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        listed = ofa_process("asset", "ls", stdout=full, PYTHONUNBUFFERED="1")
        called = ofa_process("asset", "call", "press", "press", "force=12", stdout=full, PYTHONUNBUFFERED="")
    sentence = "The command is done, but its output cannot be written: No space left on device. "
    assert (listed.returncode, listed.stderr) == (4, f"{sentence}Write it to another place.\n")
    assert (called.returncode, called.stderr) == (4, f'{sentence}It is: {{"result":{{"force":12.0,"times":1}}}}\n')
    assert forces(workshop)[-1] == 12


def test_a_reader_that_has_gone_away_is_no_error_to_speak_of(ofa_process: Ofa) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    found = ofa_process("asset", "inspect", "press", stdout=writer)
    os.close(writer)
    assert (found.returncode, found.stderr) == (4, "")


def test_messages_that_cannot_be_written_change_no_status(ofa_process: Ofa) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert ofa_process("asset", "watch", "press", "--seconds", "0.1", stderr=full).returncode == 0
        assert ofa_process("asset", "inspect", "lathe", stderr=full).returncode == 1


@pytest.mark.parametrize("arguments", [["asset", "ls"], ["asset", "inspect", "press"], ["doctor"]])
def test_a_terminal_gets_colors_unless_it_wants_none(ofa_terminal: Ofa, arguments: list[str]) -> None:
    assert "\x1b[" in ofa_terminal(*arguments, TERM="xterm-256color").stdout
    assert "\x1b" not in ofa_terminal(*arguments, TERM="xterm-256color", NO_COLOR="1").stdout
    assert "\x1b" not in ofa_terminal(*arguments, TERM="dumb").stdout


@pytest.mark.parametrize("columns", [1, 30])
@pytest.mark.parametrize("command", ["inspect", "methods"])
def test_a_narrow_terminal_shows_whole_values(ofa_terminal: Ofa, ofa: Ofa, command: str, columns: int) -> None:
    shown = ofa_terminal("asset", command, "press", COLUMNS=str(columns), TERM="dumb").stdout
    assert max(map(len, shown.splitlines())) <= max(columns, 20)
    found = json.loads(ofa("asset", command, "press", "--json").stdout)
    texts = [one["value"] for one in found.get("attributes", []) if isinstance(one["value"], str)]
    texts += [one["description"].rstrip(".") for one in found.get("methods", [])]
    joined = re.sub(r"\s", "", shown)
    for text in texts:
        assert re.sub(r"\s", "", one_line(text)) in joined


def test_a_narrow_terminal_shows_whole_findings(ofa_terminal: Ofa, workshop: Path) -> None:
    shown = ofa_terminal("doctor", COLUMNS="20", TERM="dumb").stdout
    assert f"sqlite:///{workshop}/factory.dbusestheembeddedengine" in re.sub(r"\s", "", shown)


class Screen(io.StringIO):
    """A terminal in memory."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


ROWS = [
    ("spindle_speed", "0.0", "Samples", "Spindle.Speed", "08:30:00"),
    ("note", "a long value, with words, and a-word-that-does-not-fit-into-any-narrow-column", "Events", "N", "x"),
]
ASSETS = [("press-12345", "Device", "AVAILABLE"), ("mill", "OpenFactoryApp", "UNAVAILABLE")]


@pytest.mark.parametrize("columns", [0, 1, 9, *range(20, 81), 120, 200])
@pytest.mark.parametrize(
    ("headers", "rows"),
    [(("id", "value", "type", "tag", "timestamp"), ROWS), (("uuid", "type", "availability"), ASSETS)],
)
def test_no_width_cuts_a_cell(
    monkeypatch: pytest.MonkeyPatch, columns: int, headers: tuple[str, ...], rows: list[tuple[str, ...]]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    print_table(headers, rows, "mill  App  AVAILABLE")
    shown = screen.getvalue()
    assert "…" not in shown
    columns = columns or 80  # 0 stands for the width of the terminal
    assert max(map(len, shown.splitlines())) <= max(columns, 20)
    # The lines of a cell may have other cells between them, so that only its characters can be looked for.
    assert Counter("".join(cell for row in rows for cell in row).replace(" ", "")) <= Counter(shown)
