"""Where no factory is, `ofa` says so and makes none; and `ofa` itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

import openfactory.apps
import openfactory.assets

Ofa = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = (
    ["ls"],
    ["inspect", "mill"],
    ["methods", "mill"],
    ["watch", "mill"],
    ["set", "mill", "status", "idle"],
    ["call", "mill", "start"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_without_a_factory_a_command_says_how_to_start_one_and_makes_none(
    ofa: Ofa, workshop: Path, command: list[str]
) -> None:
    found = ofa("asset", *command)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr == (
        f"The factory {workshop}/factory.db does not exist. Start an app with `ofa run FILE`, "
        "or select another factory with --url or KSQLDB_URL.\n"
    )
    assert list(workshop.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:///other/factory.db", "The factory {workshop}/other/factory.db does not exist. "),
        ("sqlite:///notes.txt", "{workshop}/notes.txt cannot be opened "),
        ("memory://", "memory:// is visible only in the process that created it. "),
        ("http://127.0.0.1:9", "No ksqlDB server answers at http://127.0.0.1:9 "),
        ("factory.db", "'factory.db' does not name an engine: "),
        ("sqlite://factory.db", "sqlite://factory.db has two slashes before its path. "),
    ],
)
def test_a_place_that_cannot_be_opened_is_one_sentence(ofa: Ofa, workshop: Path, url: str, sentence: str) -> None:
    (workshop / "notes.txt").write_text("no database " * 100)
    found = ofa("asset", "ls", "--url", url)
    assert found.returncode == 1
    assert found.stderr.startswith(sentence.format(workshop=workshop))
    assert found.stderr.count("\n") == 1
    assert (workshop / "notes.txt").read_text().startswith("no database")


def test_an_empty_factory_lists_nothing_and_says_so(ofa: Ofa, workshop: Path) -> None:
    (workshop / "factory.db").touch()
    found = ofa("asset", "ls")
    assert found.returncode == 0
    assert found.stdout == ""
    assert found.stderr.startswith("No asset is registered in sqlite:///")
    assert json.loads(ofa("asset", "ls", "--json").stdout) == []
    assert "No asset is registered. Start an app" in ofa("asset", "inspect", "mill").stderr


def test_version_names_what_is_installed(ofa: Ofa) -> None:
    said = json.loads(ofa("version", "--json").stdout)
    assert said["openfactory-apps"] == openfactory.apps.__version__
    assert said["openfactory-core"] == openfactory.assets.__version__
    assert list(said) == sorted(said)
    others = [name for name in said if name not in ("openfactory-apps", "openfactory-core")]
    assert all(said[name] == version(name) for name in others)
    lines = [line.split() for line in ofa("version").stdout.splitlines()]
    assert lines == [["distribution", "version"], *([name, text] for name, text in said.items())]


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"rich", "flask", "httpx"}),
        (["asset", "ls", "--help"], {"rich", "flask", "httpx", "importlib.metadata"}),  # it looks for no other commands
    ],
    ids=["ofa", "command"],
)
def test_help_needs_no_heavy_module(arguments: list[str], heavy: set[str]) -> None:
    program = (
        f"import sys; from openfactory.apps.cli import main; sys.argv = ['ofa', *{arguments}]\n"
        "try: main()\n"
        f"finally: assert not {heavy} & set(sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_help_is_whole(ofa: Ofa) -> None:
    found = ofa("--help")
    assert "ofa completion --help" in found.stdout
    assert "..." not in found.stdout.replace("[ARGS]...", "")
    assert "..." not in ofa("asset", "--help").stdout.replace("[ARGS]...", "")
