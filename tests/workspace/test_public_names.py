"""The public names of every package: a sorted list, so that a new name is a visible change of one line."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from distributions import NAMESPACE, distributions

PACKAGES = [f"{NAMESPACE}.{child}" for member in distributions() for child in member.children]


def rank(name: str) -> tuple[int, str]:
    # The order into which `hatch run lint:fix` puts them: CONSTANTS, Classes, everything else.
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_and_every_name_is_there(package: str) -> None:
    module = importlib.import_module(package)
    names: list[str] = module.__all__
    assert names == sorted(set(names), key=rank)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_import_works_on_its_own(package: str) -> None:
    # In a process of its own: an import that works only after another one would go unnoticed here.
    program = f"from {package} import *"
    found = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
