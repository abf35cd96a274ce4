"""What the README files say is done: the smallest app is run, as is the example of each package."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from packaging.requirements import Requirement

from distributions import ROOT, Distribution, distributions
from openfactory.storage import LocalConfiguration, NFSConfiguration
from openfactory.storage.remote import RemoteConfiguration
from readme_commands import README, commands

Follow = Callable[..., None]

MEMBERS = distributions()
each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.short_name)

FRESH_MACHINE = "On a fresh machine"
INSTALLATION = "Installation"


def test_the_smallest_app_is_run(follow: Follow) -> None:
    follow(README.read_text(encoding="utf-8"), lambda block: block.section not in (FRESH_MACHINE, INSTALLATION))


@pytest.mark.thorough
def test_the_installation_from_a_clone_is_run(follow: Follow, tmp_path: Path) -> None:
    (tmp_path / "folder" / "packages").symlink_to(ROOT / "packages")
    follow(
        README.read_text(encoding="utf-8"),
        lambda block: block.section == INSTALLATION,
        PIP_NO_CACHE_DIR="1",
        PYTHONPATH="",
    )


def test_the_other_commands_are_those_that_ci_runs(blocks: Callable[[str], list[Any]]) -> None:
    # tests/workspace/test_commands.py holds them against .ci/run, which runs them in a clean clone.
    others = [block for block in blocks(README.read_text(encoding="utf-8")) if block.section == FRESH_MACHINE]
    assert [block.language for block in others] == ["sh"]
    lines = [line for line in others[0].text.splitlines() if line and not line.startswith("#")]
    assert lines == commands()[:2]


@each_member
def test_the_example_of_a_package_is_run(member: Distribution, follow: Follow) -> None:
    page = (member.folder / "README.md").read_text(encoding="utf-8")
    follow(page, lambda block: block.language not in ("sh", "json"))


@each_member
def test_the_install_lines_name_what_there_is(member: Distribution, blocks: Callable[[str], list[Any]]) -> None:
    page = (member.folder / "README.md").read_text(encoding="utf-8")
    texts = [block.text for block in blocks(page) if block.language == "sh"]
    lines = [line.partition("  #")[0].strip() for text in texts for line in text.splitlines()]
    assert lines
    for line in lines:
        assert line.startswith("pip install ")
        requirement = Requirement(line.removeprefix("pip install ").strip('"'))
        assert requirement.name == member.name
        assert requirement.extras <= set(member.project.get("optional-dependencies", ()))


PAGES = [README, *(member.folder / "README.md" for member in MEMBERS), *sorted((ROOT / "docs").rglob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@each_page
def test_what_pages_install_is_there(page: Path) -> None:
    """`hatch run thorough` installs it."""
    extras = {member.name: set(member.project.get("optional-dependencies", ())) for member in MEMBERS}
    for line in re.findall(r"pip install ([^`\n#]+)", page.read_text(encoding="utf-8")):
        for word in re.findall(r"openfactory-[a-z]+(?:\[[^\]]+\])?", line):
            requirement = Requirement(word)
            assert requirement.extras <= extras[requirement.name], line


def test_the_settings_of_a_storage_are_accepted(blocks: Callable[[str], list[Any]]) -> None:
    page = (ROOT / "packages" / "openfactory-storage" / "README.md").read_text(encoding="utf-8")
    documents = [json.loads(block.text) for block in blocks(page) if block.language == "json"]
    one, several = documents
    kinds = {"local": LocalConfiguration, "nfs": NFSConfiguration, "fsspec": RemoteConfiguration}
    for settings in (one, *several.values()):
        msgspec.convert(settings, kinds[settings["type"]])
    assert {settings["type"] for settings in several.values()} == set(kinds)


@each_page
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        parts = urlsplit(link)
        if not parts.scheme and parts.path:
            assert (page.parent / parts.path).exists(), f"{page} links to {link}"
