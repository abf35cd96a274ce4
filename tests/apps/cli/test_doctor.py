"""`ofa doctor` where there are no servers: a factory in a file, and what is said of none."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from openfactory.assets import Asset, AssetAttribute
from openfactory.kafka import KSQLDBClient

Ofa = Callable[..., subprocess.CompletedProcess[str]]

CHECKS = ["environment", "file", "disk", "WAL", "content", "engine", "test event", "wake-up", "owners"]


@pytest.fixture
def factory(workshop: Path) -> Path:
    """A factory in a file, with one asset in it."""
    path = workshop / "factory.db"
    with KSQLDBClient(f"sqlite:///{path}") as client, Asset("mill", client) as mill:
        mill.add_attribute(AssetAttribute(id="status", value="idle", type="Events", tag="App.Status"))
        mill.flush()
    return path


def test_a_factory_that_is_well(ofa: Ofa, factory: Path) -> None:
    found = ofa("doctor")
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    lines = found.stdout.splitlines()
    assert [line[:14].rstrip() for line in lines] == [f"✓ {check}" for check in CHECKS]
    assert lines[0][15:] == f"sqlite:///{factory} uses the embedded engine"


def test_json_has_the_same(ofa: Ofa, factory: Path) -> None:
    found = ofa("doctor", "--json", "--url", f"sqlite:///{factory}")
    assert found.returncode == 0
    findings = json.loads(found.stdout)
    assert [list(one) for one in findings] == [["check", "status", "found", "remedy"]] * len(CHECKS)
    assert {one["status"] for one in findings} == {"ok"}
    assert [one["check"] for one in findings] == CHECKS
    assert findings[5]["found"] == "works, registered assets: 0"


def test_no_factory_is_made(ofa: Ofa, workshop: Path) -> None:
    found = ofa("doctor")
    assert found.returncode == 1
    assert found.stdout.splitlines()[1:] == [
        f"✗ file         {workshop}/factory.db does not exist.",
        "               → Start an app with `ofa run FILE`, which creates it.",
    ]
    assert list(workshop.iterdir()) == []


def test_a_file_that_is_none_of_ours(ofa: Ofa, workshop: Path) -> None:
    (workshop / "factory.db").write_text("no database " * 100)
    found = ofa("doctor", "--json")
    assert found.returncode == 1
    [content] = [one for one in json.loads(found.stdout) if one["status"] == "failed"]
    assert content["check"] == "content"
    assert content["remedy"] == "Restore a copy of the file, or name another file in KSQLDB_URL."
    assert (workshop / "factory.db").read_text() == "no database " * 100
    assert [file.name for file in workshop.iterdir()] == ["factory.db"]


def test_a_file_that_may_not_be_written(ofa: Ofa, factory: Path) -> None:
    factory.chmod(0o400)
    found = ofa("doctor", "--json")
    [file] = [one for one in json.loads(found.stdout) if one["check"] == "file"]
    if os.geteuid() == 0:  # root may write it all the same
        assert (found.returncode, file["status"]) == (0, "ok")
    else:
        assert (found.returncode, file["status"]) == (1, "failed")
        assert file["found"] == f"{factory} cannot be written."


def test_memory_is_looked_at_by_nobody_else(ofa: Ofa) -> None:
    found = ofa("doctor", "--json", "--url", "memory://cell")
    assert found.returncode == 0
    assert [one["status"] for one in json.loads(found.stdout)] == ["ok", "unchecked"]


def test_a_terminal_that_knows_no_ticks_gets_words(ofa_process: Ofa, factory: Path) -> None:
    found = ofa_process("doctor", PYTHONIOENCODING="ascii")
    assert found.returncode == 0, found.stderr
    assert [line[:21].rstrip() for line in found.stdout.splitlines()] == [f"ok        {check}" for check in CHECKS]


def test_a_terminal_gets_lines_that_fit_it(ofa_terminal: Ofa) -> None:
    found = ofa_terminal("doctor", COLUMNS="50", TERM="dumb", KSQLDB_URL="kafka://127.0.0.1:9")
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert max(map(len, lines)) <= 50
    words = " ".join(" ".join(lines).split())
    assert "✗ broker No Kafka broker answers at 127.0.0.1:9: the connection is refused. → Check the port, and " in words
