"""The tables in the pages are those that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs_tables import pages, with_tables


def test_pages_with_tables_are_found() -> None:
    assert {"environment.md", "assets.md", "ofa.md"} <= {path.name for path in pages()}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.name)
def test_a_page_has_the_tables_of_the_code(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert page == with_tables(page), "The page is behind the code. Run: hatch run docs:tables"
