"""What each pyproject.toml promises, held against the files beside it."""

from __future__ import annotations

import re
import sys
from importlib.metadata import packages_distributions

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from distributions import NAMESPACE, ROOT, Distribution, distribution, distributions
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


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom, the libraries too."""
    return grimp.build_graph(NAMESPACE, include_external_packages=True, cache_dir=None)


@each_member
def test_everything_imported_is_declared(member: Distribution, graph: grimp.ImportGraph) -> None:
    """A library that comes along with another one today may be gone with its next version."""
    siblings = {module: sibling.name for sibling in MEMBERS for module in sibling.modules}
    providers = packages_distributions()
    declared = {Requirement(text).name for text in member.requirements} | {member.name}
    missing: dict[str, str] = {}
    for module in member.modules.keys() & graph.modules:
        # A shipped suite imports the test runner, which is there whenever the suite is of any use.
        if "testing" in module.split("."):
            continue
        for target in graph.find_modules_directly_imported_by(module):
            if target in sys.stdlib_module_names or target in (NAMESPACE, "_typeshed"):  # known to type checkers only
                continue
            needed = {siblings[target]} if target in siblings else set(map(canonicalize_name, providers[target]))
            if not any(name in declared or _comes_with(name, declared) for name in needed):
                missing[target] = module
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


def test_the_licence_of_the_whole_is_that_of_its_parts() -> None:
    whole = (ROOT / "LICENSE").read_text(encoding="utf-8")
    for member in MEMBERS:
        part = (member.folder / "LICENSE").read_text(encoding="utf-8")
        assert part == whole.replace("OpenFactory is", f"{member.name} is", 1)


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
