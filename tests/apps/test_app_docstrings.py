"""Every example in a docstring of openfactory-apps runs, and says what it is said to say."""

from __future__ import annotations

import doctest
import importlib
import signal
from collections.abc import Iterator

import pytest

from distributions import distribution
from layer_law import modules_below

# The one needs openfactory-flask, the other is a program.
NOT_HERE = {"openfactory.apps.ofa_flask_app", "openfactory.apps.cli.__main__"}
MODULES = sorted(set(modules_below([distribution("apps").source.parent])) - NOT_HERE)


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    examples = [example for module in modules for test in finder.find(module) for example in test.examples]
    assert len(examples) > 5
