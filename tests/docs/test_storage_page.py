"""The page on storage does what it says: its blocks are run, and the settings it shows are accepted."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distributions import ROOT
from openfactory.storage import LocalConfiguration, NFSConfiguration
from openfactory.storage.registry import ENTRY_POINTS
from openfactory.storage.remote import RemoteConfiguration

Follow = Callable[..., None]
Blocks = Callable[[str], list[Any]]

PAGE = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
KINDS = {"local": LocalConfiguration, "nfs": NFSConfiguration, "fsspec": RemoteConfiguration}
OWN_TYPE = "A type of your own"


def runs(block: Any) -> bool:
    of_the_type = block.name.startswith("plant/")
    return block.language in ("python", "console") and "pip install" not in block.text and not of_the_type


@pytest.mark.thorough
def test_the_installation_brings_what_the_page_imports(
    follow: Follow, installing: dict[str, str], tmp_path: Path
) -> None:
    follow(PAGE, lambda block: block.section == "Install", **installing)
    python = tmp_path / "folder" / "venv" / "bin" / "python"
    program = "import openfactory.apps, openfactory.storage"
    subprocess.run([python, "-c", program], env={"PYTHONPATH": ""}, check=True, timeout=60)


def test_every_block_runs_in_the_order_of_the_page(follow: Follow) -> None:
    follow(PAGE, lambda block: runs(block) and block.section != OWN_TYPE)


def test_a_type_of_ones_own_is_found_once_it_is_installed(follow: Follow, blocks: Blocks, tmp_path: Path) -> None:
    files = {block.name: block for block in blocks(PAGE) if block.name.startswith("plant/")}
    project = tomllib.loads(files["plant/pyproject.toml"].text)["project"]
    # What pip would leave behind.
    installed = tmp_path / "installed"
    described = installed / f"plant_storage-{project['version']}.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    [(name, value)] = project["entry-points"][ENTRY_POINTS].items()
    (described / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{name} = {value}\n")
    (installed / "plant_storage.py").write_text(files["plant/plant_storage.py"].text)

    follow(
        PAGE,
        lambda block: block.name == "mounts.py" or (runs(block) and block.section == OWN_TYPE),
        PYTHONPATH=os.pathsep.join((str(installed), os.environ.get("PYTHONPATH", ""))),
    )


def test_the_settings_are_accepted(blocks: Blocks) -> None:
    one, several = [json.loads(block.text) for block in blocks(PAGE) if block.language == "json"]
    for settings in (one, *several.values()):
        msgspec.convert(settings, KINDS[settings["type"]])
    assert {settings["type"] for settings in several.values()} == set(KINDS)


@pytest.mark.parametrize("storage_type", KINDS)
def test_the_tables_have_every_field(storage_type: str) -> None:
    section = PAGE.partition(f"\n### {storage_type}\n")[2].partition("\n##")[0]
    documented = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert documented | {"read_only", "description"} == set(KINDS[storage_type].__struct_fields__)
