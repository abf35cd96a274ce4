"""Checks a release tag, `openfactory-core-v1.2.3`, and prints the name of the one package it releases.

    python3 scripts/release_tag.py openfactory-core-v1.2.3

It refuses a tag that does not say the version the package would be built with, and a version without a
heading in the package's CHANGELOG.md: both are noticed here, and not after the upload, which is for ever.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from distributions import ROOT, Distribution, distribution

_TAG = re.compile(r"(?P<name>[a-z][a-z0-9-]*)-v(?P<version>\d\S*)")


def has_changelog_heading(member: Distribution) -> bool:
    """Whether its CHANGELOG.md has a heading for the version it has now."""
    text = (member.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.search(rf"^## {re.escape(member.version)}\b", text, re.MULTILINE) is not None


def released_by(tag: str, root: Path = ROOT) -> Distribution:
    """The distribution that this tag releases, or a ValueError that says what does not fit."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ValueError(f"{tag!r} is no release tag. Write name and version: openfactory-core-v1.2.3")
    member = distribution(match["name"], root)
    if member.name != match["name"]:
        raise ValueError(f"{tag!r} shortens the name. Write {member.name}-v{member.version}")
    if member.version != match["version"]:
        raise ValueError(
            f"{tag!r} says {match['version']}, but the package says {member.version}. "
            f"Change its __about__.py first, or tag {member.name}-v{member.version}"
        )
    if not has_changelog_heading(member):
        raise ValueError(
            f"The changelog of {member.name} says nothing about {member.version}. "
            f"Add a heading '## {member.version}' to {member.folder.name}/CHANGELOG.md"
        )
    return member


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Name the tag: python3 scripts/release_tag.py openfactory-core-v1.2.3")
    try:
        print(released_by(sys.argv[1]).name)
    except (LookupError, ValueError) as error:
        sys.exit(str(error))
