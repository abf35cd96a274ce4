"""What an installation can break: modules that do not import, and entry points that name nothing.

It runs from the checkout, and from the wheels in environments that have one distribution and what it declares.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import distributions

import pytest

import openfactory

pytestmark = pytest.mark.smoke

OURS = sorted(found.name for found in distributions() if found.name.startswith("openfactory-"))
MODULES = [
    module.name
    for module in pkgutil.walk_packages(openfactory.__path__, "openfactory.")
    if not module.name.endswith("__main__")  # it is the command
]


def test_there_is_something_to_import() -> None:
    assert OURS
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    for framework in ("fastapi", "flask"):
        if framework in module and f"openfactory-{framework}" not in OURS:
            with pytest.raises(ImportError, match=f"pip install openfactory-{framework}"):
                importlib.import_module(module)
            return
    importlib.import_module(module)


def test_every_entry_point_names_something() -> None:
    for found in distributions():
        if found.name in OURS:
            for entry in found.entry_points:
                assert entry.load() is not None, entry
