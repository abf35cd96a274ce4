"""Every example in a docstring of the core runs, and says what it is said to say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from distributions import distribution
from layer_law import modules_below

CORE = distribution("core")
MODULES = sorted(modules_below([CORE.source.parent]))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    examples = [example for module in modules for test in finder.find(module) for example in test.examples]
    assert len(examples) > 20
