"""Test tools: a client that runs an app in memory, and the conformance suite for engines.

They need pytest, which loads the fixtures `run_app` and `factory_client` of `fixtures` automatically.

To test an engine, derive a class from the suite and override the fixture `engine_url`:

    from openfactory.testing import EngineConformance


    class TestMyEngine(EngineConformance):
        @pytest.fixture
        def engine_url(self, tmp_path):
            return f"myengine:///{tmp_path}/data"
"""

try:
    import pytest
except ImportError as error:
    from openfactory.exceptions import MissingDistributionError

    raise MissingDistributionError("openfactory.testing needs pytest. Install it: pip install pytest") from error

# Before the modules are imported, so that a failing assert shows the values that it compared.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{name}"
        for name in (
            "commanding",
            "conformance",
            "malformed",
            "queries",
            "reading",
            "registering",
            "samples",
            "telling",
            "watching",
            "writing",
        )
    )
)

from openfactory.testing.app_client import AppClient  # noqa: E402
from openfactory.testing.conformance import EngineConformance  # noqa: E402
from openfactory.testing.waiting import eventually  # noqa: E402

__all__ = ["AppClient", "EngineConformance", "eventually"]
