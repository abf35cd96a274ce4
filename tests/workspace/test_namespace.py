"""The namespace that the distributions share: what would break it, or its types, for all of them."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from packaging.requirements import Requirement

from distributions import ROOT, Distribution, distributions

MEMBERS = distributions()
CHILDREN = [(member, child) for member in MEMBERS for child in member.children]


def test_all_distributions_are_here() -> None:
    assert [member.name for member in MEMBERS] == [
        "openfactory-apps",
        "openfactory-core",
        "openfactory-deploy",
        "openfactory-fanout",
        "openfactory-fastapi",
        "openfactory-flask",
        "openfactory-storage",
    ]


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.short_name)
def test_the_root_of_the_namespace_has_no_init(member: Distribution) -> None:
    # One such file hides every editable sibling, and type checkers lose the others.
    assert not (member.source / "__init__.py").exists()
    assert not list(member.folder.glob("src/__init__.py"))


@pytest.mark.parametrize(("member", "child"), CHILDREN, ids=[child for _, child in CHILDREN])
def test_every_direct_child_is_a_typed_package(member: Distribution, child: str) -> None:
    # A marker at the root of a namespace counts for nobody, and a single module can't have one.
    assert (member.source / child).is_dir(), f"{child} is a module. Make it a package with a py.typed."
    assert (member.source / child / "py.typed").is_file()
    assert (member.source / child / "__init__.py").is_file()


def test_no_child_belongs_to_two_distributions() -> None:
    # Uninstalling the one would delete files of the other.
    owners = Counter(child for _, child in CHILDREN)
    assert [child for child, count in owners.items() if count > 1] == []


def test_no_child_is_named_like_a_library_that_is_imported() -> None:
    # A script run inside the folder would import the child instead of the library.
    declared = {Requirement(text).name.replace("-", "_") for member in MEMBERS for text in member.requirements}
    libraries = declared | {"confluent_kafka", "nats", "werkzeug"} | sys.stdlib_module_names
    assert sorted({child for _, child in CHILDREN} & libraries) == []


def test_test_folders_are_no_packages() -> None:
    # tests/flask/__init__.py would be a package called flask.
    assert list((ROOT / "tests").rglob("__init__.py")) == []
