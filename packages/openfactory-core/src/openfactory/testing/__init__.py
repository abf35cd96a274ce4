"""For those who test: a client that runs an app in memory, and the suite of tests that every engine passes.

It needs pytest, which finds the fixtures `run_app` and `factory_client` of `fixtures` by itself.

A test class inherits the suite, and says by one fixture which engine is tested:

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

# Before they are imported, so that a failing assert says what it compared.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("conformance", "queries", "reading", "registering", "watching", "writing"))
)

from openfactory.testing.app_client import AppClient  # noqa: E402
from openfactory.testing.conformance import EngineConformance  # noqa: E402
from openfactory.testing.waiting import eventually  # noqa: E402

__all__ = ["AppClient", "EngineConformance", "eventually"]
