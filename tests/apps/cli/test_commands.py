"""Other distributions add commands to `ofa` by entry points."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Ofa = Callable[..., subprocess.CompletedProcess[str]]

MODULE = """
import sys
import click
from openfactory.exceptions import ConfigurationError

@click.command()
@click.argument("name")
def greet(name):
    '''Greet an asset.'''
    click.echo(f"Hello {name}")

@click.command()
def fail():
    raise ConfigurationError("ACME_SITE is not set. Set it.")

@click.command()
def close():
    sys.stdout.close()

@click.command()
def detach():
    sys.stdout = None
"""


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with commands, of which two cannot be loaded."""
    folder = tmp_path / "site"
    info = folder / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[openfactory.commands]\ngreet = acme_commands:greet\nfail = acme_commands:fail\n"
        "close = acme_commands:close\ndetach = acme_commands:detach\n"
        "absent = acme_absent:greet\nwrong = acme_commands:MODULE\nrun = acme_commands:greet\n"
    )
    (folder / "acme_commands.py").write_text(MODULE + "MODULE = 1\n")
    monkeypatch.syspath_prepend(folder)


def test_a_command_of_another_distribution_runs(ofa: Ofa) -> None:
    found = ofa("greet", "mill")
    assert (found.returncode, found.stdout) == (0, "Hello mill\n")


def test_its_errors_are_printed_without_a_traceback(ofa: Ofa) -> None:
    found = ofa("fail")
    assert (found.returncode, found.stderr) == (1, "ACME_SITE is not set. Set it.\n")


@pytest.mark.parametrize("name", ["close", "detach"])
def test_it_may_leave_no_standard_output(ofa_process: Ofa, tmp_path: Path, name: str) -> None:
    found = ofa_process(name, PYTHONPATH=str(tmp_path / "site"))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_help_lists_it_behind_the_commands_of_ofa(ofa: Ofa) -> None:
    commands = [line.split()[0] for line in ofa("--help").stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert commands.index("greet") > commands.index("version")


def test_no_other_distribution_replaces_a_command(ofa: Ofa) -> None:
    assert "Usage: ofa run" in ofa("run", "--help").stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent", "No module named 'acme_absent'"), ("wrong", "acme_commands:MODULE is not a click command")],
)
def test_a_command_that_cannot_be_loaded_is_reported_when_it_is_used(ofa: Ofa, name: str, reason: str) -> None:
    assert name in ofa("--help").stdout
    found = ofa(name)
    assert found.returncode == 1
    assert f"The command `ofa {name}` cannot be loaded: {reason}. Reinstall the distribution" in found.stderr
