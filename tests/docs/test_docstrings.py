"""The examples in docstrings, which the reference shows, do what they say."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from distributions import distributions

MODULES = sorted(module for member in distributions() for module in member.modules)
EXAMPLES = [
    example
    for module in MODULES
    if not module.endswith("__main__")
    for example in doctest.DocTestFinder(exclude_empty=True).find(import_module(module))
    if example.examples
]


def test_there_are_examples() -> None:
    names = {example.name for example in EXAMPLES}
    assert {"openfactory.apps.ofaapp.OpenFactoryApp", "openfactory.assets.asset_class.Asset"} <= names


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_gives_what_it_shows(example: doctest.DocTest) -> None:
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=report.append)
    assert result.failed == 0, "".join(report)
