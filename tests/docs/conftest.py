"""Does what a page says: writes its files, types its commands into terminals, and compares what comes back.

A page is Markdown. Its blocks of Python, HTML and so on are files, named by a caption or behind that word. Its console
blocks are terminals, named in the same way: `$ ` is the prompt, `^C` is Ctrl-C, a timestamp stands for any timestamp,
`…` for what else varies, and a line that is nothing but `…` for any number of lines. A block that ends in such a line
leaves its command running.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from distributions import distributions

# How long a command may take to say what it should, in seconds.
_PATIENCE = 60.0

# Makes the terminal the one that Ctrl-C is typed into.
_LAUNCH = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--noprofile", "--norc", "--noediting", "-i"])
"""

# Colours, bold type and moves of the cursor, of which a page shows none; and what may be the first half of more.
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r(?!\n)")
_HALF = re.compile(r"(?:\x1b(?:\[[0-9;?]*)?|\r)\Z")

_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})(?P<info>.*)\n(?P<text>(?:.*\n)*?)(?P=fence)\s*$", re.MULTILINE)
_CAPTION = re.compile(r"\A:caption: (.+)\n+")
_VARIES = re.compile(r"(…|─+|  +|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{3}Z)?)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """One block of a page: the heading it stands under, what it is, what it is called, and its text."""

    section: str
    language: str
    name: str
    text: str

    def __str__(self) -> str:
        return f"the {self.language or 'unnamed'} block under {self.section!r} that begins {self.text[:60]!r}"


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(page):
        language, _, name = match["info"].strip().removeprefix("{code-block} ").partition(" ")
        text = match["text"]
        if caption := _CAPTION.match(text):
            name, text = caption[1], text[caption.end() :]
        headings = _HEADING.findall(page, 0, match.start())
        found.append(Block(headings[-1] if headings else "", language, name, text))
    fences = len(re.findall(r"^\s*(?:`{3,}|~{3,})", page, re.MULTILINE))
    assert fences == 2 * len(found), "a block is indented, or does not end: it would not be run"
    return found


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], statuses: Path) -> None:
        self._statuses = statuses
        self._statuses.touch()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        environment = environment | {"PS1": "$ ", "PROMPT_COMMAND": f"echo $? >>'{statuses}'"}
        self._shell = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self._said = ""
        self._heard = 0  # up to where what was said has been compared
        self._commands = 1  # the shell writes a status before its first prompt too
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._wait(lambda: self.idle, "show a prompt")
        self._heard = len(self._said)
        self.failed = False

    @property
    def idle(self) -> bool:
        """Whether the shell waits for a command."""
        return len(self._ended()) >= self._commands and self._said.endswith("$ ")

    @property
    def screen(self) -> str:
        """All that it has shown."""
        return self._said

    def type(self, command: str) -> None:
        """Give the shell a command, as soon as it waits for one."""
        self._wait(lambda: self.idle, f"be ready for {command!r}")
        self._heard = len(self._said)
        self._commands += 1
        os.write(self._master, f"{command}\n".encode())
        self._wait(lambda: f"{command}\n" in self._said[self._heard :], f"echo {command!r}")
        self._heard = self._said.index(f"{command}\n", self._heard) + len(command) + 1

    def interrupt(self) -> None:
        """Type Ctrl-C at a command that runs."""
        assert not self.idle, "Ctrl-C is typed where no command runs"
        os.write(self._master, b"\x03")
        self._wait(lambda: "^C" in self._said[self._heard :], "echo Ctrl-C")

    def expect(self, text: str, *, to_end: bool) -> None:
        """Wait for what comes next, and if it says so for the end of the command."""
        pattern = re.compile(_pattern(text))
        if to_end:
            self._wait(lambda: self.idle, f"end after {text!r}")
            # At a Ctrl-C, a shell that waits for a command writes a status too.
            assert len(self._ended()) == self._commands, "the command has ended before Ctrl-C was typed"
            said = self._said[self._heard :].removesuffix("$ ")
            whole = said if said.endswith("\n") or not said else said + "\n"
            assert pattern.fullmatch(whole), f"\n--- expected\n{text}\n--- said\n{said}"
            self._heard = len(self._said)
            self.failed = self._ended()[-1] not in ("0", "130")
        else:
            self._wait(lambda: pattern.match(self._said, self._heard), f"say {text!r}")
            found = pattern.match(self._said, self._heard)
            assert found is not None
            self._heard = found.end()
            assert not self.idle, f"the command has ended: {self._said[self._heard :]!r}"

    def close(self) -> None:
        """End the shell and what runs in it."""
        with suppress(ProcessLookupError, OSError):
            if (foreground := os.tcgetpgrp(self._master)) != self._shell.pid:
                os.killpg(foreground, signal.SIGKILL)
        self._shell.kill()
        self._shell.wait()
        self._reader.join(60)
        os.close(self._master)

    def _ended(self) -> list[str]:
        return self._statuses.read_text(encoding="ascii").split()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(OSError):  # the way in which Linux says that the other end is closed
            held = ""
            while data := os.read(self._master, 65536):
                text = held + decoder.decode(data)
                half = _HALF.search(text)
                text, held = (text[: half.start()], half[0]) if half else (text, "")
                self._said += _STYLE.sub("", text).replace("\r\n", "\n")

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"it did not {what}; it said:\n{self._said[self._heard :]}"
            time.sleep(0.01)


def _pattern(text: str) -> str:
    """What matches an expected text."""
    lines = []
    for line in text.splitlines():
        if line == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append("".join(map(_piece, _VARIES.split(line))) + r"[ \r]*\n")
    return "".join(lines)


def _piece(text: str) -> str:
    """What matches a piece of a line: gaps and rules have any length, timestamps any digits, and `…` is anything."""
    if text == "…":
        return ".*?"
    if text.startswith(("─", "  ")):
        return f"{text[0]}+"
    pattern = re.escape(text)
    return re.sub(r"\d", r"\\d", pattern) if _VARIES.fullmatch(text) else pattern


class Reader:
    """Somebody who does what a page says, in one folder."""

    def __init__(self, folder: Path, environment: dict[str, str], statuses: Path) -> None:
        self._folder = folder
        self._environment = environment
        self._statuses = statuses
        self._terminals: dict[str, Terminal] = {}
        self._files: dict[str, str] = {}
        self._unused: set[str] = set()

    def follow(self, page: list[Block]) -> None:
        """Do all of it, and find everything ended at the end."""
        for block in page:
            if block.language == "console":
                self._type(block)
            elif block.name:
                write_file(self._folder, block)
                self._files[block.name] = block.text
                self._unused.add(block.name)
            else:
                pytest.fail(f"{block} cannot be run. Name the file, or write it as console.")
        unused = self._used_by_nothing()
        assert not unused, f"{unused} are written and no command uses them"
        left = [name for name, terminal in self._terminals.items() if not terminal.idle]
        assert not left, f"the page leaves commands running in {left}"

    def close(self) -> None:
        for terminal in self._terminals.values():
            terminal.close()

    def _used_by_nothing(self) -> set[str]:
        """The files that neither a command names nor a file that is used."""
        unused, before = self._unused, -1
        while len(unused) != before:
            before = len(unused)
            used = "\n".join(text for name, text in self._files.items() if name not in unused)
            unused = {name for name in unused if not _is_named(name, used)}
        return unused

    def _type(self, block: Block) -> None:
        if block.name not in self._terminals:
            number = len(self._terminals)
            self._terminals[block.name] = Terminal(self._folder, self._environment, self._statuses / f"{number}")
        terminal = self._terminals[block.name]
        steps = [step for step in re.split(r"^(?=\$ |\^C)", block.text, flags=re.MULTILINE) if step]
        skipped = ""
        for step, following in zip(steps, [*steps[1:], ""], strict=True):
            goes_on = following.startswith("^C") or (not following and step.endswith("\n…\n"))
            # What is left out at the end of a step may come until the next one.
            text = step.removesuffix("…\n") if goes_on else step
            if step.startswith("$ "):
                command, _, text = text.removeprefix("$ ").partition("\n")
                assert not terminal.failed or command == "echo $?", f"a command of {block} failed:\n{terminal.screen}"
                terminal.type(command)
                self._unused = {name for name in self._unused if not _is_given(name, command)}
            elif step.startswith("^C"):
                terminal.interrupt()
            terminal.expect(skipped + text, to_end=not goes_on)
            skipped = "…\n" if following and text != step else ""
        assert not terminal.failed, f"the last command of {block} failed:\n{terminal.screen}"


def write_file(folder: Path, block: Block) -> None:
    """Save a block under its name."""
    path = folder / block.name
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text, encoding="utf-8")


def _is_given(file: str, command: str) -> bool:
    """Whether a command has a file, or the folder of it."""
    folder = Path(file).parent
    return file in command or (folder != Path() and str(folder) in command.split())


def _is_named(file: str, text: str) -> bool:
    """Whether a text names a file, or imports it."""
    module = re.escape(file.removesuffix(".py").replace("/", "."))
    imported = file.endswith(".py") and re.search(rf"^(?:from|import) {module}\b", text, re.MULTILINE)
    return bool(imported) or Path(file).name in text


@pytest.fixture
def blocks() -> Callable[[str], list[Block]]:
    """The blocks of a page, in order."""
    return blocks_of


@pytest.fixture
def installing(tmp_path: Path) -> dict[str, str]:
    """The variables with which pip installs what stands here, wherever else there may be something of these names."""
    constraints = []
    for member in distributions():
        # By a name without a hyphen: pip takes one for a version, and keeps for later the wheel that it builds.
        folder = tmp_path / member.short_name
        folder.symlink_to(member.folder)
        constraints.append(f"{member.name} @ {folder.as_uri()}\n")
    path = tmp_path / "constraints.txt"
    path.write_text("".join(constraints), encoding="utf-8")
    return {"PIP_CONSTRAINT": str(path), "PYTHONPATH": ""}


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Follow a page in a fresh folder: `follow(page)`, or `follow(page, lambda block: …)` for some of its blocks."""
    folder, statuses, programs = (tmp_path / name for name in ("folder", "statuses", "programs"))
    for path in (folder, statuses, programs):
        path.mkdir()
    beside_python = Path(sys.executable).parent
    if not (beside_python / "ofa").exists():
        script = programs / "ofa"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m openfactory.apps.cli "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    kept = ("HOME", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR", "USER")
    environment = {name: value for name, value in os.environ.items() if name in kept or name.startswith("PIP_")}
    environment |= {
        "HISTFILE": "/dev/null",
        "PATH": os.pathsep.join((str(programs), str(beside_python), os.environ["PATH"])),
        "TERM": "xterm",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
    }
    reader = Reader(folder, environment, statuses)

    def follow_page(page: str, wanted: Callable[[Block], bool] = lambda block: True, /, **variables: str) -> None:
        environment.update(variables)
        chosen = [block for block in blocks_of(page) if wanted(block)]
        assert chosen, "the page has no such block"
        reader.follow(chosen)

    yield follow_page
    reader.close()
