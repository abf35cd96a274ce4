"""`ofa apps export`, and the example with the apps of the demo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from distributions import ROOT
from openfactory.settings import VARIABLES
from servers import NotOnThisMachineError, free_port
from servers.pinned import traefik
from servers.ports import HOST

OVEN = """
apps:
  oven:
    uuid: Oven
    image: oven:1
    secrets:
      key: ${KEY}
    routing:
      expose: true
      port: 4000
"""


def ofa_apps(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    command = [sys.executable, "-m", "openfactory.apps.cli", "apps", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture
def oven(tmp_path: Path) -> Path:
    (tmp_path / "app_oven.yml").write_text(OVEN, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("target", ["compose", "swarm", "kubernetes"])
def test_a_file_is_written_without_secrets(oven: Path, target: str) -> None:
    file = oven / "out.yml"
    settings = {"KSQLDB_URL": "kafka://kafka:9092", "KEY": "secret-value"}
    done = ofa_apps("export", "--target", target, "--project", "Hall 2", "-o", file, oven, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = file.read_text(encoding="utf-8")
    assert ofa_apps("export", "--target", target, "--project", "Hall 2", oven, **settings).stdout == text
    assert "secret-value" not in text
    assert "kafka://kafka:9092" in text
    [*documents] = yaml.safe_load_all(text)
    assert all(isinstance(document, dict) for document in documents)
    assert "hall-2" in text


def test_an_app_without_an_image_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mill.py").touch()
    (tmp_path / "app_mill.yml").write_text("apps:\n  mill:\n    uuid: mill\n    file: mill.py\n", encoding="utf-8")
    done = ofa_apps("export", "--target", "compose", tmp_path, KSQLDB_URL="kafka://kafka:9092")
    assert done.returncode == 1
    assert "app_mill.yml:2: mill has no image" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_factory_must_be_named(oven: Path) -> None:
    done = ofa_apps("export", "--target", "compose", oven, KEY="x")
    assert done.returncode == 1
    assert "Set KSQLDB_URL" in done.stderr


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Path]:
    """A copy of the examples, where files may be written."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns(".openfactory"))
    folder = tmp_path / "examples" / "factory"
    yield folder
    ofa_apps("down", "--now", folder)


def test_the_example_runs_the_apps_of_the_demo(factory: Path) -> None:
    try:
        programs = str(traefik().parent)
    except NotOnThisMachineError as error:
        pytest.skip(reason=f"Traefik cannot be fetched here. {error}")
    gateway = free_port()
    settings = {"PATH": os.pathsep.join((programs, os.environ["PATH"])), "OPENFACTORY_GATEWAY": f"{HOST}:{gateway}"}
    began = time.monotonic()
    done = ofa_apps("up", "--json", factory, **settings)
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = {result["uuid"]: result for result in json.loads(done.stdout)["results"]}
    assert {uuid: result["outcome"] for uuid, result in results.items()} == dict.fromkeys(
        ("dashboard", "mill", "shift_leader"), "up"
    )
    assert results["dashboard"]["address"] == f"http://localhost:{gateway}/dashboard/"
    with urllib.request.urlopen(results["dashboard"]["address"], timeout=60) as answer:
        assert "mill" in answer.read().decode()
    print(f"up in {seconds:.1f} s")
    assert ofa_apps("plan", "--check", factory, **settings).returncode == 0
    assert ofa_apps("down", "--now", factory, **settings).returncode == 0
