"""What each pyproject.toml promises, held against the files beside it."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from distributions import NAMESPACE, ROOT, Distribution, distribution, distributions
from layer_law import Law, imports_of, modules_below
from release_tag import has_changelog_heading, released_by

MEMBERS = distributions()
each_member = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.short_name)


@each_member
def test_sibling_ranges_admit_the_siblings(member: Distribution) -> None:
    # Editable installs never look at the ranges again, so a bump that leaves one behind shows only here.
    versions = {sibling.name: sibling.version for sibling in MEMBERS}
    for requirement in map(Requirement, member.requirements):
        if requirement.name in versions:
            assert requirement.specifier.contains(versions[requirement.name], prereleases=True), (
                f"{member.name} wants {requirement}, but {requirement.name} is {versions[requirement.name]}. "
                f"Widen the range in {member.folder.name}/pyproject.toml."
            )
            operators = {specifier.operator for specifier in requirement.specifier}
            assert operators == {">=", "<"}, f"{requirement} is no range. Write >= and <."


@each_member
def test_the_version_is_a_normal_one(member: Distribution) -> None:
    assert str(Version(member.version)) == member.version


@each_member
def test_the_changelog_has_the_current_version(member: Distribution) -> None:
    assert has_changelog_heading(member)


@each_member
def test_everything_imported_is_declared(member: Distribution) -> None:
    """A library that comes along with another one today may be gone with its next version."""
    law = Law()
    known = modules_below([sibling.source.parent for sibling in MEMBERS])
    provider = {f"{NAMESPACE}.{child}": sibling.name for sibling in MEMBERS for child in sibling.children}
    declared = {Requirement(text).name for text in member.requirements} | {member.name}
    missing: dict[str, str] = {}
    for module, path in modules_below([member.source.parent]).items():
        # What a suite of tests imports, the test runner, is there whenever it is of any use.
        if "testing" in module.split("."):
            continue
        for found in imports_of(module, path, known):
            parts = found.target.split(".")
            if parts[0] == NAMESPACE:
                needed = provider.get(".".join(parts[:2]), member.name)
            elif parts[0] in sys.stdlib_module_names:
                continue
            else:
                needed = law.distribution_of.get(parts[0], parts[0])
            if needed not in declared and not _comes_with(needed, declared):
                missing[needed] = f"{path.relative_to(ROOT)}:{found.line}"
    assert missing == {}


def _comes_with(needed: str, declared: set[str]) -> bool:
    """Whether it is a sibling that a declared sibling declares: our own ranges hold it there."""
    siblings = {member.name: member for member in MEMBERS}
    if needed not in siblings:
        return False
    return any(
        needed in {Requirement(text).name for text in siblings[name].project["dependencies"]}
        for name in declared & siblings.keys()
    )


@each_member
def test_the_licence_is_named_and_shipped(member: Distribution) -> None:
    assert member.project["license"] == "PolyForm-Noncommercial-1.0.0"
    assert member.project["license-files"] == ["LICENSE"]
    text = (member.folder / "LICENSE").read_text(encoding="utf-8")
    assert member.name in text
    assert "https://polyformproject.org/licenses/noncommercial/1.0.0" in text
    assert re.search(r"^Required Notice: \S", text, re.MULTILINE)


@each_member
def test_the_readme_is_about_this_package(member: Distribution) -> None:
    text = (member.folder / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {member.name}\n")
    assert f"pip install {member.name}" in text


@each_member
def test_the_supported_pythons_are_the_same_everywhere(member: Distribution) -> None:
    assert member.project["requires-python"] == ">=3.11"
    versions = {text.rpartition(" ")[2] for text in member.project["classifiers"] if ":: 3." in text}
    assert versions == {"3.11", "3.12", "3.13"}


def test_the_command_line_is_an_entry_point() -> None:
    assert distribution("apps").project["scripts"] == {"ofa": "openfactory.apps.cli:main"}


def test_a_tag_releases_one_package() -> None:
    for member in MEMBERS:
        assert released_by(f"{member.name}-v{member.version}").name == member.name


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("v0.1.0", "no release tag"),
        ("openfactory-core", "no release tag"),
        ("openfactory-nosuch-v0.1.0", "no distribution"),
        ("core-v0.1.0", "shortens the name"),
        ("openfactory-core-v99.0.0", "__about__.py first"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tag: str, said: str) -> None:
    with pytest.raises((LookupError, ValueError), match=said):
        released_by(tag)
