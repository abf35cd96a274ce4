"""Test tools: a client that runs an app in memory, and the conformance suite for engines.

They need pytest, which loads the fixtures `run_app` and `factory_client` of `fixtures` automatically, in every test run
where openfactory-core is installed. So this package imports nothing of OpenFactory before a name of it is used.

To test an engine, derive a class from the suite and override the fixture `engine_url`:

    from openfactory.testing import EngineConformance


    class TestMyEngine(EngineConformance):
        @pytest.fixture
        def engine_url(self, tmp_path):
            return f"myengine:///{tmp_path}/data"

An engine that several processes use derives from `SharedEngineConformance`.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

try:
    import pytest
except ImportError as error:
    from openfactory.exceptions import MissingDistributionError

    raise MissingDistributionError("openfactory.testing needs pytest. Install it: pip install pytest") from error

# Before the modules are imported, so that a failing assert shows the values that it compared.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

if TYPE_CHECKING:
    from openfactory.testing.app_client import AppClient
    from openfactory.testing.conformance import EngineConformance, SharedEngineConformance
    from openfactory.testing.waiting import eventually

__all__ = ["AppClient", "EngineConformance", "SharedEngineConformance", "eventually"]

_MODULES = {
    "AppClient": "app_client",
    "EngineConformance": "conformance",
    "SharedEngineConformance": "conformance",
    "eventually": "waiting",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"{__name__} has no attribute {name!r}. It has {', '.join(__all__)}.")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
